/**
 * What a client knows: its rooms, its outbox, drafts, presence, who types. Pure: changes come in by `apply`, and the same changes in the same
 * order make the same replica, in every tab. It tells which topics a change touched, and remembers what has to be stored.
 */
import { changed } from "./fold.js";
import { RoomState } from "./room.js";
import type { Change, Item, Message, Pending, Room, Saved, Status, Transient, Write } from "./state.js";
import type { Body, Cid, Entry, Hello, Id, Numbered, Presence, Push, Replies, Requests, RoomPush } from "./types.js";
import type { HubbubError } from "./errors.js";

/** What a program is told. */
export interface Events {
  /** The connection's state changed. */
  status: Status;
  /** Signed in. */
  hello: Hello;
  /** Everything missed has arrived: so many entries; `again`: it is not the first time. */
  caughtup: { missed: number; again: boolean };
  /** The next entry of a room; `live`: as it happened, not in a resume. */
  entry: { entry: Entry; live: boolean };
  /** A room came. */
  joined: { room: Id };
  /** A room is gone: left, put out, or it was never there. */
  left: { room: Id };
  /** What was held of a room had to be dropped; `messages()` reads it anew. */
  resync: { room: Id };
  typing: { room: Id; user: Id; on: boolean };
  receipt: { room: Id; user: Id; read: number; delivered: number };
  presence: Presence;
  /** A request of the outbox took effect. */
  sent: { item: Item; reply: Partial<Numbered> & { room?: Id } };
  /** A request of the outbox was refused; a message stays in it until it is retried or discarded. */
  failed: { item: Item; error: HubbubError };
  /** Something went wrong that no method can tell, such as a store that cannot be written. */
  error: HubbubError;
}

/** What can be watched: each names what `Client.watch` calls back for. */
export type Topic = "status" | "rooms" | "presence" | "outbox" | `room:${Id}` | `messages:${Id}` | `typing:${Id}` | `members:${Id}` | `draft:${Id}`;

/** What came of a change beside the topics it touched. */
type Tell = <K extends Exclude<keyof Events, "failed" | "error">>(name: K, event: Events[K]) => void;
type Settled = (item: Item, reply: (Partial<Numbered> & { room?: Id }) | undefined, change: Change) => void;

const SETTLED_MAX = 1_000;
/** Rooms whose messages are stored: those with the newest activity. Of the others only the room is. */
const STORED_ROOMS = 100;

export class Replica {
  me: Id | undefined;
  hello: Hello | undefined;
  status: Status = { state: "disconnected", caughtUp: false };
  readonly rooms = new Map<Id, RoomState>();
  readonly outbox = new Map<Cid, Item>();
  readonly drafts = new Map<Id, string>();
  readonly presence = new Map<Id, Presence>();
  /** By room, who types and until when. */
  readonly typing = new Map<Id, Map<Id, number>>();
  /** Rooms whose messages are stored, the longest unused first. */
  readonly #keeping = new Set<Id>();
  /** Rooms that are looked at, and by how many. */
  readonly open = new Map<Id, number>();
  /** Called when an item leaves the outbox or is refused. */
  settled: Settled = () => {};
  tell: Tell = () => {};
  touched = new Set<Topic>();
  #writes = new Map<string, () => Write[]>();
  /** Those that were settled a short while ago: another tab may still announce them. */
  #settledLately = new Set<Cid>();

  /** Takes in a change. */
  apply(change: Change): void {
    switch (change.kind) {
      case "status":
        this.status = change.status;
        this.touched.add("status");
        return this.tell("status", change.status);
      case "hello":
        return this.#signedIn(change.hello);
      case "push":
        return this.#push(change.push, change.live, change.now);
      case "reply":
        return this.#reply(change);
      case "queued":
        if (this.outbox.has(change.item.cid) || this.#settledLately.has(change.item.cid)) return;
        return this.#item(change.item);
      case "sent": {
        const item = this.outbox.get(change.cid);
        return item && this.#item({ ...item, since: change.since });
      }
      case "settled":
        return this.#settle(change);
      case "discarded":
        return this.#removeItem(change.cid);
      case "cursor":
        return this.#cursor(change);
      case "caughtup":
        return this.tell("caughtup", change);
      case "draft":
        if (change.text) this.drafts.set(change.room, change.text);
        else this.drafts.delete(change.room);
        this.touched.add(`draft:${change.room}`);
        this.#mark(`d${change.room}`, () => [change.text ? { put: "draft", room: change.room, text: change.text } : { drop: "draft", room: change.room }]);
    }
  }

  /** Whether an entry is the next one, was there already, or has others missing before it. */
  place(entry: Entry): "next" | "double" | "gap" {
    const room = this.rooms.get(entry.room);
    if (!room || entry.seq === room.view.head + 1) return "next";
    return entry.seq <= room.view.head ? "double" : "gap";
  }

  /** The last entry applied in a room; 0 for one that is not known. */
  have(room: Id): number {
    return this.rooms.get(room)?.view.head ?? 0;
  }

  /** All rooms, newest activity first. */
  list(): Room[] {
    return [...this.rooms.values()].map((r) => r.view).filter((r) => r.known).sort((a, b) => b.at - a.at || (a.room < b.room ? -1 : 1));
  }

  /** Whether a request left the outbox a short while ago. */
  wasSettled(cid: Cid): boolean {
    return this.#settledLately.has(cid);
  }

  /** Messages that are not in the log yet, in the order of sending. */
  pending(room: Id): Pending[] {
    const all: Pending[] = [];
    for (const { cid, op, room: at, fields, error, seq, ...item } of this.outbox.values()) {
      if (op !== "send" || at !== room) continue;
      const body = { text: "", mentions: [], attachments: [], ...(fields as object) };
      all.push({ ...body, cid, room, at: item.at, state: error ? "failed" : seq === undefined ? "pending" : "sent", ...(error ? { error } : {}) });
    }
    return all;
  }

  /** A message with one's own changes that are still on their way. */
  optimistic(room: Id, messages: Message[]): Message[] {
    const { me } = this;
    const mine = [...this.outbox.values()].filter((i) => i.room === room && ["edit", "delete", "react", "pin"].includes(i.op));
    if (!mine.length || !me) return messages;
    return messages.map((message) =>
      mine.reduce((m, { op, fields }) => (fields["seq"] === m.seq ? changed(m, Infinity, me, { [op]: fields } as Body) : m), message),
    );
  }

  /** Forgets whose typing has ended by itself; tells when the next one will. */
  expireTyping(now: number): number | undefined {
    let next: number | undefined;
    for (const [room, users] of this.typing) {
      for (const [user, until] of users) {
        if (until <= now) this.#types(room, user, 0);
        else next = Math.min(next ?? until, until);
      }
    }
    return next;
  }

  #signedIn(hello: Hello): void {
    if (this.me !== undefined && this.me !== hello.user) this.clear();
    this.me = hello.user;
    this.hello = hello;
    this.#mark("user", () => [{ put: "user", user: hello.user }]);
    this.tell("hello", hello);
  }

  /** Forgets everything, here and in the store. */
  clear(): void {
    for (const room of [...this.rooms.keys()]) this.#forget(room);
    for (const cid of [...this.outbox.keys()]) this.#removeItem(cid);
    for (const room of this.drafts.keys()) this.touched.add(`draft:${room}`);
    this.drafts.clear();
    this.presence.clear();
    this.touched.add("presence");
    this.me = undefined;
    this.#writes.clear();
    this.#mark("all", () => [{ drop: "all" }]);
  }

  #push(push: Push, live: boolean, now: number): void {
    switch (push.op) {
      case "entry": {
        const { op: _, ...entry } = push;
        return this.#entry(entry, live);
      }
      case "entries":
        return push.entries.forEach((entry) => this.#entry(entry, live));
      case "room":
        return this.#standing(push);
      case "resumed":
        for (const room of this.rooms.values()) room.acked = { read: 0, delivered: 0 };
        for (const { room, read, delivered } of push.cursors) this.#cursor({ room, read, delivered, acked: true });
        // Of a room that is not among one's own nothing comes any more.
        for (const { room } of [...this.outbox.values()]) if (room !== undefined && !this.rooms.has(room)) this.#arrived(undefined, room);
        return push.presence.forEach((p) => this.#presence(p));
      case "typing":
        if (push.user === this.me) return;
        this.#types(push.room, push.user, push.on ? now + push.ttl_ms : 0);
        return this.tell("typing", { room: push.room, user: push.user, on: push.on });
      case "receipt": {
        const { op: _, ...receipt } = push;
        const room = this.rooms.get(push.room);
        if (!room) return;
        if (push.user === this.me) return this.#cursor({ ...receipt, acked: true });
        room.receipt(push.user, push.read, push.delivered);
        this.#changed(room);
        return this.tell("receipt", receipt);
      }
      case "presence": {
        const { op: _, ...presence } = push;
        return this.#presence(presence);
      }
    }
  }

  #entry(entry: Entry, live: boolean): void {
    let room = this.rooms.get(entry.room);
    if (!room) {
      // Its first entry begins it: what lies before was not promised to this client and is history.
      room = new RoomState(entry.room, entry.seq - 1);
      this.rooms.set(entry.room, room);
    }
    const before = room.storedFrom();
    if (entry.body.message) this.#keep(entry.room);
    if (!room.apply(entry, this.me, this.open.has(entry.room))) return;
    if (entry.body.message) this.#types(entry.room, entry.by, 0);
    const { member, ...other } = entry.body;
    const seq = other.message ? entry.seq : (other.edit ?? other.delete ?? other.react ?? other.pin)?.seq;
    if (seq !== undefined) this.#stored(room, seq);
    if (room.storedFrom() > before) this.#unstored(room);
    if (member) this.touched.add(`members:${entry.room}`);
    this.#changed(room, true);
    if (entry.by === this.me && entry.cid) {
      const { cid, seq, n, id, at } = entry;
      this.#settle({ kind: "settled", cid, reply: { seq, n, id, at, room: entry.room } });
    }
    this.tell("entry", { entry, live });
    if (member && member.user === this.me && ["leave", "kick", "ban"].includes(member.change)) this.#forget(entry.room);
  }

  #standing(told: RoomPush): void {
    if (told.standing === "left") return this.#forget(told.room);
    let room = this.rooms.get(told.room);
    const isNew = !room;
    if (!room) this.rooms.set(told.room, (room = new RoomState(told.room, told.from)));
    room.standing(told);
    this.#arrived(room);
    if (told.standing === "resync") this.#unmarkMessages(told.room);
    if (told.standing === "resync") this.#mark(`m${told.room}`, () => [{ drop: "messages", room: told.room, upTo: told.head }]);
    this.#changed(room, true);
    if (isNew) this.tell("joined", { room: told.room });
    if (told.standing === "resync") this.tell("resync", { room: told.room });
  }

  #reply({ op, fields, reply }: Extract<Change, { kind: "reply" }>): void {
    if (op === "rooms") {
      for (const summary of (reply as Replies["rooms"]).rooms) {
        const room = this.rooms.get(summary.room);
        room?.summary(summary);
        if (room) this.#changed(room);
      }
    } else if (op === "watch") {
      (reply as Replies["watch"]).presence.forEach((p) => this.#presence(p));
    } else if (op === "history" || op === "members") {
      const room = this.rooms.get((fields as Requests["history"]).room);
      if (!room) return;
      if (op === "history") this.#history(room, fields as Requests["history"], reply as Replies["history"]);
      else {
        room.members = new Map((fields as Requests["members"]).after === undefined ? [] : room.members);
        for (const member of (reply as Replies["members"]).members) room.members.set(member.user, member);
        this.touched.add(`members:${room.view.room}`);
      }
    }
  }

  #history(room: RoomState, ask: Requests["history"], reply: Replies["history"]): void {
    room.history(ask, reply);
    this.#keep(ask.room);
    this.touched.add(`messages:${ask.room}`);
    // What now hangs together with the newest messages can be shown offline, too.
    for (const { entry } of reply.messages) this.#stored(room, entry.seq);
    this.#changed(room);
  }

  #settle(change: Extract<Change, { kind: "settled" }>): void {
    const item = this.outbox.get(change.cid);
    if (!item || (item.error && !change.reply)) return;
    const seq = change.reply?.seq;
    if (change.error && item.op === "send") this.#item({ ...item, error: change.error });
    // It stays until its entry comes, so that what it shows never disappears in between; also of a room whose first entry has not come yet.
    else if (seq !== undefined && item.room !== undefined && seq > (this.rooms.get(item.room)?.view.head ?? 0)) this.#item({ ...item, seq });
    else this.#removeItem(change.cid);
    if (item.seq !== undefined) return;
    this.settled(item, change.reply, change);
    if (change.reply) this.tell("sent", { item, reply: change.reply });
  }

  #cursor({ room: id, read, delivered, acked }: { room: Id; read: number; delivered: number; acked: boolean }): void {
    const room = this.rooms.get(id);
    if (!room) return;
    if (acked) {
      room.acked = { read: Math.max(room.acked.read, read), delivered: Math.max(room.acked.delivered, delivered) };
      room.delivered = Math.max(room.delivered, delivered);
    }
    room.moveRead(read, this.me);
    this.#changed(room);
  }

  #presence(presence: Presence): void {
    this.presence.set(presence.user, presence);
    this.touched.add("presence");
    this.tell("presence", presence);
  }

  #types(room: Id, user: Id, until: number): void {
    const users = this.typing.get(room) ?? new Map<Id, number>();
    if (until) this.typing.set(room, users.set(user, until));
    else if (!users.delete(user)) return;
    this.touched.add(`typing:${room}`);
  }

  #forget(id: Id): void {
    this.#arrived(undefined, id);
    if (!this.rooms.delete(id)) return;
    this.typing.delete(id);
    this.#keeping.delete(id);
    for (const topic of ["rooms", `room:${id}`, `messages:${id}`, `typing:${id}`, `members:${id}`] as const) this.touched.add(topic);
    this.#unmarkMessages(id);
    // A key of its own: the room may come again before this is written, and is then put after it.
    this.#writes.delete(`r${id}`);
    this.#mark(`x${id}`, () => [{ drop: "room", room: id }]);
    this.tell("left", { room: id });
  }

  /** Requests that the server has are over when their entries are in what is held, or never will be. */
  #arrived(room: RoomState | undefined, id = room?.view.room): void {
    for (const { cid, room: at, seq } of this.outbox.values()) {
      if (at === id && seq !== undefined && seq <= (room?.view.head ?? Infinity)) this.#removeItem(cid);
    }
  }

  #item(item: Item): void {
    this.outbox.set(item.cid, item);
    this.#outboxTouched(item);
    this.#mark(`i${item.cid}`, () => [{ put: "item", item: this.outbox.get(item.cid) ?? item }]);
  }

  #removeItem(cid: Cid): void {
    const item = this.outbox.get(cid);
    if (!item) return;
    this.outbox.delete(cid);
    this.#settledLately.add(cid);
    if (this.#settledLately.size > SETTLED_MAX) for (const first of this.#settledLately) {
      this.#settledLately.delete(first);
      break;
    }
    this.#outboxTouched(item);
    this.#mark(`i${cid}`, () => [{ drop: "item", cid }]);
  }

  #outboxTouched(item: Item): void {
    this.touched.add("outbox");
    if (item.room) this.touched.add(`messages:${item.room}`);
  }

  #changed(room: RoomState, messages = false): void {
    const { room: id } = room.view;
    this.touched.add("rooms").add(`room:${id}`);
    if (messages) this.touched.add(`messages:${id}`);
    this.#mark(`r${id}`, () => [{ put: "room", room: room.saved(this.#storedFrom(room)) }]);
  }

  #stored(room: RoomState, seq: number): void {
    this.#mark(`m${room.view.room}:${seq}`, () => {
      const message = room.messages.get(seq);
      return message && seq > this.#storedFrom(room) ? [{ put: "message", message }] : [];
    });
  }

  /** From now on the room's messages are stored; where they are too many rooms, those of another are not any more. */
  #keep(id: Id): void {
    const isNew = !this.#keeping.delete(id);
    this.#keeping.add(id);
    const held = this.rooms.get(id);
    if (isNew && held) for (const seq of held.seqs()) this.#stored(held, seq);
    if (this.#keeping.size <= STORED_ROOMS) return;
    const [first] = this.#keeping;
    if (first === undefined) return;
    this.#keeping.delete(first);
    const room = this.rooms.get(first);
    if (room) this.#unstored(room);
    if (room) this.#changed(room);
  }

  #storedFrom(room: RoomState): number {
    return this.#keeping.has(room.view.room) ? room.storedFrom() : room.view.head;
  }

  #unstored(room: RoomState): void {
    this.#mark(`m${room.view.room}<`, () => [{ drop: "messages", room: room.view.room, upTo: this.#storedFrom(room) }]);
  }

  /** Later marks of the same thing take the place of earlier ones: what is written is how it is then. */
  #mark(key: string, writes: () => Write[]): void {
    this.#writes.set(key, writes);
  }

  #unmarkMessages(id: Id): void {
    for (const key of [...this.#writes.keys()]) if (key === `m${id}` || key.startsWith(`m${id}:`) || key === `m${id}<`) this.#writes.delete(key);
  }

  /** What has to be stored since the last call; all of it together is consistent. */
  takeWrites(): Write[] {
    const writes = [...this.#writes.values()].flatMap((w) => w());
    this.#writes.clear();
    return writes;
  }

  saved(): Saved {
    const rooms = [...this.rooms.values()];
    return {
      ...(this.me === undefined ? {} : { user: this.me }),
      rooms: rooms.map((r) => r.saved(this.#storedFrom(r))),
      messages: rooms.flatMap((r) => r.list({ from: this.#storedFrom(r), to: r.view.head })),
      outbox: [...this.outbox.values()],
      drafts: Object.fromEntries(this.drafts),
    };
  }

  transient(): Transient {
    const { status, hello, presence } = this;
    return { status, presence: [...presence.values()], ...(hello ? { hello } : {}) };
  }

  /** Takes in what was stored, or what another tab holds. Rooms that stand where they stood keep what else is known of them. */
  restore(saved: Saved, transient?: Transient): void {
    this.me = saved.user ?? this.me;
    const told = new Set(saved.rooms.map((r) => r.view.room));
    for (const id of this.rooms.keys()) if (!told.has(id)) this.#forget(id);
    const replaced = new Map<Id, RoomState>();
    for (const room of [...saved.rooms].sort((a, b) => a.view.at - b.view.at)) {
      const { room: id, head } = room.view;
      if (room.from < head) this.#keeping.add(id);
      const before = this.rooms.get(id);
      if (before && before.view.head === head) before.view = room.view;
      else {
        const after = RoomState.restore(room);
        replaced.set(id, after);
        this.rooms.set(id, after);
      }
      this.touched.add("rooms").add(`room:${id}`).add(`messages:${id}`);
    }
    for (const message of saved.messages) {
      const room = replaced.get(message.room);
      if (room && message.seq > room.live().from) room.hold(message);
    }
    const items = new Set(saved.outbox.map((i) => i.cid));
    for (const item of this.outbox.values()) {
      if (items.has(item.cid)) continue;
      this.outbox.delete(item.cid);
      this.#outboxTouched(item);
    }
    for (const item of saved.outbox) {
      this.outbox.set(item.cid, item);
      this.#outboxTouched(item);
    }
    for (const room of new Set([...this.drafts.keys(), ...Object.keys(saved.drafts)])) this.touched.add(`draft:${room}`);
    this.drafts.clear();
    for (const [room, text] of Object.entries(saved.drafts)) this.drafts.set(room, text);
    this.#writes.clear();
    if (!transient) return;
    this.hello = transient.hello;
    for (const p of transient.presence) this.#presence(p);
    this.apply({ kind: "status", status: transient.status });
  }
}
