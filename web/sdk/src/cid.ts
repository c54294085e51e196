/** Client ids: UUIDs of version 7, in order of making within a process, so that an outbox sorted by them is in the order of sending. */

let last = 0;

/** A new one. */
export function newCid(now = Date.now()): string {
  // 48 bits of time and 12 of a counter; a clock that stands or goes back only moves the counter on.
  last = Math.max(last + 1, now * 4096);
  const random = crypto.getRandomValues(new Uint8Array(8));
  const time = Math.floor(last / 4096).toString(16).padStart(12, "0");
  const count = (last % 4096).toString(16).padStart(3, "0");
  random[0] = ((random[0] ?? 0) & 0x3f) | 0x80;
  const tail = Array.from(random, (b) => b.toString(16).padStart(2, "0")).join("");
  return `${time.slice(0, 8)}-${time.slice(8)}-7${count}-${tail.slice(0, 4)}-${tail.slice(4)}`;
}
