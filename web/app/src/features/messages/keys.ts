/**
 * The list by keyboard: one message is the current one and takes Tab (a roving tab stop); arrows move it, letters act on it.
 * Virtual rows come and go, so the current one is remembered by key and focused after it was scrolled to.
 */
import { type FocusEvent, type KeyboardEvent, type RefObject, useCallback, useState } from "react";
import type { ListRange, VirtuosoHandle } from "react-virtuoso";
import { useAppDispatch, useAppSelector } from "../../app/store";
import { panelSet } from "../../app/ui";
import { useChat } from "../../chat/context";
import type { Item, Message } from "../../chat/types";
import { useMessageDeeds } from "./deeds";
import { draftKey, editing, replying } from "./drafts";

type Of = { room: string; items: readonly Item[]; first: number; range: { current: ListRange }; list: RefObject<VirtuosoHandle | null> };

export function focusComposer() {
  document.querySelector<HTMLElement>(".conversation > .composer textarea")?.focus();
}

export function useMessageKeys({ room, items, first, range, list }: Of) {
  const chat = useChat();
  const dispatch = useAppDispatch();
  const deeds = useMessageDeeds(room);
  const role = useAppSelector((s) => s.rooms.byId[room]?.role ?? "reader");
  const [chosen, setChosen] = useState<string>();
  const fallback = items.findLast((i) => i.kind === "message")?.key;
  const current = chosen !== undefined && items.some((i) => i.key === chosen) ? chosen : fallback;

  const focus = (index: number) => {
    const item = items[index];
    if (!item) return;
    setChosen(item.key);
    const reach = () => {
      // Unless one has gone elsewhere while it was being scrolled to.
      const at = document.activeElement;
      if (at && at !== document.body && !at.closest(".list")) return;
      document.querySelector<HTMLElement>(`.list [data-key="${CSS.escape(item.key)}"]`)?.focus({ preventScroll: true });
    };
    list.current?.scrollIntoView({ index, done: reach });
    // When it is in view already there is nothing to scroll, and nothing is done.
    requestAnimationFrame(reach);
  };
  const step = (from: number, by: 1 | -1) => {
    let at = from + by;
    while (items[at] && items[at]?.kind !== "message") at += by;
    focus(at);
  };

  const act = (e: KeyboardEvent, message: Message): boolean => {
    const seq = message.seq;
    if (seq === undefined || message.deleted || message.state !== "sent" || role === "reader") return false;
    const key = draftKey(room);
    const mine = message.by === chat.me.user;
    const press = (label: string) => e.currentTarget.querySelector<HTMLElement>(`article:focus .actions ${label}`)?.click();
    switch (e.key.toLowerCase()) {
      case "r":
        dispatch(replying({ key, seq }));
        return true;
      case "t":
        dispatch(panelSet({ show: "thread", root: message.thread ?? seq }));
        return true;
      case "e":
        if (mine) dispatch(editing({ key, seq, text: message.text }));
        return mine;
      case "c":
        deeds.copyLink(seq);
        return true;
      case "+":
        press("[aria-haspopup=dialog]");
        return true;
      case "enter":
        press("[aria-haspopup=menu]");
        return true;
      case "delete":
        if (mine) deeds.remove(seq);
        return mine;
      default:
        return false;
    }
  };

  const onKeyDown = (e: KeyboardEvent) => {
    const row = e.target instanceof HTMLElement ? e.target.closest<HTMLElement>("article") : null;
    if (!row || e.ctrlKey || e.metaKey || e.altKey) return;
    const index = items.findIndex((i) => i.key === row.dataset.key);
    const item = items[index];
    const onRow = e.target === row;
    const move: Record<string, () => void> = {
      ArrowUp: () => step(index, -1),
      ArrowDown: () => step(index, 1),
      PageUp: () => focus(Math.max(0, range.current.startIndex - first - 1)),
      PageDown: () => focus(Math.min(items.length - 1, range.current.endIndex - first + 1)),
      Home: () => focus(0),
      End: () => focus(items.length - 1),
      Escape: focusComposer,
    };
    const moves = onRow || e.key === "Escape" ? move[e.key] : undefined;
    if (moves) moves();
    else if (!(onRow && item?.kind === "message" && act(e, item))) return;
    e.preventDefault();
    e.stopPropagation();
  };

  const onFocus = useCallback((e: FocusEvent) => {
    const key = e.target.closest<HTMLElement>("article")?.dataset.key;
    if (key) setChosen(key);
  }, []);

  /** Tab reaches the newest message again. */
  const reset = useCallback(() => setChosen(undefined), []);

  return { current, onKeyDown, onFocus, reset };
}
