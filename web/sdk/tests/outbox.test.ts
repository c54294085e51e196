/** What a user sends takes effect once and in order, whatever breaks. */
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { Client, MemoryStore, type Entry } from "../src/index.js";
import { closeAll, connect } from "./support/client.js";
import { log } from "./support/judge.js";
import { friends, group, settled } from "./support/people.js";
import { Server, type Account } from "./support/server.js";
import { Network } from "./support/sockets.js";
import { until } from "./support/until.js";

let server: Server;
beforeAll(async () => {
  server = await Server.start();
});
afterEach(closeAll);
afterAll(() => server.stop());

const texts = (entries: Entry[]) => entries.flatMap((e) => e.body.message?.text ?? []);
const numbered = (count: number) => Array.from({ length: count }, (_, i) => `message ${i}`);

test("a full outbox outlives the server's death and comes back once and in order", async () => {
  const [alice, bob] = (await friends(server, "alice", "bob")) as [Account, Account];
  const a = connect(server, alice);
  const room = await group(server, [alice, bob], [a]);
  const tickets = numbered(150).map((text) => a.send(room, text));
  // It dies in the middle of it, twice, once without being told anything first.
  for (const some of [20, 70]) {
    await tickets[some];
    await server.crash();
  }
  const numbers = await Promise.all(tickets);
  expect(numbers.map((n) => n.seq)).toEqual([...numbers].map((n) => n.seq).sort((x, y) => x - y));
  expect(texts(await log(server, alice, room))).toEqual(numbered(150));
  await settled(a);
});

test("a full outbox outlives the page: what another page finds in the store is sent once and in order", async () => {
  const [alice, bob] = (await friends(server, "alice", "bob")) as [Account, Account];
  const store = new MemoryStore();
  const network = new Network();
  const a = connect(server, alice, { store, WebSocket: network.WebSocket });
  const room = await group(server, [alice, bob], [a]);
  const tickets = numbered(100).map((text) => a.send(room, text));
  await tickets[30];
  // The page is gone: nothing of it runs any more, and no answer reaches it.
  a.close();
  expect(a.outbox().length).toBeGreaterThan(50);
  const offline = new Client({ url: server.url, token: () => alice.access_token, store, WebSocket: network.WebSocket });
  await offline.ready;
  expect(offline.pending(room).length).toBeGreaterThanOrEqual(a.outbox().length);
  void offline.send(room, "written offline");
  await until("it is stored", async () => (await store.load()).outbox.some((i) => i.fields["text"] === "written offline"));

  const again = connect(server, alice, { store });
  await again.caughtUp();
  await settled(again);
  expect(texts(await log(server, alice, room))).toEqual([...numbered(100), "written offline"]);
});

test("a send whose answer was lost is settled by its entry, or by sending it again", async () => {
  const [alice, bob] = (await friends(server, "alice", "bob")) as [Account, Account];
  const network = new Network();
  const a = connect(server, alice, { WebSocket: network.WebSocket, format: "json", requestTimeoutMs: 500 });
  const room = await group(server, [alice, bob], [a]);
  network.lose = '"op":"ok"';
  expect((await a.send(room, "the entry came")).seq).toBeGreaterThan(0);
  const ticket = a.send(room, "cut");
  await until("it is on its way", () => a.outbox()[0]?.since !== undefined);
  network.cut();
  const { seq } = await ticket;
  expect((await a.send(room, "after")).seq).toBe(seq + 1);
  expect(texts(await log(server, alice, room))).toEqual(["the entry came", "cut", "after"]);
});

test("what is refused is told, stays to be seen, and can be sent anew or taken back", async () => {
  const [alice, bob] = (await friends(server, "alice", "bob")) as [Account, Account];
  const [a, b] = [connect(server, alice), connect(server, bob)];
  const room = await group(server, [alice, bob], [a, b]);
  const failed: string[] = [];
  a.on("failed", ({ item, error }) => failed.push(`${item.op} ${error.code}`));
  const ticket = a.send(room, "x".repeat(20_000));
  await expect(ticket).rejects.toMatchObject({ code: "too_large", retry: "never" });
  expect(a.pending(room)).toMatchObject([{ cid: ticket.cid, state: "failed", error: { code: "too_large" } }]);
  // It holds up nothing behind it.
  await a.send(room, "fine");
  await expect(a.retry(ticket.cid)).rejects.toMatchObject({ code: "too_large" });
  const cid = a.pending(room)[0]?.cid ?? "";
  expect(cid).not.toBe(ticket.cid);
  expect(a.discard(cid)).toBe(true);
  expect(a.pending(room)).toEqual([]);
  await expect(b.submit("kick", { room, user: alice.user })).rejects.toMatchObject({ code: "forbidden" });
  await settled(b);
  expect(failed).toEqual(["send too_large", "send too_large"]);
});

test("one's own changes are shown at once, and taken back when they are refused", async () => {
  const [alice, bob] = (await friends(server, "alice", "bob")) as [Account, Account];
  const [a, b] = [connect(server, alice), connect(server, bob)];
  const room = await group(server, [alice, bob], [a, b]);
  const { seq } = await a.send(room, "hello");
  await until("bob has it", () => b.room(room)?.head === seq);
  const shown = () => b.timeline(room).get().messages.at(-1);
  const reacted = b.react(room, seq, "👍");
  expect(shown()?.reactions).toEqual([{ emoji: "👍", users: [bob.user] }]);
  await reacted;
  expect(shown()?.reactions).toEqual([{ emoji: "👍", users: [bob.user] }]);
  const edited = b.edit(room, seq, "mine now");
  expect(shown()?.text).toBe("mine now");
  await expect(edited).rejects.toMatchObject({ code: "forbidden" });
  expect(shown()).toMatchObject({ text: "hello", reactions: [{ emoji: "👍", users: [bob.user] }] });
});

test("the outbox has a bound, and refuses above it", async () => {
  const alice = await server.account("alice");
  const a = new Client({ url: server.url, token: () => alice.access_token, WebSocket: class {}, outboxMax: 2 });
  await a.ready;
  void a.send("5", "one");
  void a.send("5", "two");
  await expect(a.send("5", "three")).rejects.toMatchObject({ code: "full", retry: "later" });
  expect(a.pending("5").map((p) => p.text)).toEqual(["one", "two"]);
});

test("a request too old to be recognised is looked for, then sent as if for the first time", async () => {
  const own = await Server.start({ "rooms.repeat_window": 10 });
  try {
    const [alice, bob] = (await friends(own, "alice", "bob")) as [Account, Account];
    const store = new MemoryStore();
    const [a, b] = [connect(own, alice, { store }), connect(own, bob)];
    const room = await group(own, [alice, bob], [a, b]);
    a.close();
    const at = a.room(room)?.head as number;
    // Transmitted, as far as the store knows, when the room was young; it never arrived.
    const cid = "0199f3a0-1c00-7000-8000-0000000000ff";
    await store.write([{ put: "item", item: { cid, op: "send", room, fields: { room, text: "late" }, at: 1, since: at } }]);
    for (let i = 0; i < 30; i++) await b.send(room, `message ${i}`);
    const again = connect(own, alice, { store });
    await settled(again);
    await until("it is settled", () => again.outbox().length === 0 && again.room(room)?.last?.text === "late");
    const all = await log(own, alice, room);
    expect(all.filter((e) => e.cid === cid).length).toBe(1);
    expect(texts(all)).toEqual([...numbered(30), "late"]);
  } finally {
    await own.stop();
  }
});

test("a message that has to be sent again holds up those behind it: the order stays", async () => {
  // Bursts of fifty, then five a second.
  const slow = await Server.start({ "limits.requests_per_second": 5 });
  try {
    const [alice, bob] = (await friends(slow, "alice", "bob")) as [Account, Account];
    const network = new Network();
    const a = connect(slow, alice, { WebSocket: network.WebSocket });
    const room = await group(slow, [alice, bob], [a]);
    await Promise.all(numbered(55).map((text) => a.send(room, text)));
    expect(texts(await log(slow, bob, room))).toEqual(numbered(55));
    expect(network.made).toBe(1);
  } finally {
    await slow.stop();
  }
});

test("nothing is transmitted before it is stored that it is", async () => {
  const [alice, bob] = (await friends(server, "alice", "bob")) as [Account, Account];
  let open: () => void = () => {};
  let gate: Promise<void> | undefined;
  class Slow extends MemoryStore {
    override async write(writes: Parameters<MemoryStore["write"]>[0]): Promise<void> {
      await gate;
      await super.write(writes);
    }
  }
  const network = new Network();
  const store = new Slow();
  const a = connect(server, alice, { store, WebSocket: network.WebSocket, format: "json" });
  const room = await group(server, [alice, bob], [a]);
  await settled(a);
  gate = new Promise((resolve) => (open = resolve));
  const ticket = a.send(room, "after the store");
  // An answer to something later shows that there was time.
  await a.request("rooms", {});
  expect(network.sent.some((frame) => frame.includes("after the store"))).toBe(false);
  open();
  const { seq } = await ticket;
  expect(seq).toBeGreaterThan(0);
  const frame = JSON.parse(network.sent.find((f) => f.includes("after the store")) ?? "{}") as { since: number };
  expect(frame.since).toBe(seq - 1);
});
