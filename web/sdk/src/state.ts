/** What a client holds, as plain data: what it shows, what it stores, and what one tab tells another. */
import type { PlainError } from "./errors.js";
import type { Attachment, Cid, Entry, Hello, Id, Millis, Numbered, OnceOp, Op, Presence, Push, Reaction, Role, RoomKind, Seq } from "./types.js";

export type ConnectionState = "disconnected" | "connecting" | "connected" | "closed";

/** How the connection stands. */
export interface Status {
  /**
   * `disconnected`: not begun, or waiting for the next attempt (`retryAt`); `connecting`: an attempt is under way; `connected`: signed in;
   * `closed`: over, because it was asked for or because of `error`, and `connect()` begins anew.
   */
  readonly state: ConnectionState;
  /** Everything missed has arrived; what comes is live. */
  readonly caughtUp: boolean;
  /** When the next attempt begins. */
  readonly retryAt?: Millis;
  /** Why the last connection or attempt ended. */
  readonly error?: PlainError;
}

/** A message as it is now: edits, deletion, reactions and pin folded in. Never changed in place. */
export interface Message {
  readonly room: Id;
  readonly seq: Seq;
  readonly n: number;
  readonly id: Id;
  readonly at: Millis;
  readonly by: Id;
  readonly cid?: Cid;
  /** Empty when deleted. */
  readonly text: string;
  readonly reply_to?: Seq;
  readonly thread?: Seq;
  readonly mentions: readonly Id[];
  readonly attachments: readonly Attachment[];
  readonly data?: string;
  /** The seq of the newest edit. */
  readonly edited?: Seq;
  /** The seq of the deletion. */
  readonly deleted?: Seq;
  readonly reactions: readonly Readonly<Reaction>[];
  readonly pinned: boolean;
}

/** A request that must take effect once, until it is settled. */
export interface Item {
  readonly cid: Cid;
  readonly op: OnceOp;
  readonly room?: Id;
  /** Its fields without `cid` and `since`. */
  readonly fields: Readonly<Record<string, unknown>>;
  readonly at: Millis;
  /** What had been seen of the room when it was first transmitted; absent: it never was. */
  readonly since?: Seq;
  /** The server has it: it is the entry of this seq, which has not come yet. */
  readonly seq?: Seq;
  /** The server refused it; it stays until it is retried or discarded. */
  readonly error?: PlainError;
}

/** A message on its way: sent by this user, not yet in the room's log. */
export interface Pending {
  readonly cid: Cid;
  readonly room: Id;
  readonly at: Millis;
  readonly text: string;
  readonly reply_to?: Seq;
  readonly thread?: Seq;
  readonly mentions: readonly Id[];
  readonly attachments: readonly Attachment[];
  readonly data?: string;
  /** `sent`: the server has it, its entry has not come yet. */
  readonly state: "pending" | "sent" | "failed";
  readonly error?: PlainError;
}

/** A room as it is shown. Never changed in place. */
export interface Room {
  readonly room: Id;
  readonly kind: RoomKind;
  readonly name: string;
  readonly topic: string;
  readonly peer?: Id;
  readonly role: Role;
  /** The last entry applied. */
  readonly head: Seq;
  readonly n: number;
  /** Of the newest entry. */
  readonly at: Millis;
  readonly read: Seq;
  readonly unread: number;
  readonly mentions: number;
  readonly last?: Message;
  /** How many members, as the server last said. */
  readonly members?: number;
  readonly archived: boolean;
  /** Not in the directory of channels. */
  readonly unlisted: boolean;
  /** One message in so many seconds, for members; 0: as many as one likes. */
  readonly slowModeS: number;
  /** One may not write before. */
  readonly mutedUntil?: Millis;
  /** The other members' cursors as far as they were told, by user. */
  readonly receipts: Readonly<Record<Id, Readonly<{ read: Seq; delivered: Seq }>>>;
  /** What happened beside messages since this client came: memberships, settings. The newest hundred. */
  readonly happenings: readonly Entry[];
  /** All there is to know is here; false for a room of which only entries were seen. */
  readonly known: boolean;
}

/** What is stored of a room beside its messages. */
export interface SavedRoom {
  readonly view: Room;
  /** Messages after this seq and up to `view.head` are stored without holes. */
  readonly from: Seq;
  readonly delivered: Seq;
  /** The server's word about one's cursors. */
  readonly acked: { readonly read: Seq; readonly delivered: Seq };
  /** `n` at the read cursor. */
  readonly readN: number;
  /** Mentions are counted up to this entry. */
  readonly mentionsTo: Seq;
}

/** All that is stored. */
export interface Saved {
  readonly user?: Id;
  readonly rooms: readonly SavedRoom[];
  readonly messages: readonly Message[];
  /** In the order of sending. */
  readonly outbox: readonly Item[];
  readonly drafts: Readonly<Record<Id, string>>;
}

/** A change of what is stored. A list of them is applied as a whole or not at all. */
export type Write =
  | { readonly put: "user"; readonly user: Id }
  | { readonly put: "room"; readonly room: SavedRoom }
  | { readonly put: "message"; readonly message: Message }
  | { readonly put: "item"; readonly item: Item }
  | { readonly put: "draft"; readonly room: Id; readonly text: string }
  | { readonly drop: "item"; readonly cid: Cid }
  | { readonly drop: "draft"; readonly room: Id }
  /** The room with all its messages. */
  | { readonly drop: "room"; readonly room: Id }
  /** Messages of a room up to and including a seq. */
  | { readonly drop: "messages"; readonly room: Id; readonly upTo: Seq }
  | { readonly drop: "all" };

/** Where a client keeps what must outlive it. */
export interface Store {
  load(): Promise<Saved>;
  write(writes: readonly Write[]): Promise<void>;
  close(): void;
}

/** Everything that can change what a client holds. Applied in the same order in every tab. */
export type Change =
  | { readonly kind: "status"; readonly status: Status }
  | { readonly kind: "hello"; readonly hello: Hello }
  | { readonly kind: "push"; readonly push: Push; readonly live: boolean; readonly now: Millis }
  | { readonly kind: "reply"; readonly op: Op; readonly fields: unknown; readonly reply: unknown }
  | { readonly kind: "queued"; readonly item: Item }
  /** It is transmitted for the first time, or, after `resync`, as if it were. */
  | { readonly kind: "sent"; readonly cid: Cid; readonly since: Seq }
  | { readonly kind: "settled"; readonly cid: Cid; readonly reply?: Partial<Numbered> & { room?: Id }; readonly error?: PlainError }
  | { readonly kind: "discarded"; readonly cid: Cid }
  | { readonly kind: "cursor"; readonly room: Id; readonly read: Seq; readonly delivered: Seq; readonly acked: boolean }
  | { readonly kind: "caughtup"; readonly missed: number; readonly again: boolean }
  | { readonly kind: "draft"; readonly room: Id; readonly text: string };

/** What a new tab is given beside `Saved`, because it is not worth storing. */
export interface Transient {
  readonly status: Status;
  readonly hello?: Hello;
  readonly presence: readonly Presence[];
}
