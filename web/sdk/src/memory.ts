/** A store in memory: for Node, for tests, and for a browser that keeps nothing. Outlives a client, not the process. */
import type { Saved, Store, Write } from "./state.js";

export class MemoryStore implements Store {
  #user: string | undefined;
  #rooms = new Map<string, Saved["rooms"][number]>();
  #messages = new Map<string, Map<number, Saved["messages"][number]>>();
  #outbox = new Map<string, Saved["outbox"][number]>();
  #drafts = new Map<string, string>();

  async load(): Promise<Saved> {
    return {
      ...(this.#user === undefined ? {} : { user: this.#user }),
      rooms: [...this.#rooms.values()],
      messages: [...this.#messages.values()].flatMap((room) => [...room.values()]),
      outbox: [...this.#outbox.values()].sort((a, b) => (a.cid < b.cid ? -1 : 1)),
      drafts: Object.fromEntries(this.#drafts),
    };
  }

  async write(writes: readonly Write[]): Promise<void> {
    for (const write of writes) "put" in write ? this.#put(write) : this.#drop(write);
  }

  close(): void {}

  #put(write: Extract<Write, { put: string }>): void {
    if (write.put === "user") this.#user = write.user;
    else if (write.put === "room") this.#rooms.set(write.room.view.room, write.room);
    else if (write.put === "item") this.#outbox.set(write.item.cid, write.item);
    else if (write.put === "draft") this.#drafts.set(write.room, write.text);
    else {
      const { message } = write;
      const room = this.#messages.get(message.room) ?? new Map<number, typeof message>();
      this.#messages.set(message.room, room.set(message.seq, message));
    }
  }

  #drop(write: Extract<Write, { drop: string }>): void {
    if (write.drop === "item") this.#outbox.delete(write.cid);
    else if (write.drop === "draft") this.#drafts.delete(write.room);
    else if (write.drop === "room") {
      this.#rooms.delete(write.room);
      this.#messages.delete(write.room);
    } else if (write.drop === "messages") {
      const room = this.#messages.get(write.room);
      for (const seq of room?.keys() ?? []) if (seq <= write.upTo) room?.delete(seq);
    } else {
      this.#user = undefined;
      for (const all of [this.#rooms, this.#messages, this.#outbox, this.#drafts]) all.clear();
    }
  }
}
