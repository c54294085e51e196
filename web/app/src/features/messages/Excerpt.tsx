/** The beginning of a message, for dialogs that are about it. */
import { useName, useTimeline } from "../../chat/context";
import type { Message } from "../../chat/types";
import { plain } from "./markdown/parse";

export function Excerpt({ room, seq }: { room: string; seq: number }) {
  const [view] = useTimeline(room);
  const message = view.items.find((i): i is Message => i.kind === "message" && i.seq === seq);
  const name = useName(message?.by ?? "0");
  // Not in sight any more: the dialog is about it all the same.
  if (!message) return null;
  return (
    <blockquote className="excerpt">
      <strong><bdi>{name}</bdi></strong>
      <span dir="auto">{plain(message.text)}</span>
    </blockquote>
  );
}
