/** The seam between what a client holds and what moves it: one socket (`session.ts`), or another tab's (`offline/tabs.ts`). */
import type { Backoff } from "./backoff.js";
import type { Format } from "./codec.js";
import type { SocketClass } from "./connection.js";
import type { HubbubError } from "./errors.js";
import type { Replica } from "./replica.js";
import type { Change, Saved, Transient } from "./state.js";
import type { AskOp, Replies, Requests } from "./types.js";

/** Gives an access token; `fresh`: the one given last is over or about to be. */
export type TokenProvider = (ask: { fresh: boolean }) => string | Promise<string>;

export interface Settings {
  readonly url: string;
  readonly token: TokenProvider;
  readonly format: Format;
  readonly socketClass: SocketClass;
  readonly requestTimeoutMs: number;
  readonly backoff: Backoff;
}

/** What a driver may do with the client it drives. */
export interface Host {
  readonly settings: Settings;
  readonly replica: Replica;
  /** Applies a change, and tells the driver of it. */
  commit(change: Change): void;
  /** Resolves once everything committed so far is stored. */
  saved(): Promise<void>;
  /** Whether this client stores what it holds; with several tabs only the leader does. All is stored anew when it begins. */
  writes(on: boolean): void;
  /** Reads the store again, since another tab wrote it until now: `all` of it, or only requests that are not known here. */
  reload(all: boolean): Promise<void>;
  /** Takes in what another tab holds. */
  restore(saved: Saved, transient: Transient): void;
  error(error: HubbubError): void;
}

export interface Driver {
  start(): void;
  stop(): void;
  /** A request that may be asked twice. */
  ask<O extends AskOp>(op: O, fields: Requests[O]): Promise<Replies[O]>;
  /** A change was applied; `local`: it was made here, by the program, not by the driver. */
  committed(change: Change, local: boolean): void;
  /** The network may be back, or the page was opened again: do not wait any longer than one must. */
  nudge(): void;
}

export type DriverFactory = (host: Host, solo: () => Driver) => Driver;
