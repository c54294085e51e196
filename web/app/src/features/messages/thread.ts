/** A thread put together from what the server stored and what is live in the room. Pure. */
import type { Item, Message } from "../../chat/types";

/** Root first, then by seq, then what is still being sent. What is live is newer than what was read. */
export function threadOf(root: number, stored: readonly Message[], live: readonly Item[]): Message[] {
  const all = new Map<string, Message>();
  const key = (m: Message) => (m.seq === undefined ? m.key : `#${m.seq}`);
  for (const m of stored) all.set(key(m), m);
  for (const m of live) if (m.kind === "message" && (m.seq === root || m.thread === root)) all.set(key(m), m);
  return [...all.values()].sort((a, b) => (a.seq ?? Number.MAX_SAFE_INTEGER) - (b.seq ?? Number.MAX_SAFE_INTEGER) || a.at - b.at);
}
