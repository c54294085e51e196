/** Tells the others that one types: at the first key, again every few seconds while one goes on, and when one stops. */
import { useEffect, useMemo, useRef } from "react";
import { useChat } from "../../chat/context";

/** The server forgets it after six seconds. */
const AGAIN_MS = 4_000;

export function useTypingSignal(room: string) {
  const chat = useChat();
  const said = useRef(0);
  const signal = useMemo(
    () => ({
      typed(text: string) {
        const now = Date.now();
        if (!text.trim()) return signal.stop();
        if (now - said.current < AGAIN_MS) return;
        said.current = now;
        chat.typing(room, true);
      },
      stop() {
        if (said.current) chat.typing(room, false);
        said.current = 0;
      },
    }),
    [chat, room],
  );
  useEffect(() => signal.stop, [signal]);
  return signal;
}
