/** A thread: the message it began with, what was answered to it, where one answers. */
import { useCallback, useEffect, useMemo, useRef } from "react";
import { useLoad } from "../../app/load";
import { Loading } from "../../app/Loading";
import { PanelHead } from "../../app/PanelHead";
import { useAppSelector } from "../../app/store";
import { useChat, useTimeline } from "../../chat/context";
import type { Message } from "../../chat/types";
import { useT } from "../../i18n";
import { Composer } from "./Composer";
import { useShut } from "./Conversation";
import { MessageRow } from "./MessageRow";
import { around, reached } from "./rows";
import { threadOf } from "./thread";

export default function ThreadPanel({ room, root }: { room: string; root: number }) {
  const t = useT();
  const chat = useChat();
  const me = chat.me.user;
  const [view] = useTimeline(room);
  const [read, again] = useLoad(() => chat.thread(room, root), [chat, room, root]);
  const shut = useShut(useAppSelector((s) => s.rooms.byId[room]));
  const stored = read.state === "there" ? read.value : undefined;
  const messages = useMemo(() => threadOf(root, stored ?? [], view.items), [root, stored, view.items]);
  const find = useCallback((seq: number) => messages.find((m) => m.seq === seq), [messages]);
  const lastOwn = useCallback(() => messages.findLast((m) => m.by === me && m.state === "sent" && !m.deleted && m.seq !== root), [messages, me, root]);
  const end = useRef<HTMLDivElement>(null);
  useEffect(() => {
    void end.current?.scrollIntoView({ block: "end" });
  }, [messages.length]);
  return (
    <aside className="panel" aria-label={t("thread.title")}>
      <PanelHead title={t("thread.title")} />
      <div className="panel-list">
        {messages.length === 0 && <Loading of={read} again={again}>{() => null}</Loading>}
        {messages.map((m, i) => (
          <MessageRow key={m.key} room={room} message={m} around={{ ...around(messages[i - 1], m, undefined), day: false, head: i < 2 || around(messages[i - 1], m, undefined).head }} reached={m.by === me ? reached(m, view.receipts, me) : "sent"} answered={answered(messages, m)} replies={0} marked={false} current inThread />
        ))}
        <div ref={end} />
      </div>
      {!shut && <Composer room={room} thread={root} placeholder={t("thread.answer")} find={find} lastOwn={lastOwn} />}
    </aside>
  );
}

function answered(messages: readonly Message[], m: Message): Message | undefined {
  return m.replyTo === undefined ? undefined : messages.find((x) => x.seq === m.replyTo);
}
