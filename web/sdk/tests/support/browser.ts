/** A browser's storage and locks for several tabs in one process. */
import { IDBFactory } from "fake-indexeddb";
import "fake-indexeddb/auto";
import { offline, type Channel, type Locks } from "../../src/offline/index.js";

interface Waiting {
  run(): Promise<void>;
  signal: AbortSignal | undefined;
}

/** Web Locks: one holder a name, the others in line. */
class FakeLocks {
  readonly #lines = new Map<string, Waiting[]>();

  request(name: string, options: { signal?: AbortSignal } | (() => unknown), work?: () => unknown): Promise<unknown> {
    const [callback, signal] = typeof options === "function" ? [options, undefined] : [work as () => unknown, options.signal];
    return new Promise((resolve, reject) => {
      const line = this.#lines.get(name) ?? [];
      this.#lines.set(name, line);
      const waiting: Waiting = {
        signal,
        run: async () => {
          try {
            resolve(await callback());
          } catch (e) {
            reject(e as Error);
          }
          line.shift();
          void line[0]?.run();
        },
      };
      signal?.addEventListener("abort", () => {
        const at = line.indexOf(waiting);
        if (at > 0) {
          line.splice(at, 1);
          reject(new DOMException("given up", "AbortError"));
        }
      });
      if (line.push(waiting) === 1) void waiting.run();
    });
  }

  /** Its holder has died: what it was doing goes on for nobody. */
  die(name: string): void {
    const line = this.#lines.get(name) ?? [];
    const next = line[1];
    line.shift();
    // The dead one's turn ends nothing any more.
    this.#lines.set(name, [...line]);
    const alive = this.#lines.get(name) as Waiting[];
    line.length = 0;
    line.push(...alive);
    void next?.run();
  }
}

/** Channels of one browser, in order, as copies; a dead tab hears and says nothing. */
class FakeChannel implements Channel {
  onmessage: ((event: never) => void) | null = null;
  dead = false;
  constructor(private readonly all: Set<FakeChannel>) {
    all.add(this);
  }
  postMessage(message: unknown): void {
    if (this.dead) return;
    for (const other of this.all) {
      if (other === this) continue;
      const data = structuredClone(message);
      setImmediate(() => !other.dead && other.onmessage?.({ data } as never));
    }
  }
  close(): void {
    this.dead = true;
    this.all.delete(this);
  }
}

export class Browser {
  readonly indexedDB = new IDBFactory();
  readonly locks = new FakeLocks();
  readonly #channels = new Set<FakeChannel>();

  /** What a tab's client is made with, and a way to kill the tab: its socket is the test's to cut. */
  tab(name: string): ReturnType<typeof offline> & { kill(leads: boolean): void } {
    const channels: FakeChannel[] = [];
    const channel = () => {
      const made = new FakeChannel(this.#channels);
      channels.push(made);
      return made;
    };
    const parts = offline(name, { indexedDB: this.indexedDB, locks: this.locks as unknown as Locks, channel });
    return {
      ...parts,
      kill: (leads) => {
        for (const each of channels) each.close();
        if (leads) this.locks.die(name);
      },
    };
  }
}
