/** Completing `@name` while one writes: what is being completed, who fits, what the text becomes. Pure. */

export type Candidate = { user: string; name: string; shown: string };
export type Begun = { from: number; to: number; text: string };

/** The `@…` that the caret stands in or behind. */
export function partial(text: string, caret: number): Begun | undefined {
  const match = /(?:^|[\s([{])@([\p{L}\p{N}_.-]{0,40})$/u.exec(text.slice(0, caret));
  if (!match) return undefined;
  const typed = match[1] ?? "";
  return { from: caret - typed.length - 1, to: caret, text: typed };
}

/** Names that begin with what was typed first, then those that contain it; at most eight. */
export function candidates(all: readonly Candidate[], typed: string): Candidate[] {
  const wanted = typed.toLocaleLowerCase();
  const rank = (c: Candidate) => {
    const names = [c.name, c.shown].map((n) => n.toLocaleLowerCase());
    return names.some((n) => n.startsWith(wanted)) ? 0 : names.some((n) => n.includes(wanted)) ? 1 : 2;
  };
  return all
    .map((c) => ({ c, r: rank(c) }))
    .filter(({ r }) => r < 2)
    .sort((a, b) => a.r - b.r || a.c.name.localeCompare(b.c.name))
    .slice(0, 8)
    .map(({ c }) => c);
}

/** The text with the name in it, and where the caret goes. */
export function completed(text: string, at: Begun, name: string): { text: string; caret: number } {
  const put = `@${name} `;
  return { text: text.slice(0, at.from) + put + text.slice(at.to).replace(/^ /, ""), caret: at.from + put.length };
}

/** Who of the candidates the text names. */
export function mentioned(text: string, all: readonly Candidate[]): string[] {
  const named = new Set([...text.matchAll(/@([\p{L}\p{N}_.-]+)/gu)].map((m) => (m[1] ?? "").toLowerCase()));
  const trimmed = new Set([...named, ...[...named].map((n) => n.replace(/[.-]+$/, ""))]);
  // The server takes 50 mentions.
  return all.filter((c) => trimmed.has(c.name.toLowerCase())).slice(0, 50).map((c) => c.user);
}
