/** Numbers from a seed (mulberry32). */
export function dice(seed: number): (sides: number) => number {
  let state = seed;
  return (sides) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % sides;
  };
}

/** The seeds of this run: CHAOS_SEED is the first, CHAOS_RUNS how many; HUBBUB_SOAK is for many. */
export function seeds(usual: number): number[] {
  const first = Number(process.env["CHAOS_SEED"] ?? 1);
  const runs = Number(process.env["CHAOS_RUNS"] ?? (process.env["HUBBUB_SOAK"] ? 30 : usual));
  return Array.from({ length: runs }, (_, i) => first + i);
}
