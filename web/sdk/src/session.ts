/**
 * A user's whole stay over one socket at a time: connects, resumes with what it has, reconnects by the close code, and sends what is unanswered
 * again.
 *
 * A request of the outbox is settled once, however often the connection breaks: it waits with its client id until the server answers or its
 * entry is seen in the log. Per room one is on its way at a time, so what is sent in a room arrives in the order of sending. Before one is
 * transmitted for the first time, what had been seen of the room (`since`) is stored, so that a crash cannot double it. At a hole in a room,
 * and when the server answers `resync`, the client reconnects and resumes: one way of catching up, always the same.
 */
import { afterClose } from "./backoff.js";
import { Connection, type End } from "./connection.js";
import type { Driver, Host } from "./driver.js";
import { asError, HubbubError } from "./errors.js";
import type { Change, Item, Status } from "./state.js";
import type { AskOp, Cid, DrainPush, Entry, Hello, Id, Numbered, OnceOp, Push, Replies, Requests, Retry } from "./types.js";

/** Rooms of one page of a resume: the protocol's limit. */
const RESUME_PAGE = 500;
/** Requests of the outbox under way; the server reads 64 of a session at a time. */
const FLYING_MAX = 32;
/** How many cursors are moved at a time, and how long moves are gathered. */
const CURSORS_MAX = 8;
const CURSORS_MS = 200;
/** Wait before a request is sent again that the server asked to send again without saying when. */
const RETRY_MS = 200;
/** An entry that was answered comes within this time, or the client resumes. */
const ENTRY_MS = 5_000;
/** A token is renewed when this part of its time is over. */
const RENEW_AT = 0.8;
/** Timers hold 31 bits. */
const TIMER_MAX = 2 ** 31 - 1;

/** Requests whose answers change what the client holds. */
const TOLD = new Set<AskOp>(["history", "rooms", "members", "watch"]);

interface Left {
  retry: Retry;
  error: HubbubError;
  /** When to come back, as the server said. */
  at?: number;
}

type Timer = ReturnType<typeof setTimeout>;

export class Session implements Driver {
  readonly #host: Host;
  /** The run that counts; another one ends as soon as it looks. */
  #run: object | undefined;
  #connection: Connection | undefined;
  #caughtUp = false;
  #caughtUpBefore = false;
  #missed = 0;
  #drainAt: number | undefined;
  /** The next token must be another than the last. */
  #expired = false;
  #lastToken: string | undefined;
  #sleepers = new Set<() => void>();
  /** The server's clock against ours. */
  #skew = 0;
  /** What is said again on every connection. */
  #presence: Requests["presence"] | undefined;
  #watched = new Set<Id>();
  #timers = new Set<Timer>();
  #flying = new Set<Cid>();
  /** Not to be sent before. */
  #waiting = new Map<Cid, number>();
  /** The server would not look so far back: they wait for the next resume. */
  #resyncing = new Set<Cid>();
  #cursorTimer: Timer | undefined;
  #cursorsFlying = 0;
  #watchers = new Set<() => void>();

  constructor(host: Host) {
    this.#host = host;
  }

  start(): void {
    if (this.#run) return;
    this.#run = {};
    void this.#stays(this.#run);
  }

  stop(): void {
    if (!this.#run) return;
    this.#run = undefined;
    this.#wake();
    this.#connection?.end({ code: 1000, reason: "bye" });
    this.#clear();
    this.#status({ state: "closed", caughtUp: false });
  }

  nudge(): void {
    // What the server asked for is kept to: every client was given another time.
    if (this.#drainAt === undefined) this.#wake();
    this.#connection?.probe(5_000);
  }

  committed(change: Change): void {
    if (change.kind === "queued" || change.kind === "settled" || change.kind === "discarded") this.#pump();
    if (change.kind === "cursor" || change.kind === "push") this.#cursorsSoon();
  }

  async ask<O extends AskOp>(op: O, fields: Requests[O]): Promise<Replies[O]> {
    const deadline = Date.now() + this.#host.settings.requestTimeoutMs;
    if (op === "presence") this.#presence = { ...this.#presence, ...fields };
    if (op === "watch") for (const user of (fields as Requests["watch"]).users) this.#watched[(fields as Requests["watch"]).on ? "add" : "delete"](user);
    for (;;) {
      const connection = await this.#connected(deadline);
      try {
        const reply = await connection.request(op, fields, Math.max(1, deadline - Date.now()));
        if (TOLD.has(op)) this.#host.commit({ kind: "reply", op, fields, reply });
        return reply;
      } catch (e) {
        const error = asError(e);
        const wait = error.retry === "never" ? Infinity : (error.retryAfterMs ?? (error.code === "not_connected" ? 0 : RETRY_MS));
        if (Date.now() + wait >= deadline) throw error;
        await this.#sleep(wait);
      }
    }
  }

  /** The connection, once it is signed in and has begun to resume. */
  async #connected(deadline: number): Promise<Connection> {
    while (this.#run) {
      if (this.#connection && this.#host.replica.status.state === "connected") return this.#connection;
      const left = deadline - Date.now();
      if (left <= 0) throw new HubbubError("not_connected", "there is no connection", "later");
      await new Promise<void>((resolve) => {
        const done = () => {
          clearTimeout(timer);
          this.#watchers.delete(done);
          resolve();
        };
        const timer = setTimeout(done, left);
        this.#watchers.add(done);
      });
    }
    throw new HubbubError("closed", "the client is not connected: call connect()");
  }

  #status(status: Status): void {
    this.#host.commit({ kind: "status", status });
    for (const watcher of [...this.#watchers]) watcher();
  }

  async #stays(run: object): Promise<void> {
    while (this.#run === run) {
      const left = await this.#stay(run);
      if (this.#run !== run) return;
      this.#clear();
      const error = left.error.plain();
      if (left.retry === "never") {
        this.#run = undefined;
        return this.#status({ state: "closed", caughtUp: false, error });
      }
      const wait = left.at === undefined ? this.#host.settings.backoff.wait(left.retry) : Math.max(0, left.at - Date.now());
      this.#status({ state: "disconnected", caughtUp: false, retryAt: Date.now() + wait, error });
      await this.#sleep(wait);
      this.#drainAt = undefined;
    }
  }

  /** Ends what belongs to the connection that is over. */
  #clear(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    this.#connection = undefined;
    this.#caughtUp = false;
    this.#flying.clear();
    this.#waiting.clear();
    clearTimeout(this.#cursorTimer);
    this.#cursorTimer = undefined;
    this.#cursorsFlying = 0;
  }

  /** One attempt and, if it comes to that, one connection from beginning to end. */
  async #stay(run: object): Promise<Left> {
    const { settings, replica } = this.#host;
    this.#status({ state: "connecting", caughtUp: false, ...(replica.status.error ? { error: replica.status.error } : {}) });
    const fresh = this.#expired;
    let token: string;
    try {
      token = await settings.token({ fresh });
    } catch (e) {
      const error = asError(e, "unreachable", "later");
      return { retry: error.retry, error };
    }
    if (this.#run !== run) return { retry: "never", error: new HubbubError("closed", "closed") };
    if (fresh && token === this.#lastToken) {
      return { retry: "never", error: new HubbubError("token_expired", "the server refused the token and there is no other") };
    }
    this.#lastToken = token;
    return new Promise((resolve) => {
      // Handlers of a connection that was left do nothing: there is never more than one.
      const ours = () => this.#connection === connection;
      const connection: Connection = new Connection(socketUrl(settings.url), token, settings.format, settings.socketClass, {
        hello: (hello) => ours() && this.#begin(hello, connection),
        push: (push) => ours() && this.#incoming(push),
        ended: (end) => resolve(this.#after(end)),
      });
      this.#connection = connection;
    });
  }

  #after(end: End): Left {
    const error = end.error ?? new HubbubError("not_connected", `the connection ended: ${end.code} ${end.reason}`, afterClose(end.code));
    if (this.#drainAt !== undefined) return { retry: "later", error, at: this.#drainAt };
    // A token that is refused is asked for once more; the same one again, or two in a row, and it is over.
    if (end.code >= 4201 && end.code <= 4203) {
      const again = !this.#expired;
      this.#expired = true;
      return again ? { retry: "now", error, at: 0 } : { retry: "never", error };
    }
    return { retry: afterClose(end.code), error };
  }

  #begin(hello: Hello, connection: Connection): void {
    const host = this.#host;
    this.#expired = false;
    this.#missed = 0;
    this.#skew = hello.now - Date.now();
    host.commit({ kind: "hello", hello });
    this.#status({ state: "connected", caughtUp: false });
    this.#renewIn((hello.expires - hello.now) * RENEW_AT);
    const rooms = [...host.replica.rooms.values()].map((r) => ({ room: r.view.room, have: r.view.head }));
    for (let at = 0; at === 0 || at < rooms.length; at += RESUME_PAGE) {
      const last = at + RESUME_PAGE >= rooms.length;
      // What a resume brings, and its end, come as pushes; only a refusal is told here. Whether it stands still is seen by `#stalled`.
      connection.request("resume", { rooms: rooms.slice(at, at + RESUME_PAGE), last }, TIMER_MAX).catch((e: HubbubError) => {
        if (this.#connection === connection && e.code !== "not_connected") this.#leave(`the resume was refused: ${e.message}`);
      });
    }
    this.#stalled(connection);
  }

  /** A resume that stands still for as long as a request may take is given up. */
  #stalled(connection: Connection): void {
    const { requestTimeoutMs } = this.#host.settings;
    this.#later(requestTimeoutMs / 2, () => {
      if (this.#caughtUp) return;
      if (Date.now() - connection.heard > requestTimeoutMs) this.#leave("the resume stood still");
      else this.#stalled(connection);
    });
  }

  #leave(reason: string): void {
    this.#connection?.end({ code: 4002, reason });
  }

  #incoming(push: Push | DrainPush): void {
    const { replica } = this.#host;
    switch (push.op) {
      case "entry":
        if (!this.#next(push)) return;
        break;
      case "entries":
        for (const [i, entry] of push.entries.entries()) {
          // Places are told against what is held now; within a page they follow each other.
          const place = i === 0 ? replica.place(entry) : entry.seq === (push.entries[i - 1] as Entry).seq + 1 ? "next" : "gap";
          if (place === "gap") return this.#gap(entry);
        }
        this.#missed += push.entries.filter((e) => e.seq > replica.have(e.room)).length;
        break;
      case "room":
        if (push.standing === "resync") this.#lostTrack(push.room);
        break;
      case "drain":
        this.#drainAt = Date.now() + push.after_ms;
        return this.#later(push.after_ms, () => this.#connection?.end({ code: 4100, reason: "drained" }));
      default:
    }
    this.#host.commit({ kind: "push", push, live: this.#caughtUp, now: Date.now() });
    if (push.op === "resumed") this.#resumed();
  }

  /** Whether an entry is to be applied. */
  #next(entry: Entry): boolean {
    const place = this.#host.replica.place(entry);
    if (place === "gap") this.#gap(entry);
    if (place === "next" && !this.#caughtUp) this.#missed++;
    return place === "next";
  }

  #gap(entry: Entry): void {
    this.#leave(`room ${entry.room}: entry ${entry.seq} came after ${this.#host.replica.have(entry.room)}`);
  }

  #resumed(): void {
    const { replica, settings } = this.#host;
    this.#caughtUp = true;
    settings.backoff.succeeded();
    // What waited for this resume was not seen in it, so it has not taken effect and may go out as if for the first time.
    for (const cid of this.#resyncing) {
      const room = replica.outbox.get(cid)?.room;
      if (room !== undefined) this.#host.commit({ kind: "sent", cid, since: replica.have(room) });
    }
    this.#resyncing.clear();
    this.#status({ state: "connected", caughtUp: true });
    this.#host.commit({ kind: "caughtup", missed: this.#missed, again: this.#caughtUpBefore });
    this.#caughtUpBefore = true;
    if (this.#presence) this.ask("presence", this.#presence).catch(() => {});
    const users = [...this.#watched];
    for (let at = 0; at < users.length; at += RESUME_PAGE) this.ask("watch", { users: users.slice(at, at + RESUME_PAGE), on: true }).catch(() => {});
    this.#pump();
    this.#cursorsSoon();
  }

  /** The room's log cannot be followed: of what waited for that nobody can tell whether it took effect. */
  #lostTrack(room: Id): void {
    for (const cid of this.#resyncing) {
      if (this.#host.replica.outbox.get(cid)?.room !== room) continue;
      this.#resyncing.delete(cid);
      const error = new HubbubError("undecided", "it cannot be known whether this took effect; look at the room, then decide").plain();
      this.#host.commit({ kind: "settled", cid, error });
    }
  }

  // The outbox.

  #due(): Item[] {
    const now = Date.now();
    const busy = new Set<Id>();
    const due: Item[] = [];
    for (const item of this.#host.replica.outbox.values()) {
      if (item.error || item.seq !== undefined) continue;
      const { cid, room } = item;
      const later = room !== undefined && busy.has(room);
      if (room !== undefined) busy.add(room);
      if (later || this.#flying.has(cid) || this.#resyncing.has(cid) || (this.#waiting.get(cid) ?? 0) > now) continue;
      if (this.#flying.size + due.length >= FLYING_MAX) break;
      due.push(item);
    }
    return due;
  }

  #pump(): void {
    const connection = this.#connection;
    if (!this.#caughtUp || !connection) return;
    for (const { cid, room, since } of this.#due()) {
      this.#flying.add(cid);
      if (since === undefined) this.#host.commit({ kind: "sent", cid, since: room === undefined ? 0 : this.#host.replica.have(room) });
      void this.#transmit(cid, connection);
    }
  }

  async #transmit(cid: Cid, connection: Connection): Promise<void> {
    await this.#host.saved();
    const item = this.#host.replica.outbox.get(cid);
    if (!item || connection !== this.#connection) return;
    const { op, fields, since = 0 } = item;
    const once = { ...fields, cid, ...(op === "create" ? {} : { since }) } as Requests[OnceOp];
    try {
      const reply: Partial<Numbered> & { room?: Id } = await connection.request(op, once, this.#host.settings.requestTimeoutMs);
      this.#flying.delete(cid);
      this.#host.commit({ kind: "settled", cid, reply });
      this.#expect(item.room, reply.seq);
    } catch (e) {
      this.#flying.delete(cid);
      if (connection === this.#connection) this.#refused(cid, asError(e));
    }
  }

  /** What the server has answered must also come as an entry: if it does not, something was lost on the way. */
  #expect(room: Id | undefined, seq: number | undefined): void {
    if (room === undefined || seq === undefined) return;
    this.#later(ENTRY_MS, () => {
      const { rooms, outbox } = this.#host.replica;
      const held = rooms.get(room);
      const lacks = held ? held.view.head < seq : [...outbox.values()].some((item) => item.room === room && item.seq === seq);
      if (lacks) this.#leave(`room ${room}: entry ${seq} was answered and has not come`);
    });
  }

  #refused(cid: Cid, error: HubbubError): void {
    if (error.code === "resync") {
      this.#resyncing.add(cid);
      return this.#leave("a request went out too long ago to be recognised");
    }
    if (error.retry === "never") return this.#host.commit({ kind: "settled", cid, error: error.plain() });
    const wait = error.retryAfterMs ?? (error.retry === "now" ? RETRY_MS : 1000 * (0.5 + Math.random()));
    this.#waiting.set(cid, Date.now() + wait);
    this.#later(wait + 1, () => this.#pump());
  }

  // Cursors: moved in the background, as often as it takes.

  #cursorsSoon(): void {
    if (!this.#caughtUp || this.#cursorTimer !== undefined || this.#cursorsFlying > 0) return;
    this.#cursorTimer = setTimeout(() => {
      this.#cursorTimer = undefined;
      this.#moveCursors();
    }, CURSORS_MS);
  }

  #moveCursors(): void {
    const connection = this.#connection;
    if (!this.#caughtUp || !connection) return;
    for (const { view, delivered, acked } of this.#host.replica.rooms.values()) {
      if (view.read <= acked.read && delivered <= acked.delivered) continue;
      if (this.#cursorsFlying >= CURSORS_MAX) break;
      this.#cursorsFlying++;
      const cursor = { room: view.room, read: view.read, delivered: Math.max(delivered, view.read) };
      connection
        .request("cursor", cursor, this.#host.settings.requestTimeoutMs)
        .catch((e: HubbubError) => {
          // A room that refuses it is left alone; anything else is tried again with the next move.
          if (e.retry !== "never") throw e;
        })
        .then(() => connection === this.#connection && this.#host.commit({ kind: "cursor", ...cursor, acked: true }), () => {})
        .finally(() => {
          if (connection !== this.#connection) return;
          this.#cursorsFlying--;
          this.#cursorsSoon();
        });
    }
  }

  // The token.

  #renewIn(ms: number): void {
    this.#later(Math.max(0, ms), () => void this.#renew());
  }

  async #renew(): Promise<void> {
    const connection = this.#connection;
    if (!connection) return;
    const { token, requestTimeoutMs } = this.#host.settings;
    try {
      const fresh = await token({ fresh: true });
      if (connection !== this.#connection) return;
      this.#lastToken = fresh;
      const { expires } = await connection.request("refresh", { token: fresh }, requestTimeoutMs);
      if (connection === this.#connection) this.#renewIn((expires - Date.now() - this.#skew) * RENEW_AT);
    } catch (e) {
      // The old token goes on until it ends; until then there may be another chance, and at the end the close code says what to do.
      if (connection === this.#connection && asError(e).retry !== "never") this.#renewIn(5_000);
    }
  }

  // Time.

  #later(ms: number, work: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      work();
    }, Math.min(ms, TIMER_MAX));
    this.#timers.add(timer);
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#sleepers.delete(done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.#sleepers.add(done);
    });
  }

  #wake(): void {
    for (const done of [...this.#sleepers]) done();
  }
}

/** Any form of the server's address as that of its socket. */
export function socketUrl(url: string): string {
  const { protocol, host, pathname } = new URL(url);
  const path = pathname.replace(/\/+$/, "");
  return `${protocol.replace("http", "ws")}//${host}${path.endsWith("/v1/socket") ? path : `${path}/v1/socket`}`;
}
