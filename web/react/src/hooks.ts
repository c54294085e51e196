/** The hooks: each subscribes to one topic of the client. */
import type { Id, Item, Member, Presence, Room, Seq, Status, Timeline, TimelineView, Topic } from "@hubbub/client";
import { useCallback, useEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
import { useClient } from "./context.js";

/** What `get` gives, drawn again when `topic` changes. */
function useTopic<V>(topic: Topic, get: () => V): V {
  const client = useClient();
  const subscribe = useCallback((changed: () => void) => client.watch(topic, changed), [client, topic]);
  return useSyncExternalStore(subscribe, get, get);
}

export interface Connection extends Status {
  /** Tries now rather than at `retryAt`. */
  retry(): void;
}

/** How the connection stands. */
export function useConnection(): Connection {
  const client = useClient();
  const status = useTopic("status", () => client.status);
  return useMemo(() => ({ ...status, retry: () => client.nudge() }), [client, status]);
}

/** All rooms, newest activity first. */
export function useRooms(): readonly Room[] {
  const client = useClient();
  return useTopic("rooms", () => client.rooms());
}

/** A room; undefined while it is not known, and when it was left. */
export function useRoom(room: Id): Room | undefined {
  const client = useClient();
  return useTopic(`room:${room}`, () => client.room(room));
}

export type Unread = { readonly unread: number; readonly mentions: number };

/** Unread messages and mentions of a room, or of all together. */
export function useUnread(room?: Id): Unread {
  const client = useClient();
  const get = () => (room === undefined ? client.unread() : client.room(room));
  const { unread = 0, mentions = 0 } = useTopic(room === undefined ? "rooms" : `room:${room}`, get) ?? {};
  return useMemo(() => ({ unread, mentions }), [unread, mentions]);
}

/** Presence of a user; undefined while nothing was told. */
export function usePresence(user: Id): Presence | undefined {
  const client = useClient();
  return useTopic("presence", () => client.presence(user));
}

/** Who types in a room, and how to tell that one does oneself (call it at every key). */
export function useTyping(room: Id): readonly [users: readonly Id[], typing: (on?: boolean) => void] {
  const client = useClient();
  const users = useTopic(`typing:${room}`, () => client.typing(room));
  const typing = useCallback((on = true) => client.setTyping(room, on), [client, room]);
  return [users, typing];
}

/** What was typed in a room and not sent, and how to keep it. */
export function useDraft(room: Id): readonly [text: string, keep: (text: string) => void] {
  const client = useClient();
  const text = useTopic(`draft:${room}`, () => client.draft(room));
  const keep = useCallback((next: string) => client.setDraft(room, next), [client, room]);
  return [text, keep];
}

/** A room's members as far as they were read; reads the first page. */
export function useMembers(room: Id): readonly Member[] {
  const client = useClient();
  useEffect(() => {
    // Without a connection there are none yet; those of the last time stay.
    client.members(room).catch(() => {});
  }, [client, room]);
  return useTopic(`members:${room}`, () => client.knownMembers(room));
}

/** Requests that are not settled yet. */
export function useOutbox(): readonly Item[] {
  const client = useClient();
  return useTopic("outbox", () => client.outbox());
}

export interface Messages extends TimelineView {
  loadBefore(limit?: number): Promise<void>;
  loadAfter(limit?: number): Promise<void>;
  jumpTo(seq: Seq): Promise<void>;
  jumpToLatest(): void;
}

const NOTHING: TimelineView = { messages: [], pending: [], hasBefore: false, hasAfter: false, loading: undefined, error: undefined };

/** A window on a room's messages, from the newest back; `at` begins it around a message instead. */
export function useMessages(room: Id, at?: Seq): Messages {
  const client = useClient();
  const [timeline, setTimeline] = useState<Timeline>();
  const first = useRef(at);
  useEffect(() => {
    const opened = client.timeline(room);
    if (first.current !== undefined) void opened.jumpTo(first.current);
    setTimeline(opened);
    return () => opened.close();
  }, [client, room]);
  const current = timeline?.room === room ? timeline : undefined;
  const subscribe = useCallback((changed: () => void) => current?.subscribe(changed) ?? (() => {}), [current]);
  const get = () => current?.get() ?? NOTHING;
  const view = useSyncExternalStore(subscribe, get, get);
  return useMemo(
    () => ({
      ...view,
      loadBefore: async (limit?: number) => current?.loadBefore(limit),
      loadAfter: async (limit?: number) => current?.loadAfter(limit),
      jumpTo: async (seq: Seq) => current?.jumpTo(seq),
      jumpToLatest: () => current?.jumpToLatest(),
    }),
    [current, view],
  );
}
