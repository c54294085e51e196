/** Keys that work everywhere in the app. What they do within a list or a field stands with it. */
import { useEffect } from "react";
import { focusComposer } from "../features/messages/keys";
import { nextUnread, selectRooms } from "../features/rooms/slice";
import { go } from "./navigate";
import { type State, useAppStore } from "./store";
import { dialogSet, panelSet } from "./ui";

export const MAC = /Mac|iPhone|iPad/.test(navigator.userAgent);

type Deed = "switcher" | "shortcuts" | "nextUnread" | "previousUnread" | "next" | "previous" | "back";

/** What a key means, given whether one is writing. Pure. */
export function deedOf(e: Pick<KeyboardEvent, "key" | "ctrlKey" | "metaKey" | "altKey" | "shiftKey">, writing: boolean): Deed | undefined {
  if ((e.ctrlKey || e.metaKey) && !e.altKey && !e.shiftKey && e.key.toLowerCase() === "k") return "switcher";
  if (e.altKey && !e.ctrlKey && !e.metaKey && (e.key === "ArrowUp" || e.key === "ArrowDown")) {
    const down = e.key === "ArrowDown";
    if (e.shiftKey) return down ? "nextUnread" : "previousUnread";
    return down ? "next" : "previous";
  }
  if (e.ctrlKey || e.metaKey || e.altKey) return undefined;
  if (e.key === "?" && !writing) return "shortcuts";
  return e.key === "Escape" ? "back" : undefined;
}

export function useKeys() {
  const store = useAppStore();
  useEffect(() => {
    const pressed = (e: KeyboardEvent) => {
      if (e.defaultPrevented || e.isComposing) return;
      const target = e.target instanceof HTMLElement ? e.target : undefined;
      const writing = target?.matches("input, textarea, select, [contenteditable]") ?? false;
      const deed = deedOf(e, writing);
      // While a dialog is open its own keys go first: it closes by itself.
      const inDialog = document.querySelector("dialog[open]") !== null;
      if (!deed || (inDialog && deed !== "switcher")) return;
      if (act(deed, store.getState(), store.dispatch)) e.preventDefault();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, [store]);
}

function act(deed: Deed, state: State, dispatch: ReturnType<typeof useAppStore>["dispatch"]): boolean {
  const list = selectRooms(state);
  const here = state.ui.place.at === "room" ? state.ui.place.room : undefined;
  const at = list.findIndex((r) => r.room === here);
  const to = (room: { room: string } | undefined) => room !== undefined && (go({ at: "room", room: room.room }), true);
  switch (deed) {
    case "switcher":
      dispatch(dialogSet(state.ui.dialog?.name === "switcher" ? null : { name: "switcher" }));
      return true;
    case "shortcuts":
      dispatch(dialogSet({ name: "shortcuts" }));
      return true;
    case "nextUnread":
      return to(nextUnread(list, here, 1));
    case "previousUnread":
      return to(nextUnread(list, here, -1));
    case "next":
      return to(list[at + 1] ?? list[0]);
    case "previous":
      return to(list[at - 1] ?? list[list.length - 1]);
    case "back":
      if (state.ui.panel) dispatch(panelSet(null));
      focusComposer();
      return true;
  }
}
