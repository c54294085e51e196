/**
 * What is shown of a room's messages: a window that begins at the newest messages or at one that was jumped to, and grows at both ends.
 *
 * A timeline holds what it shows in memory until it is closed. It reads its first page by itself, as soon as there is a connection, and again
 * after `resync`.
 */
import type { Client } from "./client.js";
import { asError, type HubbubError } from "./errors.js";
import type { Range } from "./room.js";
import type { Message, Pending } from "./state.js";
import type { Id, Requests, Seq } from "./types.js";

export interface TimelineView {
  /** Oldest first, without holes. */
  readonly messages: readonly Message[];
  /** One's own messages that are not in the log yet; they belong after the newest message. */
  readonly pending: readonly Pending[];
  readonly hasBefore: boolean;
  readonly hasAfter: boolean;
  /** A page is on its way. */
  readonly loading: "before" | "after" | "jump" | undefined;
  /** Why the last page did not come; the next attempt clears it. */
  readonly error: HubbubError | undefined;
}

/** Messages that are read at first. */
const FIRST = 50;

export class Timeline {
  /** A message of the window; undefined: the newest. */
  #anchor: Seq | undefined;
  #loading: TimelineView["loading"];
  #error: HubbubError | undefined;
  #view: TimelineView | undefined;
  #listeners = new Set<() => void>();
  #stop: (() => void)[];
  #closed = false;

  /** Made by `Client.timeline`. */
  constructor(
    private readonly client: Client,
    readonly room: Id,
    private readonly opened: (open: boolean) => void,
  ) {
    opened(true);
    const again = () => {
      this.#changed();
      this.#fill();
    };
    this.#stop = [client.watch(`messages:${room}`, again), client.watch("status", () => this.#fill())];
    this.#fill();
  }

  /** What is shown now; the same object until something changes. */
  get(): TimelineView {
    return (this.#view ??= this.#make());
  }

  /** Calls back at every change of `get()`; gives the way to stop it. */
  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Reads older messages. What goes wrong stands in `error` of the view. */
  async loadBefore(limit = FIRST): Promise<void> {
    const range = this.#range();
    if (range.from > 0) await this.#load("before", { room: this.room, before: range.from + 1, limit });
  }

  /** Reads newer messages, where the window does not reach the newest. */
  async loadAfter(limit = FIRST): Promise<void> {
    if (this.get().hasAfter) await this.#load("after", { room: this.room, after: this.#range().to, limit });
  }

  /** Shows the messages around a seq. */
  async jumpTo(seq: Seq, limit = FIRST): Promise<void> {
    if (!this.client.rangeOf(this.room, seq) && !(await this.#load("jump", { room: this.room, around: seq, limit }))) return;
    this.#anchor = seq;
    this.#changed();
  }

  /** Shows the newest messages. */
  jumpToLatest(): void {
    this.#anchor = undefined;
    this.#changed();
    this.#fill();
  }

  /** Ends it: what it showed may be let go. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const stop of this.#stop) stop();
    this.opened(false);
  }

  #range(): Range {
    return (this.#anchor !== undefined && this.client.rangeOf(this.room, this.#anchor)) || this.client.rangeOf(this.room) || { from: 0, to: 0 };
  }

  #make(): TimelineView {
    const range = this.#range();
    const latest = this.client.rangeOf(this.room);
    return {
      messages: this.client.messagesIn(this.room, range),
      pending: this.client.pending(this.room),
      hasBefore: range.from > 0,
      hasAfter: latest !== undefined && range.to < latest.to,
      loading: this.#loading,
      error: this.#error,
    };
  }

  #changed(): void {
    this.#view = undefined;
    for (const listener of [...this.#listeners]) listener();
  }

  #fill(): void {
    const { loading, hasBefore, messages } = this.get();
    if (this.#closed || loading || !this.client.status.caughtUp || !hasBefore || messages.length >= FIRST / 2 || this.#anchor !== undefined) return;
    void this.loadBefore();
  }

  async #load(what: TimelineView["loading"], ask: Requests["history"]): Promise<boolean> {
    if (this.#loading) return false;
    this.#loading = what;
    this.#error = undefined;
    this.#changed();
    try {
      await this.client.request("history", ask);
      return true;
    } catch (e) {
      this.#error = asError(e);
      return false;
    } finally {
      this.#loading = undefined;
      this.#changed();
    }
  }
}
