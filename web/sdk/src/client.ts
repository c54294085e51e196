/**
 * The client: what a program holds in its hands.
 *
 * It shows what is known (`room`, `rooms`, `timeline`, `presence` …; the same object until it changes), takes what the user does, which is
 * shown at once and settled by the server once, and tells what happens (`on`, `watch`). What moves it is a driver: a socket of its own, or,
 * with several tabs, the tab that has one.
 */
import { Backoff } from "./backoff.js";
import { newCid } from "./cid.js";
import type { Format } from "./codec.js";
import type { SocketClass } from "./connection.js";
import type { Driver, DriverFactory, Host, TokenProvider } from "./driver.js";
import { Emitter } from "./emitter.js";
import { asError, HubbubError } from "./errors.js";
import { MemoryStore } from "./memory.js";
import { Replica, type Events, type Topic } from "./replica.js";
import { KEPT, type Range } from "./room.js";
import { Session } from "./session.js";
import type { Change, Item, Message, Pending, Room, Saved, Status, Store, Transient, Write } from "./state.js";
import { Timeline } from "./timeline.js";
import type { AskOp, Cid, Hello, Id, Member, Numbered, OnceFields, OnceOp, Presence, Replies, Requests, Seq } from "./types.js";

export interface Options {
  /** The server: `https://chat.example`, or `wss://…`. */
  url: string;
  /** Gives access tokens. Throw a `HubbubError` with `retry: "never"` when there will be none: the client closes. */
  token: TokenProvider;
  /** On the wire; MessagePack unless told otherwise. */
  format?: Format | undefined;
  /** Where rooms, messages and the outbox outlive the client; memory unless told otherwise. See `@hubbub/client/offline`. */
  store?: Store | undefined;
  /** What shares one connection among tabs. See `@hubbub/client/offline`. */
  driver?: DriverFactory | undefined;
  /** For platforms without a `WebSocket` of their own, such as Node 20: that of the `ws` package. */
  WebSocket?: unknown;
  /** How long an answer may take; 15 s. */
  requestTimeoutMs?: number | undefined;
  /** Between attempts to connect; from 0.2 to 30 s. */
  backoff?: { firstMs?: number | undefined; maxMs?: number | undefined } | undefined;
  /** Requests that may wait in the outbox; 1,000. */
  outboxMax?: number | undefined;
}

/** A request under way: a promise of its answer that also knows its client id. Nobody has to wait for it. */
export type Ticket<R> = Promise<R> & { readonly cid: Cid };

/** One types for so long after the last sign of it. */
const TYPING_EVERY_MS = 3_000;

export class Client {
  readonly #replica = new Replica();
  readonly #events = new Emitter<Events>();
  readonly #watchers = new Map<Topic, Set<() => void>>();
  readonly #views = new Map<string, unknown>();
  readonly #tickets = new Map<Cid, { resolve(reply: never): void; reject(error: HubbubError): void }>();
  readonly #store: Store;
  readonly #driver: Driver;
  readonly #outboxMax: number;
  #writer = true;
  /** The store lacks something that is held here. */
  #behind = false;
  #failing = false;
  #writing: Promise<void> = Promise.resolve();
  #nextWrite: Promise<void> | undefined;
  #typed = new Map<Id, number>();
  #typingTimer: ReturnType<typeof setTimeout> | undefined;
  #unlisten: (() => void) | undefined;
  #loaded = false;
  #wanted = false;
  /** Resolves when what was stored has been read. */
  readonly ready: Promise<void>;

  constructor(options: Options) {
    const { url, token, format = "msgpack", requestTimeoutMs = 15_000, backoff = {}, outboxMax = 1_000 } = options;
    const socketClass = (options.WebSocket ?? globalThis.WebSocket) as SocketClass | undefined;
    if (!socketClass) throw new HubbubError("unusable", "this platform has no WebSocket: give one as the option WebSocket");
    this.#store = options.store ?? new MemoryStore();
    this.#outboxMax = outboxMax;
    const host: Host = {
      settings: { url, token, format, socketClass, requestTimeoutMs, backoff: new Backoff(backoff.firstMs, backoff.maxMs) },
      replica: this.#replica,
      commit: (change) => this.#commit(change, false),
      saved: () => this.#saved(),
      writes: (on) => this.#writes(on),
      reload: (all) => (all ? this.#load() : this.#merge()),
      restore: (saved, transient) => this.#restore(saved, transient),
      error: (error) => this.#events.emit("error", error),
    };
    this.#replica.tell = (name, event) => this.#events.emit(name, event);
    this.#replica.settled = (item, reply, change) => this.#settled(item, reply, change);
    const solo = () => new Session(host);
    this.#driver = options.driver ? options.driver(host, solo) : solo();
    this.ready = this.#load().then(() => {
      this.#loaded = true;
      if (this.#wanted) this.#driver.start();
    });
  }

  // The connection.

  /** Begins to be connected, and stays so until `close()`. Calling it again changes nothing. */
  connect(): void {
    this.#wanted = true;
    this.#listen();
    if (this.#loaded) this.#driver.start();
  }

  /** Ends the connection. What waits in the outbox waits for the next `connect()`. */
  close(): void {
    this.#wanted = false;
    this.#unlisten?.();
    this.#unlisten = undefined;
    if (this.#loaded) this.#driver.stop();
  }

  /** Closes, and forgets everything, also what is stored: for signing out. */
  async forget(): Promise<void> {
    this.close();
    await this.ready;
    this.#replica.clear();
    this.#touched();
    await this.#saved();
    // In a tab that does not lead nothing else is stored.
    await this.#write([{ drop: "all" }]);
  }

  /** Tries to connect now rather than at the next attempt; looks whether the connection is alive. */
  nudge(): void {
    if (this.#loaded && this.#wanted) this.#driver.nudge();
  }

  /** Resolves once everything missed has arrived; rejects with `closed` or what closed the client. */
  caughtUp(): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = () => {
        const { caughtUp, state, error } = this.status;
        if (!caughtUp && state !== "closed") return;
        stop();
        if (caughtUp) resolve();
        else reject(new HubbubError(error?.code ?? "closed", error?.message ?? "the client is closed", error?.retry));
      };
      const stop = this.watch("status", look);
      if (this.status.caughtUp) look();
    });
  }

  get status(): Status {
    return this.#replica.status;
  }
  /** Who is signed in, as far as it is known. */
  get me(): Id | undefined {
    return this.#replica.me;
  }
  /** What the server said at the last sign-in. */
  get hello(): Hello | undefined {
    return this.#replica.hello;
  }

  // What is known.

  /** All rooms, newest activity first. */
  rooms(): readonly Room[] {
    return this.#view("rooms", () => this.#replica.list());
  }
  room(room: Id): Room | undefined {
    return this.#replica.rooms.get(room)?.view;
  }
  /** Unread messages and mentions of all rooms together. */
  unread(): { readonly unread: number; readonly mentions: number; readonly rooms: number } {
    return this.#view("rooms", () => {
      const all = [...this.#replica.rooms.values()].map((r) => r.view).filter((r) => r.unread > 0);
      return { unread: all.reduce((n, r) => n + r.unread, 0), mentions: all.reduce((n, r) => n + r.mentions, 0), rooms: all.length };
    }, "unread");
  }
  /** A window on a room's messages. Close it when it is no longer shown. */
  timeline(room: Id): Timeline {
    return new Timeline(this, room, (open) => {
      const count = (this.#replica.open.get(room) ?? 0) + (open ? 1 : -1);
      if (count > 0) return void this.#replica.open.set(room, count);
      this.#replica.open.delete(room);
      const state = this.#replica.rooms.get(room);
      if (state && state.messages.size > KEPT) state.trim(KEPT);
    });
  }
  /** One's own messages that are not in the log yet, in the order of sending. */
  pending(room: Id): readonly Pending[] {
    return this.#view(`messages:${room}`, () => this.#replica.pending(room), "pending");
  }
  /** Requests that are not settled yet, and messages that were refused. */
  outbox(): readonly Item[] {
    return this.#view("outbox", () => [...this.#replica.outbox.values()]);
  }
  presence(user: Id): Presence | undefined {
    return this.#replica.presence.get(user);
  }
  /** Who types in a room. */
  typing(room: Id): readonly Id[] {
    return this.#view(`typing:${room}`, () => [...(this.#replica.typing.get(room)?.keys() ?? [])]);
  }
  /** Members as far as they were asked for with `members`. */
  knownMembers(room: Id): readonly Member[] {
    return this.#view(`members:${room}`, () => [...(this.#replica.rooms.get(room)?.members?.values() ?? [])]);
  }
  draft(room: Id): string {
    return this.#replica.drafts.get(room) ?? "";
  }
  /** The range of a room's log around a seq (or the newest) of which all messages are held. */
  rangeOf(room: Id, seq?: Seq): Range | undefined {
    const state = this.#replica.rooms.get(room);
    return seq === undefined ? state?.live() : state?.range(seq);
  }
  /** The messages of a range that are held, with one's own changes that are on their way. */
  messagesIn(room: Id, range: Range): readonly Message[] {
    const state = this.#replica.rooms.get(room);
    return state ? this.#replica.optimistic(room, state.list(range)) : [];
  }

  /** Calls back when what a topic names has changed; gives the way to stop it. */
  watch(topic: Topic, listener: () => void): () => void {
    const all = this.#watchers.get(topic) ?? new Set();
    this.#watchers.set(topic, all.add(listener));
    return () => {
      all.delete(listener);
      if (all.size === 0 && this.#watchers.get(topic) === all) this.#watchers.delete(topic);
    };
  }
  /** Calls back at every event of that name; gives the way to stop it. */
  on<K extends keyof Events>(name: K, listener: (event: Events[K]) => void): () => void {
    return this.#events.on(name, listener);
  }

  // What a user does. All of these go through the outbox.

  /** Sends a message. It is shown at once (`pending`), and is in the room's log when the ticket resolves. */
  send(room: Id, body: string | Omit<OnceFields<"send">, "room">): Ticket<Numbered> {
    return this.submit("send", { room, ...(typeof body === "string" ? { text: body } : body) });
  }
  edit(room: Id, seq: Seq, text: string, mentions?: Id[]): Ticket<Numbered> {
    return this.submit("edit", { room, seq, text, ...(mentions ? { mentions } : {}) });
  }
  delete(room: Id, seq: Seq): Ticket<Numbered> {
    return this.submit("delete", { room, seq });
  }
  react(room: Id, seq: Seq, emoji: string, on = true): Ticket<Numbered> {
    return this.submit("react", { room, seq, emoji, on });
  }
  pin(room: Id, seq: Seq, on = true): Ticket<Numbered> {
    return this.submit("pin", { room, seq, on });
  }
  /** Opens a direct room, or makes a group or channel; the ticket has its id. */
  create(fields: OnceFields<"create">): Ticket<Replies["create"]> {
    return this.submit("create", fields);
  }
  join(room: Id): Ticket<Replies["join"]> {
    return this.submit("join", { room });
  }
  leave(room: Id): Ticket<Replies["leave"]> {
    return this.submit("leave", { room });
  }

  /** Any request that takes effect once: `invite`, `kick`, `ban`, `unban`, `role`, `update` … and those above. */
  submit<O extends OnceOp>(op: O, fields: OnceFields<O>): Ticket<Replies[O]> {
    const cid = newCid();
    const answer = new Promise<Replies[O]>((resolve, reject) => {
      if (this.#replica.outbox.size >= this.#outboxMax) return reject(new HubbubError("full", `${this.#outboxMax} requests wait in the outbox already`, "later"));
      this.#tickets.set(cid, { resolve, reject });
      const room = (fields as { room?: Id }).room;
      void this.#now({ kind: "queued", item: { cid, op, fields: defined(fields), at: Date.now(), ...(room === undefined ? {} : { room }) } });
    });
    // A refusal is also an event: a ticket that nobody waits for is no unhandled rejection.
    answer.catch(() => {});
    return Object.assign(answer, { cid });
  }

  /** Sends a message that was refused once more, as a new one. */
  retry(cid: Cid): Ticket<Numbered> {
    const item = this.#replica.outbox.get(cid);
    if (!item?.error || item.op !== "send") throw new HubbubError("not_found", "there is no refused message of that client id");
    this.discard(cid);
    return this.submit("send", item.fields as OnceFields<"send">);
  }
  /** Takes back a message that was refused, or anything that was not transmitted yet; false when it is too late. */
  discard(cid: Cid): boolean {
    const item = this.#replica.outbox.get(cid);
    if (!item || (item.since !== undefined && !item.error)) return false;
    void this.#now({ kind: "discarded", cid });
    return true;
  }

  /** Moves one's read cursor, to the newest message unless told otherwise. It is shown at once and told to the server when there is one. */
  markRead(room: Id, seq = this.room(room)?.head ?? 0): void {
    const view = this.room(room);
    if (view && Math.min(seq, view.head) > view.read) void this.#now({ kind: "cursor", room, read: seq, delivered: seq, acked: false });
  }
  /** Keeps what was typed but not sent; an empty text forgets it. */
  setDraft(room: Id, text: string): void {
    if (text !== this.draft(room)) void this.#now({ kind: "draft", room, text });
  }
  /** Says that one types, or has stopped. Call it at every key: it is told every few seconds. */
  setTyping(room: Id, on = true): void {
    const now = Date.now();
    if (on ? now - (this.#typed.get(room) ?? 0) < TYPING_EVERY_MS : !this.#typed.has(room)) return;
    if (on) this.#typed.set(room, now);
    else this.#typed.delete(room);
    // Ephemeral: what cannot be told now is not worth telling later.
    if (this.status.state === "connected") this.request("typing", { room, on }).catch(() => {});
  }
  /** Sets this device's state and the user's status text; said again on every connection. */
  async setPresence(fields: Requests["presence"]): Promise<void> {
    await this.request("presence", fields);
  }
  /** Members of a room in pages by user id; they stay in `knownMembers`. */
  members(room: Id, page: { after?: Id; limit?: number } = {}): Promise<Replies["members"]> {
    return this.request("members", { room, ...page });
  }
  /** Any request that may be asked twice. Waits for a connection, and asks again as the server says, within the time limit. */
  async request<O extends AskOp>(op: O, fields: Requests[O]): Promise<Replies[O]> {
    await this.ready;
    return this.#driver.ask(op, fields);
  }

  // How it works.

  /** A change that is made here. */
  async #now(change: Change): Promise<void> {
    if (!this.#loaded) await this.ready;
    this.#commit(change, true);
  }

  #commit(change: Change, local: boolean): void {
    this.#replica.apply(change);
    if (change.kind === "discarded") this.#abandon(change.cid);
    this.#touched();
    void this.#saved();
    if (!this.#writer && local) void this.#writeOwn(change).then(() => this.#driver.committed(change, local));
    else this.#driver.committed(change, local);
  }

  #touched(): void {
    const { touched } = this.#replica;
    if (touched.size === 0) return;
    this.#replica.touched = new Set();
    for (const topic of touched) this.#views.delete(topic);
    for (const topic of touched) for (const key of VIEWS) this.#views.delete(`${topic}/${key}`);
    for (const topic of touched) for (const listener of [...(this.#watchers.get(topic) ?? [])]) listener();
    if ([...touched].some((t) => t.startsWith("typing:"))) this.#expireTyping();
  }

  #view<V>(topic: Topic, make: () => V, part?: (typeof VIEWS)[number]): V {
    const key = part ? `${topic}/${part}` : topic;
    if (!this.#views.has(key)) this.#views.set(key, make());
    return this.#views.get(key) as V;
  }

  #expireTyping(): void {
    clearTimeout(this.#typingTimer);
    const now = Date.now();
    const next = this.#replica.expireTyping(now);
    if (next !== undefined) this.#typingTimer = setTimeout(() => this.#expireTyping(), next - now + 1);
    this.#touched();
  }

  #settled(item: Item, reply: (Partial<Numbered> & { room?: Id }) | undefined, change: Change): void {
    const ticket = this.#tickets.get(item.cid);
    this.#tickets.delete(item.cid);
    if (reply) return ticket?.resolve(reply as never);
    if (change.kind !== "settled" || !change.error) return;
    const error = new HubbubError(change.error.code, change.error.message, change.error.retry);
    ticket?.reject(error);
    this.#events.emit("failed", { item, error });
  }

  #abandon(cid: Cid): void {
    this.#tickets.get(cid)?.reject(new HubbubError("undecided", "it is not in the outbox any more: it was discarded, or settled in another tab"));
    this.#tickets.delete(cid);
  }

  async #load(): Promise<void> {
    try {
      this.#restore(await this.#store.load());
    } catch (e) {
      this.#events.emit("error", asError(e, "storage"));
    }
  }

  /** Another tab led until now: requests that it was told of, and this one was not, stand in the store. */
  async #merge(): Promise<void> {
    try {
      const { outbox } = await this.#store.load();
      for (const item of outbox) this.#commit({ kind: "queued", item }, false);
    } catch (e) {
      this.#events.emit("error", asError(e, "storage"));
    }
  }

  #restore(saved: Saved, transient?: Transient): void {
    const mine = [...this.#tickets.keys()].map((cid) => this.#replica.outbox.get(cid)).filter((item) => item !== undefined);
    this.#replica.restore(saved, transient);
    this.#touched();
    // What was made here and is not known there yet is told once more; whether it is over already is known by who leads.
    for (const item of mine) if (!this.#replica.outbox.has(item.cid)) this.#commit({ kind: "queued", item }, true);
  }

  #saved(): Promise<void> {
    // One write at a time; what changes meanwhile goes into the next one, all of it together.
    this.#nextWrite ??= this.#writing.then(() => {
      this.#nextWrite = undefined;
      const writes = this.#replica.takeWrites();
      if (!this.#writer || writes.length === 0) return undefined;
      const behind = this.#behind;
      this.#behind = false;
      return this.#write(behind ? [...this.#all(), ...writes] : writes);
    });
    return (this.#writing = this.#nextWrite);
  }

  async #write(writes: readonly Write[]): Promise<void> {
    try {
      await this.#store.write(writes);
      this.#failing = false;
    } catch (e) {
      // It goes on in memory; the next write stores all of it. Told once, not at every write.
      this.#behind = true;
      if (!this.#failing) this.#events.emit("error", asError(e, "storage", "later"));
      this.#failing = true;
    }
  }

  /** Everything that is to be stored. */
  #all(): Write[] {
    const { rooms, messages, user, outbox } = this.#replica.saved();
    return [
      ...(user === undefined ? [] : [{ put: "user", user } as const]),
      ...rooms.map((room) => ({ put: "room", room }) as const),
      ...messages.map((message) => ({ put: "message", message }) as const),
      ...outbox.map((item) => ({ put: "item", item }) as const),
    ];
  }

  /** Another tab stores what is known; what is made here must outlive this tab before that one hears of it. */
  async #writeOwn(change: Change): Promise<void> {
    if (change.kind === "queued") await this.#write([{ put: "item", item: change.item }]);
    if (change.kind === "discarded") await this.#write([{ drop: "item", cid: change.cid }]);
  }

  #writes(on: boolean): void {
    if (on === this.#writer) return;
    this.#writer = on;
    // What the last leader did not come to store is stored with the next change.
    if (on) this.#behind = true;
  }

  /** Browsers tell when the network is back and when the page is looked at again. */
  #listen(): void {
    if (this.#unlisten || typeof globalThis.addEventListener !== "function") return;
    const nudge = () => this.nudge();
    const seen = () => globalThis.document?.visibilityState === "visible" && this.nudge();
    globalThis.addEventListener("online", nudge);
    globalThis.document?.addEventListener("visibilitychange", seen);
    this.#unlisten = () => {
      globalThis.removeEventListener("online", nudge);
      globalThis.document?.removeEventListener("visibilitychange", seen);
    };
  }
}

/** Parts of topics that are views of their own. */
const VIEWS = ["unread", "pending"] as const;

function defined(fields: object): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, v]) => v !== undefined));
}
