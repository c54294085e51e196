/**
 * The wire protocol's shapes, version 1: what docs/PROTOCOL.md says, as types.
 *
 * Ids are decimal strings in the API whatever the encoding, because a JavaScript number would lose bits. A test compiles every golden frame
 * against these types, so that they and the server cannot drift apart.
 */

/** A room's, user's, device's or message's id: decimal digits, opaque. */
export type Id = string;
/** A client id: a UUID, chosen by the client for one request. */
export type Cid = string;
/** A position in a room's log, from 1. */
export type Seq = number;
/** Milliseconds since 1970-01-01 UTC. */
export type Millis = number;

export type RoomKind = "direct" | "group" | "channel";
export type Role = "reader" | "member" | "moderator" | "admin" | "owner";
export type PresenceState = "offline" | "away" | "busy" | "online";
export type MemberChange = "join" | "invite" | "leave" | "kick" | "ban" | "unban" | "role" | "mute" | "unmute" | "transfer";
export type Retry = "never" | "now" | "later";

export interface Attachment {
  url: string;
  mime: string;
  name: string;
  size: number;
}

/** What an author sends. */
export interface MessageBody {
  text: string;
  /** The message that this one answers. */
  reply_to?: Seq;
  /** The message whose thread this one belongs to. */
  thread?: Seq;
  mentions?: Id[];
  attachments?: Attachment[];
  /** Text of the embedding product's own; never looked into. */
  data?: string;
}

/** What an entry says happened: one of these keys. A kind that this client does not know has none of them. */
export interface Body {
  message?: MessageBody;
  edit?: { seq: Seq; text: string; mentions?: Id[] };
  delete?: { seq: Seq };
  react?: { seq: Seq; emoji: string; on: boolean };
  pin?: { seq: Seq; on: boolean };
  /** `until`: when a mute ends by itself; `link_by`: who made the invite link that the user joined by. */
  member?: { user: Id; change: MemberChange; role?: Role; until?: Millis; link_by?: Id };
  room?: { kind?: RoomKind; name?: string; topic?: string; members?: [Id, Role][]; slow_mode_s?: number; archived?: boolean; unlisted?: boolean };
  call?: string;
  unknown?: Record<string, never>;
}

/** One record of a room's log. */
export interface Entry {
  room: Id;
  seq: Seq;
  /** Messages in the room up to and including this entry. */
  n: number;
  id: Id;
  at: Millis;
  by: Id;
  cid?: Cid;
  body: Body;
}

export interface Reaction {
  emoji: string;
  users: Id[];
}

/** A message as it is now, as history tells it. */
export interface Shown {
  entry: Entry;
  edited?: Seq;
  deleted?: Seq;
  reactions?: Reaction[];
  pinned?: boolean;
}

/** A room as the server's room list shows it. */
export interface RoomSummary {
  room: Id;
  kind: RoomKind;
  name: string;
  topic?: string;
  peer?: Id;
  role: Role;
  head: Seq;
  n: number;
  at: Millis;
  read: Seq;
  unread: number;
  mentions: number;
  last?: Shown;
  /** How many. */
  members?: number;
  slow_mode_s?: number;
  archived?: boolean;
  unlisted?: boolean;
  /** One's own mute. */
  muted_until?: Millis;
}

export interface Member {
  user: Id;
  name: string;
  role: Role;
  muted_until?: Millis;
}

export interface Presence {
  user: Id;
  state: PresenceState;
  /** When last connected; 0: unknown or never. */
  last_seen: Millis;
  status?: string;
}

export interface Cursor {
  room: Id;
  read: Seq;
  delivered: Seq;
}

interface Once {
  cid: Cid;
  since: Seq;
}

/** Requests by name, with their fields beside `op` and `ref`. */
export interface Requests {
  auth: { token: string };
  refresh: { token: string };
  ping: Record<never, never>;
  resume: { rooms?: { room: Id; have: Seq }[]; last?: boolean };
  send: { room: Id; text?: string; reply_to?: Seq; thread?: Seq; mentions?: Id[]; attachments?: Attachment[]; data?: string } & Once;
  edit: { room: Id; seq: Seq; text: string; mentions?: Id[] } & Once;
  delete: { room: Id; seq: Seq } & Once;
  react: { room: Id; seq: Seq; emoji: string; on: boolean } & Once;
  pin: { room: Id; seq: Seq; on: boolean } & Once;
  typing: { room: Id; on: boolean };
  cursor: { room: Id; read?: Seq; delivered?: Seq };
  presence: { state?: Exclude<PresenceState, "offline">; status?: string };
  watch: { users: Id[]; on: boolean };
  history: { room: Id; before?: Seq; after?: Seq; around?: Seq; limit?: number };
  rooms: { offset?: number; limit?: number };
  members: { room: Id; after?: Id; limit?: number };
  create: { kind: RoomKind; name?: string; topic?: string; members?: Id[]; cid: Cid };
  join: { room: Id } & Once;
  leave: { room: Id } & Once;
  invite: { room: Id; user: Id; role?: Role } & Once;
  kick: { room: Id; user: Id } & Once;
  ban: { room: Id; user: Id } & Once;
  unban: { room: Id; user: Id } & Once;
  role: { room: Id; user: Id; role: Role } & Once;
  mute: { room: Id; user: Id; until?: Millis } & Once;
  unmute: { room: Id; user: Id } & Once;
  transfer: { room: Id; user: Id } & Once;
  update: { room: Id; name?: string; topic?: string; slow_mode_s?: number; archived?: boolean; unlisted?: boolean } & Once;
}

export type Op = keyof Requests;
/** Requests that make an entry: they take effect once, however often they are sent. */
export type OnceOp = {
  [O in Op]: Requests[O] extends { cid: Cid } ? O : never;
}[Op];
/** Requests that may be asked again freely. */
export type AskOp = Exclude<Op, OnceOp | "auth" | "refresh" | "resume">;
/** The fields that a caller gives of a request that is made once. */
export type OnceFields<O extends OnceOp> = Omit<Requests[O], "cid" | "since">;

/** The numbers of the entry that a request made. */
export interface Numbered {
  seq: Seq;
  n: number;
  id: Id;
  at: Millis;
}

/** Answers by the name of their request, beside `op` and `ref`. */
export interface Replies {
  auth: Omit<Hello, "op" | "ref">;
  refresh: { expires: Millis };
  ping: Record<never, never>;
  resume: Record<never, never>;
  send: Numbered;
  edit: Numbered;
  delete: Numbered;
  react: Numbered;
  pin: Numbered;
  typing: Record<never, never>;
  cursor: Record<never, never>;
  presence: Record<never, never>;
  watch: { presence: Presence[] };
  history: { messages: Shown[]; head: Seq; more: boolean };
  rooms: { rooms: RoomSummary[]; more: boolean };
  members: { members: Member[]; more: boolean };
  create: { room: Id } & Partial<Numbered>;
  join: Partial<Numbered>;
  leave: Partial<Numbered>;
  invite: Partial<Numbered>;
  kick: Partial<Numbered>;
  ban: Partial<Numbered>;
  unban: Partial<Numbered>;
  role: Partial<Numbered>;
  mute: Partial<Numbered>;
  unmute: Partial<Numbered>;
  transfer: Partial<Numbered>;
  update: Partial<Numbered>;
}

/** Any request as a frame. */
export type RequestFrame = { [O in Op]: { op: O; ref: number } & Requests[O] }[Op];

export interface Hello {
  op: "hello";
  ref: number;
  user: Id;
  name: string;
  device: Id;
  expires: Millis;
  now: Millis;
  heartbeat_ms: number;
  frame_bytes_max: number;
  server: string;
}
export interface OkFrame extends Partial<Numbered> {
  op: "ok";
  ref: number;
  room?: Id;
  expires?: Millis;
  messages?: Shown[];
  head?: Seq;
  more?: boolean;
  rooms?: RoomSummary[];
  members?: Member[];
  presence?: Presence[];
}
export interface ErrorFrame {
  op: "error";
  ref: number;
  code: string;
  message: string;
  retry: Retry;
  retry_after_ms?: number;
}
export interface EntryPush extends Entry {
  op: "entry";
}
export interface EntriesPush {
  op: "entries";
  room: Id;
  entries: Entry[];
  more: boolean;
}
export interface RoomPush {
  op: "room";
  room: Id;
  standing: "catch_up" | "joined" | "left" | "resync";
  from: Seq;
  head: Seq;
  summary?: RoomSummary;
}
export interface ResumedPush {
  op: "resumed";
  ref: number;
  cursors: Cursor[];
  presence: Presence[];
}
export interface TypingPush {
  op: "typing";
  room: Id;
  user: Id;
  on: boolean;
  ttl_ms: number;
}
export interface ReceiptPush extends Cursor {
  op: "receipt";
  user: Id;
}
export interface PresencePush extends Presence {
  op: "presence";
}
export interface DrainPush {
  op: "drain";
  after_ms: number;
}

/** What changes what a client knows. */
export type Push = EntryPush | EntriesPush | RoomPush | ResumedPush | TypingPush | ReceiptPush | PresencePush;
/** Any frame of the server. */
export type ServerFrame = Hello | OkFrame | ErrorFrame | DrainPush | Push;

/** Names of the server's frames that this client knows; others are passed over. */
export const SERVER_OPS = [
  "hello", "ok", "error", "entry", "entries", "room", "resumed", "typing", "receipt", "presence", "drain",
] as const satisfies readonly ServerFrame["op"][];
