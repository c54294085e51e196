/** What can go wrong, as one class with a code for programs, a message for people, and whether trying again may help. */
import type { ErrorFrame, Retry } from "./types.js";

/** Codes of the server (docs/PROTOCOL.md, section 9). */
export type ServerCode =
  | "malformed" | "invalid" | "unknown_op" | "unauthorized" | "bad_credentials" | "token_expired" | "token_revoked" | "forbidden"
  | "not_found" | "method_not_allowed" | "conflict" | "resync" | "too_large" | "rate_limited" | "busy" | "unknown" | "unavailable"
  | "log_unavailable" | "quota_exceeded" | "draining" | "timeout" | "internal" | "precondition_failed" | "mfa_required";

/**
 * Codes of this client's own:
 * `not_connected` there is no connection; `closed` the client was closed; `full` as much waits as the client holds; `undecided` it cannot be
 * known whether the request took effect: look at the room, then decide; `unreachable` nothing answers there; `storage` what is kept offline
 * cannot be read or written; `unusable` the address or an answer cannot be used at all.
 */
export type LocalCode = "not_connected" | "closed" | "full" | "undecided" | "unreachable" | "storage" | "unusable";

/** A code; later servers may add some, so go by `retry` for one that you do not know. */
export type ErrorCode = ServerCode | LocalCode | (string & Record<never, never>);

/** The error of every method of this package. */
export class HubbubError extends Error {
  override readonly name = "HubbubError";
  constructor(
    readonly code: ErrorCode,
    message: string,
    readonly retry: Retry = "never",
    readonly retryAfterMs?: number,
  ) {
    super(message);
  }
  static from(frame: Pick<ErrorFrame, "code" | "message" | "retry" | "retry_after_ms">): HubbubError {
    return new HubbubError(frame.code, frame.message, frame.retry, frame.retry_after_ms);
  }
  /** Plain data, for stores and other tabs. */
  plain(): PlainError {
    const { code, message, retry } = this;
    return { code, message, retry };
  }
}

/** An error as plain data. */
export interface PlainError {
  code: ErrorCode;
  message: string;
  retry: Retry;
}

/** Anything thrown, as an error of ours. */
export function asError(e: unknown, code: ErrorCode = "unusable", retry: Retry = "never"): HubbubError {
  return e instanceof HubbubError ? e : new HubbubError(code, e instanceof Error ? e.message : String(e), retry);
}
