/** What a push becomes on the screen. Pure; `sw.ts` does it. */

/** What the server sends to a device. */
export type Payload = { id?: string; room: string; seq: number; title?: string; body?: string; n?: number; unread?: number; user?: string };

/** What is kept with a notification that is shown. */
export type Kept = { room: string; seq: number; lines: string[] };

export type Deed = { do: "nothing" } | { do: "withdraw" } | { do: "show"; title: string; body: string; kept: Kept; count: number };

/** Lines of one room that are shown together. */
const LINES_MAX = 4;

export function read(json: unknown): Payload | undefined {
  if (typeof json !== "object" || json === null) return undefined;
  const p = json as Record<string, unknown>;
  return typeof p.room === "string" && /^\d{1,19}$/.test(p.room) && typeof p.seq === "number" ? (p as Payload) : undefined;
}

/** One notification a room: a newer message joins those that are shown; one that was shown already, or read elsewhere, does not. */
export function decide(p: Payload, shown: Kept | undefined, looking: boolean): Deed {
  if (p.unread === 0) return { do: "withdraw" };
  if (looking || (shown && shown.seq >= p.seq)) return { do: "nothing" };
  // What was read meanwhile, on another device, is not shown again.
  const unread = Math.max(1, Math.min(LINES_MAX, p.unread ?? LINES_MAX));
  const lines = [...(shown?.lines ?? []), ...(p.body ? [p.body] : [])].slice(-unread);
  return { do: "show", title: p.title || "Hubbub", body: lines.join("\n"), kept: { room: p.room, seq: p.seq, lines }, count: p.unread ?? lines.length };
}
