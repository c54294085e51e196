/**
 * Several tabs, one truth: the tab that holds a lock has the socket and the store; the others hold the same by applying the same changes.
 *
 * The leader tells every change it applies; a tab that comes is given all it holds, then the changes after it. What a user does in another tab
 * is applied there at once and told to the leader; a request of the outbox is in the store before that, so it survives either tab. When the
 * leader goes, the browser gives the lock to the next, which knows what the leader knew, looks into the store for requests that it was not
 * told of, and goes on. Who asked the last leader something asks the next one.
 */
import type { Driver, Host } from "../driver.js";
import { asError, HubbubError } from "../errors.js";
import type { PlainError } from "../errors.js";
import type { Change, Saved, Transient } from "../state.js";
import type { AskOp, Replies, Requests } from "../types.js";

/** What is used of the Web Locks API. */
export type Locks = Pick<LockManager, "request">;
/** What is used of a BroadcastChannel. */
export interface Channel {
  postMessage(message: unknown): void;
  close(): void;
  onmessage: ((event: never) => void) | null;
}

type Tab = string;
type Told =
  | { t: "change"; change: Change; origin?: Tab | undefined }
  | { t: "lead" }
  | { t: "join"; from: Tab }
  | { t: "state"; to: Tab; saved: Saved; transient: Transient }
  | { t: "local"; from: Tab; change: Change }
  | { t: "ask"; from: Tab; id: number; op: AskOp; fields: unknown }
  | { t: "answer"; to: Tab; id: number; reply?: unknown; error?: PlainError }
  | { t: "start" | "nudge" };

interface Asked {
  message: Told;
  resolve(reply: never): void;
  reject(error: HubbubError): void;
  timer: ReturnType<typeof setTimeout>;
}

export class TabDriver implements Driver {
  readonly #tab: Tab = crypto.randomUUID();
  readonly #asked = new Map<number, Asked>();
  #ids = 0;
  #channel: Channel | undefined;
  #session: Driver | undefined;
  #release: () => void = () => {};
  #abort: AbortController | undefined;
  /** This tab holds what the leader holds. */
  #synced = false;
  #origin: Tab | undefined;

  constructor(
    private readonly host: Host,
    private readonly solo: () => Driver,
    private readonly name: string,
    private readonly locks: Locks,
    private readonly open: (name: string) => Channel,
  ) {
    host.writes(false);
  }

  start(): void {
    if (this.#channel) {
      if (this.#session) this.#session.start();
      else this.#post({ t: "start" });
      return;
    }
    this.#channel = this.open(this.name);
    this.#channel.onmessage = ({ data }: { data: Told }) => this.#hear(data);
    const { signal } = (this.#abort = new AbortController());
    this.locks.request(this.name, { signal }, () => (signal.aborted ? undefined : this.#lead(signal))).catch((e: unknown) => {
      // Given up by `stop`, or there are no locks here after all.
      if (!signal.aborted) this.host.error(asError(e, "storage"));
    });
    this.#post({ t: "join", from: this.#tab });
  }

  stop(): void {
    const session = this.#session;
    this.#session = undefined;
    // The others are not told: for them it goes on with another leader.
    this.#channel?.close();
    this.#channel = undefined;
    this.#abort?.abort();
    this.#synced = false;
    for (const id of [...this.#asked.keys()]) this.#answered(id, (asked) => asked.reject(new HubbubError("closed", "the client was closed")));
    if (session) session.stop();
    else this.host.commit({ kind: "status", status: { state: "closed", caughtUp: false } });
    // Only when everything is stored may the next leader read it.
    const release = this.#release;
    this.#release = () => {};
    void this.host.saved().then(() => {
      this.host.writes(false);
      release();
    });
  }

  nudge(): void {
    if (this.#session) this.#session.nudge();
    else this.#post({ t: "nudge" });
  }

  committed(change: Change, local: boolean): void {
    if (this.#session) {
      this.#post({ t: "change", change, origin: this.#origin });
      this.#session.committed(change, local);
    } else if (local) {
      this.#post({ t: "local", from: this.#tab, change });
    }
  }

  ask<O extends AskOp>(op: O, fields: Requests[O]): Promise<Replies[O]> {
    if (this.#session) return this.#session.ask(op, fields);
    if (!this.#channel) return Promise.reject(new HubbubError("closed", "the client is not connected: call connect()"));
    return new Promise((resolve, reject) => {
      const id = ++this.#ids;
      const message: Told = { t: "ask", from: this.#tab, id, op, fields };
      const late = () => this.#answered(id, () => reject(new HubbubError("not_connected", "the tab with the connection does not answer", "later")));
      this.#asked.set(id, { message, resolve, reject, timer: setTimeout(late, this.host.settings.requestTimeoutMs + 1_000) });
      this.#post(message);
    });
  }

  /** Leads until it is stopped. */
  async #lead(signal: AbortSignal): Promise<void> {
    // What the store has beyond what this tab knows: everything, or requests made in other tabs.
    await this.host.reload(!this.#synced);
    if (signal.aborted) return;
    this.host.writes(true);
    this.#session = this.solo();
    this.#session.start();
    this.#post({ t: "lead" });
    for (const [id, { message, resolve, reject }] of this.#asked) {
      const { op, fields } = message as Extract<Told, { t: "ask" }>;
      this.#session.ask(op, fields as never).then(
        (reply) => this.#answered(id, () => resolve(reply as never)),
        (e: unknown) => this.#answered(id, () => reject(asError(e))),
      );
    }
    await new Promise<void>((resolve) => (this.#release = resolve));
  }

  #post(message: Told): void {
    this.#channel?.postMessage(message);
  }

  #hear(told: Told): void {
    if (this.#session) this.#hearAsLeader(told, this.#session);
    else this.#hearAsFollower(told);
  }

  #hearAsLeader(told: Told, session: Driver): void {
    switch (told.t) {
      case "join": {
        const { replica } = this.host;
        return this.#post({ t: "state", to: told.from, saved: replica.saved(), transient: replica.transient() });
      }
      case "local": {
        const { change } = told;
        // It was settled before its tab said so: whoever still shows it is told that it is over.
        const late = change.kind === "queued" && this.host.replica.wasSettled(change.item.cid);
        this.#origin = late ? undefined : told.from;
        this.host.commit(late ? { kind: "discarded", cid: change.item.cid } : change);
        this.#origin = undefined;
        return;
      }
      case "ask":
        session.ask(told.op, told.fields as never).then(
          (reply) => this.#post({ t: "answer", to: told.from, id: told.id, reply }),
          (e: unknown) => this.#post({ t: "answer", to: told.from, id: told.id, error: asError(e).plain() }),
        );
        return;
      case "start":
        return session.start();
      case "nudge":
        return session.nudge();
      default:
    }
  }

  #hearAsFollower(told: Told): void {
    switch (told.t) {
      case "lead":
        this.#post({ t: "join", from: this.#tab });
        for (const { message } of this.#asked.values()) this.#post(message);
        return;
      case "state":
        if (told.to !== this.#tab) return;
        this.#synced = true;
        return this.host.restore(told.saved, told.transient);
      case "change":
        // What was made here is here already.
        if (!this.#synced || told.origin === this.#tab) return;
        if (this.#missed(told.change)) {
          this.#synced = false;
          return this.#post({ t: "join", from: this.#tab });
        }
        return this.host.commit(told.change);
      case "answer":
        if (told.to !== this.#tab) return;
        return this.#answered(told.id, ({ resolve, reject }) => {
          if (told.error) reject(new HubbubError(told.error.code, told.error.message, told.error.retry));
          else resolve(told.reply as never);
        });
      default:
    }
  }

  /** A page that was frozen may have missed changes. */
  #missed(change: Change): boolean {
    if (change.kind !== "push") return false;
    const { push } = change;
    const first = push.op === "entry" ? push : push.op === "entries" ? push.entries[0] : undefined;
    return first !== undefined && this.host.replica.place(first) === "gap";
  }

  #answered(id: number, settle: (asked: Asked) => void): void {
    const asked = this.#asked.get(id);
    if (!asked) return;
    this.#asked.delete(id);
    clearTimeout(asked.timer);
    settle(asked);
  }
}
