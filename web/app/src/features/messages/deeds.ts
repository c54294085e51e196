/** What is done with a message from more than one place: toolbar, keys, menus. Each says what came of it. */
import { useMemo } from "react";
import { dialogSet, toasted } from "../../app/ui";
import { useAppDispatch } from "../../app/store";
import { address } from "../../app/routes";
import { useChat } from "../../chat/context";
import { useSay } from "../../app/errors";
import { useT } from "../../i18n";

export function useMessageDeeds(room: string) {
  const chat = useChat();
  const t = useT();
  const say = useSay();
  const dispatch = useAppDispatch();
  return useMemo(() => {
    const copy = async (text: string, done: string) => {
      try {
        await navigator.clipboard.writeText(text);
        dispatch(toasted(done));
      } catch {
        dispatch(toasted(t("copy.failed"), "bad"));
      }
    };
    return {
      react: (seq: number, emoji: string, on: boolean) => void chat.react(room, seq, emoji, on).catch(say),
      pin: (seq: number, on: boolean) => void chat.pin(room, seq, on).catch(say),
      copyLink: (seq: number) => void copy(location.origin + address({ at: "room", room, seq }), t("copy.link")),
      copyText: (text: string) => void copy(text, t("copy.text")),
      remove: (seq: number) => void dispatch(dialogSet({ name: "delete", room, seq })),
      report: (seq: number) => void dispatch(dialogSet({ name: "report", room, seq })),
    };
  }, [chat, room, t, say, dispatch]);
}
