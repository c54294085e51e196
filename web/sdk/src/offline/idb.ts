/**
 * A store in IndexedDB: one database per user, one transaction per write, so that what is stored is always how it was at one moment.
 *
 * Writes that hold a request of the outbox are flushed to the disk before they count. A database that another version of the program wants to
 * change is let go; what is written after that fails, and the client tells it.
 */
import type { Item, Message, Saved, SavedRoom, Store, Write } from "../state.js";

const VERSION = 1;
const TABLES = ["meta", "rooms", "messages", "outbox", "drafts"] as const;
type Table = (typeof TABLES)[number];

export class IdbStore implements Store {
  readonly #db: Promise<IDBDatabase>;

  constructor(name: string, factory: IDBFactory) {
    this.#db = open(name, factory);
    // Whoever reads or writes is told.
    this.#db.catch(() => {});
  }

  async load(): Promise<Saved> {
    const db = await this.#db;
    const tx = db.transaction(TABLES, "readonly");
    const all = <R>(table: Table) => answer(tx.objectStore(table).getAll()) as Promise<R[]>;
    const [user, rooms, messages, outbox, texts, drafts] = await Promise.all([
      answer(tx.objectStore("meta").get("user")) as Promise<string | undefined>,
      all<SavedRoom>("rooms"),
      all<Message>("messages"),
      // By client id, which is the order of sending.
      all<Item>("outbox"),
      all<string>("drafts"),
      answer(tx.objectStore("drafts").getAllKeys()) as Promise<string[]>,
    ]);
    return { ...(user === undefined ? {} : { user }), rooms, messages, outbox, drafts: Object.fromEntries(drafts.map((room, i) => [room, texts[i] ?? ""])) };
  }

  async write(writes: readonly Write[]): Promise<void> {
    const db = await this.#db;
    const durability = writes.some((w) => "put" in w && w.put === "item") ? "strict" : "relaxed";
    await new Promise<void>((resolve, reject) => {
      const tx = db.transaction(TABLES, "readwrite", { durability });
      tx.oncomplete = () => resolve();
      tx.onabort = () => reject(tx.error ?? new Error("the write was given up"));
      for (const write of writes) apply(tx, write);
    });
  }

  close(): void {
    this.#db.then((db) => db.close(), () => {});
  }
}

function apply(tx: IDBTransaction, write: Write): void {
  const table = (name: Table) => tx.objectStore(name);
  if ("put" in write) {
    if (write.put === "user") table("meta").put(write.user, "user");
    else if (write.put === "room") table("rooms").put(write.room, write.room.view.room);
    else if (write.put === "message") table("messages").put(write.message, [write.message.room, write.message.seq]);
    else if (write.put === "item") table("outbox").put(write.item, write.item.cid);
    else table("drafts").put(write.text, write.room);
  } else if (write.drop === "item") table("outbox").delete(write.cid);
  else if (write.drop === "draft") table("drafts").delete(write.room);
  else if (write.drop === "all") for (const name of TABLES) table(name).clear();
  else {
    const upTo = write.drop === "messages" ? write.upTo : Infinity;
    table("messages").delete(IDBKeyRange.bound([write.room, 0], [write.room, upTo]));
    if (write.drop === "room") table("rooms").delete(write.room);
  }
}

async function open(name: string, factory: IDBFactory): Promise<IDBDatabase> {
  const request = factory.open(name, VERSION);
  request.onupgradeneeded = () => {
    for (const table of TABLES) request.result.createObjectStore(table);
  };
  const db = await answer(request);
  db.onversionchange = () => db.close();
  return db;
}

function answer<R>(request: IDBRequest<R>): Promise<R> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("the database did not answer"));
  });
}
