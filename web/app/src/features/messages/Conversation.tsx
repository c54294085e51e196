/** An open room: its head, its messages, who types, where one writes. */
import { useCallback, useEffect, useRef, useState } from "react";
import { go } from "../../app/navigate";
import { useAppDispatch, useAppSelector } from "../../app/store";
import { panelSet } from "../../app/ui";
import { useChat, useName, useRoomName, useTimeline, useTypists } from "../../chat/context";
import type { Message, Room } from "../../chat/types";
import { Avatar } from "../../design/Avatar";
import { Button, Empty, IconButton, Notice } from "../../design/controls";
import { Icon } from "../../design/Icon";
import { useT } from "../../i18n";
import { useDates } from "../../i18n/dates";
import { moderates } from "../rooms/roles";
import { Composer } from "./Composer";
import { MessageList } from "./MessageList";

export function Conversation({ room: id, jump }: { room: string; jump: number | undefined }) {
  const t = useT();
  const room = useAppSelector((s) => s.rooms.byId[id]);
  const known = useAppSelector((s) => s.rooms.known);
  const name = useRoomName(room);
  const [, timeline] = useTimeline(id);
  const chat = useChat();
  const sent = useRef<() => void>(undefined);
  const onSent = useCallback((f: () => void) => {
    sent.current = f;
  }, []);
  const find = useCallback((seq: number) => timeline.view().items.find((i): i is Message => i.kind === "message" && i.seq === seq), [timeline]);
  const lastOwn = useCallback(
    () => timeline.view().items.findLast((i): i is Message => i.kind === "message" && i.by === chat.me.user && i.state === "sent" && !i.deleted && i.thread === undefined),
    [timeline, chat],
  );
  const shut = useShut(room);
  if (!room) return known ? <NoRoom /> : <main className="conversation" />;
  return (
    <main className="conversation" aria-label={name}>
      <Head room={room} name={name} />
      <MessageList key={id} room={id} jump={jump} onSent={onSent} />
      <Typing room={room} />
      {shut ? <Notice>{shut}</Notice> : <Composer room={id} placeholder={t("composer.to", { name })} find={find} lastOwn={lastOwn} onSent={() => sent.current?.()} />}
    </main>
  );
}

/** Why one may not write here; nothing when one may. */
export function useShut(room: Room | undefined): string | undefined {
  const t = useT();
  const dates = useDates();
  const until = room?.mutedUntil ?? 0;
  const muted = useStill(until);
  if (room?.archived) return t("room.archived");
  if (room?.role === "reader") return t("room.readOnly");
  if (!muted) return undefined;
  return until - Date.now() > YEAR_MS ? t("room.muted") : t("room.mutedUntil", { when: dates.until(until) });
}

/** A mute that ends later than this has no end that is worth telling. */
const YEAR_MS = 365 * 86_400_000;

/** Whether a time is still to come; draws again when it has. */
function useStill(until: number): boolean {
  const [, again] = useState(0);
  useEffect(() => {
    const left = until - Date.now();
    if (left <= 0 || left > YEAR_MS) return;
    // Longer than a timer can wait: it is looked at again then.
    const timer = setTimeout(() => again((n) => n + 1), Math.min(left, 2 ** 31 - 1));
    return () => clearTimeout(timer);
  });
  return until > Date.now();
}

function NoRoom() {
  const t = useT();
  return (
    <main className="conversation">
      <Empty icon="lock" title={t("room.notFound")}>
        <p>{t("room.notFoundHint")}</p>
        <Button onClick={() => go({ at: "home" })}>{t("room.backToList")}</Button>
      </Empty>
    </main>
  );
}

function Head({ room, name }: { room: Room; name: string }) {
  const t = useT();
  const dispatch = useAppDispatch();
  const panel = useAppSelector((s) => s.ui.panel?.show);
  const toggle = (show: "info" | "pins") => dispatch(panelSet(panel === show ? null : { show }));
  return (
    <header className="head">
      <IconButton icon="back" label={t("room.backToList")} className="only-phone" onClick={() => go({ at: "home" })} />
      <button type="button" className="head-title" onClick={() => toggle("info")}>
        {room.kind === "direct" ? <Peer user={room.peer ?? "0"} name={name} /> : <span className="room-mark"><Icon name={room.kind === "channel" ? "hash" : "group"} small /></span>}
        <span className="head-words">
          <h1><bdi>{name}</bdi></h1>
          {room.kind === "direct" ? <PeerStatus user={room.peer ?? "0"} /> : room.topic && <span className="head-topic" dir="auto">{room.topic}</span>}
        </span>
      </button>
      <IconButton icon="pin" label={t("pins.title")} aria-pressed={panel === "pins"} onClick={() => toggle("pins")} />
      <IconButton icon="info" label={t("info.title")} aria-pressed={panel === "info"} onClick={() => toggle("info")} />
    </header>
  );
}

function Peer({ user, name }: { user: string; name: string }) {
  const presence = useAppSelector((s) => s.people.presence[user]?.state);
  const picture = useAppSelector((s) => s.people.byId[user]?.avatar_url);
  return <Avatar id={user} name={name} picture={picture} presence={presence} />;
}

export function PeerStatus({ user }: { user: string }) {
  const t = useT();
  const dates = useDates();
  const presence = useAppSelector((s) => s.people.presence[user]);
  if (!presence) return null;
  const how = presence.state === "offline" && presence.last_seen ? t("presence.lastSeen", { when: dates.seen(presence.last_seen) }) : t(`presence.${presence.state}`);
  return <span className="head-topic" dir="auto">{presence.status ? `${how} · ${presence.status}` : how}</span>;
}

/** Who types; when nobody does, what slows the room down. */
function Typing({ room: { room, role, slowModeS } }: { room: Room }) {
  const t = useT();
  const me = useChat().me.user;
  const who = useTypists(room).filter((u) => u !== me);
  const first = useName(who[0] ?? "0");
  const second = useName(who[1] ?? "0");
  const dates = useDates();
  const slow = slowModeS > 0 && !moderates(role) ? t("slow.here", { span: dates.span(slowModeS) }) : "";
  const text = who.length === 0 ? "" : who.length === 1 ? t("typing.one", { name: first }) : who.length === 2 ? t("typing.two", { name: first, other: second }) : t("typing.many");
  // Not announced: somebody types all the time, and a screen reader would say nothing else.
  return <p className="typing">{text && <><span className="typing-dots" aria-hidden="true"><i /><i /><i /></span>{text}</>}{!text && slow}</p>;
}
