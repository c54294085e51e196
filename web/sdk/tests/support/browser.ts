/** A browser's storage and locks for several tabs in one process. */
import { IDBFactory } from "fake-indexeddb";
import "fake-indexeddb/auto";
import { offline, type Channel, type Locks } from "../../src/offline/index.js";

interface Asking {
  run(): Promise<void>;
  dead: boolean;
}

/** Web Locks: one holder a name, the others in line behind it. */
class FakeLocks {
  readonly #lines = new Map<string, Asking[]>();

  #of(name: string): Asking[] {
    const line = this.#lines.get(name) ?? [];
    this.#lines.set(name, line);
    return line;
  }

  request(name: string, { signal }: { signal?: AbortSignal }, work: () => unknown): Promise<unknown> {
    const line = this.#of(name);
    return new Promise((resolve, reject) => {
      const asking: Asking = {
        dead: false,
        run: async () => {
          try {
            resolve(await work());
          } catch (e) {
            reject(e as Error);
          }
          if (!asking.dead) this.#next(line);
        },
      };
      signal?.addEventListener("abort", () => {
        const at = line.indexOf(asking);
        // The holder lets go by itself.
        if (at <= 0) return;
        line.splice(at, 1);
        reject(new DOMException("given up", "AbortError"));
      });
      if (line.push(asking) === 1) void asking.run();
    });
  }

  #next(line: Asking[]): void {
    line.shift();
    void line[0]?.run();
  }

  /** Who holds or waits for a name. */
  line(name: string): number {
    return this.#of(name).length;
  }

  /** Its holder has died: whatever it still does, it holds nothing any more. */
  die(name: string): void {
    const line = this.#of(name);
    if (line[0]) line[0].dead = true;
    this.#next(line);
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
    const { store } = parts;
    let dead = false;
    return {
      ...parts,
      store: {
        load: () => store.load(),
        // What a dead tab wants to write is never written.
        write: (writes) => (dead ? new Promise(() => {}) : store.write(writes)),
        close: () => store.close(),
      },
      kill: (leads) => {
        dead = true;
        for (const each of channels) each.close();
        if (leads) this.locks.die(name);
      },
    };
  }
}
