/** Tabs that come, go and die by seed while their user and another one write; judged as in chaos.test.ts. */
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { Client } from "../src/index.js";
import { Browser } from "./support/browser.js";
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

interface Tab {
  client: Client;
  network: Network;
  parts: ReturnType<Browser["tab"]>;
}

/** The tabs of one browser, in the order of opening: the first one leads. */
class Tabs {
  readonly browser = new Browser();
  readonly all: Tab[] = [];
  constructor(private readonly account: Account) {}

  async open(): Promise<void> {
    const [network, parts] = [new Network(), this.browser.tab("alice")];
    const client = connect(server, this.account, { ...parts, WebSocket: network.WebSocket, requestTimeoutMs: 2_000 });
    await client.ready;
    this.all.push({ client, network, parts });
  }

  /** What was written in a tab is stored before it goes, or nobody could know of it. */
  async #stored({ client, parts }: Tab): Promise<void> {
    await until("what was written is stored", async () => {
      const { outbox } = await parts.store.load();
      return client.outbox().every((i) => outbox.some((o) => o.cid === i.cid));
    });
  }

  async close(at: number): Promise<void> {
    const [tab] = this.all.splice(at, 1) as [Tab];
    await this.#stored(tab);
    tab.client.close();
    // Whoever leads next does so from here: a leader that dies is the first of the line.
    await until("it has handed over", () => this.browser.locks.line("alice") === this.all.length);
  }

  /** The leader dies as if its process was killed. */
  async die(): Promise<void> {
    const tab = this.all.shift() as Tab;
    await this.#stored(tab);
    tab.network.down = true;
    tab.parts.kill(true);
    tab.network.cut();
  }
}

async function run(seed: number): Promise<void> {
  const roll = dice(seed);
  const [alice, bob] = (await friends(server, "alice", "bob")) as [Account, Account];
  const tabs = new Tabs(alice);
  await tabs.open();
  await tabs.all[0]?.client.caughtUp();
  const b = connect(server, bob);
  const room = await group(server, [alice, bob], [tabs.all[0]?.client as Client, b]);
  await tabs.open();
  await until("the other tab knows it", () => tabs.all[1]?.client.room(room)?.known);
  const sent: string[] = [];
  for (let i = 0; i < 200; i++) {
    const kind = roll(100);
    const { client, network } = tabs.all[roll(tabs.all.length)] as Tab;
    if (kind < 55) {
      sent.push(`alice:${i}`);
      void client.send(room, `alice:${i}`);
    } else if (kind < 70) void b.send(room, `bob:${i}`);
    else if (kind < 76) client.markRead(room);
    else if (kind < 82) network.cut();
    else if (kind < 86 && tabs.all.length < 4) await tabs.open();
    else if (kind < 90 && tabs.all.length > 1) await tabs.close(roll(tabs.all.length));
    else if (kind < 93 && tabs.all.length > 1) await tabs.die();
    else await new Promise((resolve) => setTimeout(resolve, roll(15)));
  }
  const lead = (tabs.all[0] as Tab).client;
  for (const client of [b, ...tabs.all.map((t) => t.client)]) {
    await until("caught up, nothing left to send", () => client.status.caughtUp && client.outbox().length === 0);
  }
  // What comes after everything is heard of by all.
  const { seq } = await lead.send(room, "the end");
  const entries = await until("the log is whole", async () => {
    const all = await log(server, alice, room);
    return all.length === seq && all;
  });
  // Tabs write beside each other: each text is there once, but only those of one tab have an order.
  const texts = entries.flatMap((e) => e.body.message?.text ?? []);
  expect(texts.filter((t) => t.startsWith("alice:")).sort()).toEqual([...sent].sort());
  for (const { client } of tabs.all) {
    const timeline = client.timeline(room);
    await until("the newest is applied", () => client.room(room)?.head === seq);
    while (timeline.get().hasBefore) await timeline.loadBefore(200);
    expect(timeline.get().messages).toEqual(folded(room, entries, alice.user));
    expect(client.room(room)?.unread).toBe(lead.room(room)?.unread);
  }
  expect(tabs.browser.locks.line("alice")).toBe(tabs.all.length);
}

test.each(seeds(3))("every tab shows the same, and nothing is lost or doubled: seed %i", (seed) => run(seed), 90_000);
