/**
 * Everything at once, by seed: people write, edit, react and read while sockets are cut, pages reloaded, the server killed. At the end the
 * server's log is the judge: everybody shows what it says, everything sent stands in it once and in the order of sending.
 *
 * A failing run prints its seed; CHAOS_SEED runs that one again, CHAOS_RUNS as many as one likes.
 */
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { MemoryStore, type Client } from "../src/index.js";
import { closeAll, connect } from "./support/client.js";
import { dice, seeds } from "./support/dice.js";
import { folded, log } from "./support/judge.js";
import { friends, group } from "./support/people.js";
import { Server, type Account } from "./support/server.js";
import { Network } from "./support/sockets.js";
import { until } from "./support/until.js";

let server: Server;
beforeAll(async () => {
  server = await Server.start({ "dev.lose_envelopes_every": 37 });
});
afterEach(closeAll);
afterAll(() => server.stop());

class Person {
  client: Client;
  readonly network = new Network();
  readonly store = new MemoryStore();
  /** Texts by room in the order of sending. */
  readonly sent: string[][] = [[], []];
  #count = 0;

  constructor(
    readonly account: Account,
    private readonly format: "json" | "msgpack",
  ) {
    this.client = this.#open();
  }

  #open(): Client {
    return connect(server, this.account, { store: this.store, WebSocket: this.network.WebSocket, format: this.format, requestTimeoutMs: 2_000 });
  }

  send(rooms: string[], which: number): void {
    const text = `${this.account.name}:${which}:${this.#count++}`;
    (this.sent[which] as string[]).push(text);
    void this.client.send(rooms[which] as string, text);
  }

  /** As if the page was loaded again: only what is stored goes on. */
  async reload(): Promise<void> {
    const before = this.client;
    await until("what was sent is stored", async () => {
      const { outbox } = await this.store.load();
      return before.outbox().every((i) => outbox.some((o) => o.cid === i.cid));
    });
    before.close();
    this.client = this.#open();
    await this.client.ready;
  }
}

async function step(roll: (sides: number) => number, people: Person[], rooms: string[]): Promise<void> {
  const person = people[roll(people.length)] as Person;
  const which = roll(rooms.length);
  const room = rooms[which] as string;
  const { client } = person;
  const messages = client.timeline(room).get().messages;
  const some = messages[roll(Math.max(1, messages.length))];
  const kind = roll(100);
  if (kind < 60 || !some) person.send(rooms, which);
  else if (kind < 70) void client.react(room, some.seq, ["👍", "❤"][roll(2)] as string, roll(2) === 0);
  else if (kind < 76) void client.edit(room, some.seq, `${some.text} (edited)`);
  else if (kind < 79) void client.delete(room, some.seq);
  else if (kind < 82) void client.pin(room, some.seq, roll(2) === 0);
  else if (kind < 86) client.markRead(room);
  else if (kind < 92) person.network.cut();
  else if (kind < 95) person.network.down = !person.network.down;
  else if (kind < 98) await person.reload();
  // Time for the network to do something in between.
  else await new Promise((resolve) => setTimeout(resolve, roll(20)));
  if (roll(8) === 0) await new Promise((resolve) => setImmediate(resolve));
}

/** A request that is sent again is the same but for its number. */
function sameEveryTime(frames: string[]): void {
  const first = new Map<string, object>();
  for (const frame of frames) {
    const { ref: _, ...request } = JSON.parse(frame) as { ref: number; cid?: string };
    if (request.cid === undefined) continue;
    expect(request).toEqual(first.get(request.cid) ?? request);
    first.set(request.cid, request);
  }
}

async function run(seed: number): Promise<void> {
  const roll = dice(seed);
  const accounts = await friends(server, "alice", "bob", "carol");
  const people = accounts.map((account, i) => new Person(account, i === 1 ? "json" : "msgpack"));
  const clients = people.map((p) => p.client);
  await Promise.all(clients.map((c) => c.caughtUp()));
  const rooms = [await group(server, accounts, clients), await group(server, accounts, clients)];
  const kills = [80 + roll(60), 200 + roll(60)];
  for (let i = 0; i < 300; i++) {
    if (kills.includes(i)) await server.crash();
    await step(roll, people, rooms);
  }
  for (const { network } of people) network.down = false;
  for (const { client } of people) client.nudge();
  for (const { client } of people) {
    await until("caught up, nothing left to send", () => client.status.caughtUp && client.outbox().length === 0);
  }
  for (const { network } of people) sameEveryTime(network.sent);
  for (const [which, room] of rooms.entries()) {
    const entries = await log(server, accounts[0] as Account, room);
    const texts = entries.flatMap((e) => (e.body.message ? [e.body.message.text] : []));
    for (const { account, sent, client, network } of people) {
      expect(texts.filter((t) => t.startsWith(`${account.name}:`))).toEqual(sent[which]);
      const timeline = client.timeline(room);
      await until("the newest is applied", () => client.room(room)?.head === entries.at(-1)?.seq);
      while (timeline.get().hasBefore) await timeline.loadBefore(200);
      expect(timeline.get().messages).toEqual(folded(room, entries, account.user));
      expect(network.most).toBe(1);
    }
  }
}

test.each(seeds(3))("nothing is lost, doubled or out of order: seed %i", (seed) => run(seed), 90_000);
