/** How long a client waits before it connects again, and what a close code says about it (docs/PROTOCOL.md, section 10). */
import type { Retry } from "./types.js";

/** What to do after a Close with this code; by range, so that later codes are obeyed too. */
export function afterClose(code: number): Retry {
  if (code === 1006 || code === 1011 || (code >= 4000 && code < 4100)) return "now";
  if (code === 1001 || code === 1012 || code === 1013 || (code >= 4100 && code < 4200)) return "later";
  return "never";
}

/** "Later" begins here when the server did not name a time. */
const LATER_FIRST_MS = 1000;

/** Doubles with jitter in the upper half: clients that lost the same server do not come back at the same instant. */
export class Backoff {
  failures = 0;
  constructor(
    private readonly firstMs = 200,
    private readonly maxMs = 30_000,
    private readonly dice: () => number = Math.random,
  ) {}
  /** A resume went through: the next failure is a first one again. */
  succeeded(): void {
    this.failures = 0;
  }
  /** The wait before the next attempt. */
  wait(retry: Exclude<Retry, "never">): number {
    const first = retry === "now" ? this.firstMs : Math.max(this.firstMs, Math.min(LATER_FIRST_MS, this.maxMs));
    const full = Math.min(this.maxMs, first * 2 ** Math.min(this.failures++, 16));
    return full * (0.5 + this.dice() / 2);
  }
}
