/** Which rooms and people fit a few letters, best first. Pure. */

export type Target = { room?: string; user?: string; kind: string; unread: number; name: string };

const SHOWN_MAX = 9;

/** With nothing typed: what is unread first, then as given. Else: begins with it, a word begins with it, contains it, has its letters in order. */
export function rank(targets: readonly Target[], typed: string): Target[] {
  const wanted = typed.trim().toLocaleLowerCase();
  if (!wanted) return [...targets].sort((a, b) => Number(b.unread > 0) - Number(a.unread > 0)).slice(0, SHOWN_MAX);
  return targets
    .map((target, i) => ({ target, i, score: score(target.name.toLocaleLowerCase(), wanted) }))
    .filter((s) => s.score > 0)
    .sort((a, b) => b.score - a.score || Number(b.target.unread > 0) - Number(a.target.unread > 0) || a.i - b.i)
    .slice(0, SHOWN_MAX)
    .map((s) => s.target);
}

function score(name: string, wanted: string): number {
  if (name.startsWith(wanted)) return 4;
  if (name.split(/[\s_.-]+/).some((w) => w.startsWith(wanted))) return 3;
  if (name.includes(wanted)) return 2;
  let at = 0;
  for (const c of name) if (c === wanted[at]) at++;
  return at === wanted.length ? 1 : 0;
}
