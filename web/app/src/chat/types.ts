/** What the app shows of rooms and messages: plain values, made from what the client (`@hubbub/client`) holds. */
import type { Role, RoomKind } from "../api/rest";

export type Presence = "online" | "away" | "busy" | "offline";

export type Reaction = { emoji: string; users: readonly string[] };
export type Attachment = { url: string; mime: string; name: string; size: number };

/** A message as it is shown, from the moment one sends it. */
export type Message = {
  kind: "message";
  /** Stays the same from pending to sent, so that its row does. */
  key: string;
  seq?: number;
  n?: number;
  cid?: string;
  at: number;
  by: string;
  text: string;
  replyTo?: number;
  thread?: number;
  mentions: readonly string[];
  attachments: readonly Attachment[];
  edited: boolean;
  deleted: boolean;
  reactions: readonly Reaction[];
  pinned: boolean;
  state: "pending" | "sent" | "failed";
  /** Why it failed, for people. */
  error?: string;
};

/** Something that happened in a room and is told in a line of its own. */
export type Happening = {
  kind: "happening";
  key: string;
  seq: number;
  at: number;
  by: string;
  what:
    | { member: { user: string; change: string; role?: Role } }
    | { room: { name?: string; topic?: string; created?: boolean; archived?: boolean } };
};

export type Item = Message | Happening;

export type Room = {
  room: string;
  kind: RoomKind;
  name: string;
  topic: string;
  peer?: string;
  role: Role;
  head: number;
  n: number;
  at: number;
  read: number;
  unread: number;
  mentions: number;
  last?: { by: string; text: string; at: number; deleted: boolean };
  archived: boolean;
  /** Not in the directory of channels. */
  unlisted: boolean;
  /** Members write once in so many seconds; 0: as often as they like. */
  slowModeS: number;
  /** One may not write before. */
  mutedUntil?: number;
};

export type Connection = {
  state: "connecting" | "connected" | "offline" | "closed";
  /** Everything missed has arrived. */
  caughtUp: boolean;
};
