/** Typed events: a listener's mistake is reported and stops nobody else. */

export class Emitter<Events> {
  readonly #listeners = new Map<keyof Events, Set<(event: never) => void>>();

  /** Calls `listener` at every event of that name; gives the way to stop it. */
  on<K extends keyof Events>(name: K, listener: (event: Events[K]) => void): () => void {
    const all = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, all);
    all.add(listener);
    return () => void all.delete(listener);
  }

  emit<K extends keyof Events>(name: K, event: Events[K]): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        (listener as (event: Events[K]) => void)(event);
      } catch (e) {
        reportError(e);
      }
    }
  }
}

/** Node has no `reportError`; there the mistake becomes an uncaught exception, as one in a timer would. */
function reportError(e: unknown): void {
  if (typeof globalThis.reportError === "function") globalThis.reportError(e);
  else queueMicrotask(() => { throw e; });
}
