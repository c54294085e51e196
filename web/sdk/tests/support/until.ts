/** Waiting in tests: for a condition, never for a time. */

/** Looks until `done` gives something; says what was waited for when the deadline passes. */
export async function until<R>(what: string, done: () => R | Promise<R>, withinMs = 20_000): Promise<Exclude<R, false | undefined | null>> {
  const deadline = Date.now() + withinMs;
  for (;;) {
    const result = await done();
    if (result) return result as Exclude<R, false | undefined | null>;
    if (Date.now() > deadline) throw new Error(`not within ${withinMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
