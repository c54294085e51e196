/** What the app's features ask of the conversation with the server. `connect.ts` makes it from the client library. */
import type { Account, Who } from "../api/auth";
import type { Member, Rest, Role, RoomKind } from "../api/rest";
import type { Item, Message } from "./types";

/** What one sees of a room's messages now: a window, bounded in length. */
export type TimelineView = {
  items: readonly Item[];
  /** The window reaches the first message. */
  atStart: boolean;
  /** The window reaches the newest message: what arrives is added. */
  atEnd: boolean;
  loading: boolean;
  /** Why the last page could not be read; reading again clears it. */
  error: string | null;
  receipts: Readonly<Record<string, { read: number; delivered: number }>>;
};

/** A room's messages while it is open. Snapshots are new objects only when something changed. */
export type Timeline = {
  subscribe(changed: () => void): () => void;
  view(): TimelineView;
  /** Shows the newest messages, or those around one. */
  show(around?: number): Promise<void>;
  older(): Promise<void>;
  newer(): Promise<void>;
};

/** A value that changes: the same object until it does. */
export type Watched<V> = { subscribe(changed: () => void): () => void; get(): V };

/** What may be set about a room; what is absent stays. */
export type RoomChange = { name?: string; topic?: string; archived?: boolean; unlisted?: boolean; slow_mode_s?: number };

export type NewMessage = { text: string; replyTo?: number; thread?: number; mentions?: string[] };

export type Chat = {
  me: Who;
  rest: Rest;
  account: Account;
  timeline(room: string): Timeline;
  send(room: string, message: NewMessage): Promise<void>;
  edit(room: string, seq: number, text: string, mentions: string[]): Promise<void>;
  remove(room: string, seq: number): Promise<void>;
  react(room: string, seq: number, emoji: string, on: boolean): Promise<void>;
  pin(room: string, seq: number, on: boolean): Promise<void>;
  /** Sends what failed once more, or gives it up. */
  retry(room: string, key: string): Promise<void>;
  discard(room: string, key: string): Promise<void>;
  typing(room: string, on: boolean): void;
  /** The newest entry of a room that is about its members or settings. */
  happened(room: string): Watched<number>;
  /** Who types in a room. */
  typists(room: string): Watched<readonly string[]>;
  read(room: string, seq: number): void;
  /** A thread's messages, its root first; the pinned messages of a room. */
  thread(room: string, root: number): Promise<Message[]>;
  pins(room: string): Promise<Message[]>;
  /** Members by user id, up to some thousands. */
  members(room: string): Promise<Member[]>;
  create(kind: RoomKind, name: string | undefined, members: string[], topic?: string): Promise<string>;
  join(room: string): Promise<void>;
  /** Follows an invitation; resolves with its room. */
  accept(code: string): Promise<string>;
  leave(room: string): Promise<void>;
  invite(room: string, user: string): Promise<void>;
  kick(room: string, user: string): Promise<void>;
  ban(room: string, user: string): Promise<void>;
  unban(room: string, user: string): Promise<void>;
  /** Until a time, or for good; `null` ends it. */
  mute(room: string, user: string, until: number | undefined | null): Promise<void>;
  transfer(room: string, user: string): Promise<void>;
  role(room: string, user: string, role: Role): Promise<void>;
  update(room: string, change: RoomChange): Promise<void>;
  presence(state: "online" | "away" | "busy", status?: string): Promise<void>;
  /** Names of users that were not known arrive in the store. */
  needProfiles(users: readonly string[]): void;
  reconnect(): void;
  /** Ends the connection; with `forget`, what was kept on the device goes too. */
  close(forget?: boolean): Promise<void>;
};
