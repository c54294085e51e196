/** Coming back: what was missed arrives, whatever it was. */
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { Client, MemoryStore, type Entry } from "../src/index.js";
import { closeAll, connect } from "./support/client.js";
import { folded, log } from "./support/judge.js";
import { friends, group } from "./support/people.js";
import { Server, type Account } from "./support/server.js";
import { until } from "./support/until.js";

let server: Server;
beforeAll(async () => {
  server = await Server.start();
});
afterEach(closeAll);
afterAll(() => server.stop());

test("everything missed arrives, of every kind, after a reload", async () => {
  const [alice, bob, carol] = (await friends(server, "alice", "bob", "carol")) as [Account, Account, Account];
  const store = new MemoryStore();
  const [a, b] = [connect(server, alice), connect(server, bob, { store })];
  await Promise.all([a.caughtUp(), b.caughtUp()]);
  const room = await group(server, [alice, bob], [a, b]);
  const left = await group(server, [alice, bob], [a, b]);
  const [one, two, three] = [await a.send(room, "one"), await a.send(room, "two"), await a.send(room, "three")];
  for (const each of [a, b]) await until("they have come", () => each.room(room)?.head === three.seq);
  b.close();

  await a.send(room, { text: "look", mentions: [bob.user], reply_to: one.seq });
  await a.edit(room, one.seq, "uno");
  await a.delete(room, two.seq);
  await a.react(room, three.seq, "👍");
  await a.pin(room, three.seq);
  await a.submit("invite", { room, user: carol.user });
  await a.submit("role", { room, user: bob.user, role: "moderator" });
  await a.submit("update", { room, name: "Dinner", topic: "late" });
  await a.submit("kick", { room: left, user: bob.user });
  const fresh = await group(server, [alice, bob], [a]);

  // A page that was opened anew: what it knows is what was stored.
  const again = connect(server, bob, { store });
  const entries: Entry[] = [];
  again.on("entry", ({ entry, live }) => entries.push(live ? { ...entry, seq: -1 } : entry));
  await again.ready;
  expect(again.room(room)).toMatchObject({ name: "Lunch", head: three.seq });
  expect(again.timeline(room).get().messages.map((m) => m.text)).toEqual(["one", "two", "three"]);
  await again.caughtUp();
  expect(again.room(room)).toMatchObject({ name: "Dinner", topic: "late", role: "moderator", unread: 4, mentions: 1, last: { text: "look" } });
  expect(again.room(left)).toBeUndefined();
  expect(again.room(fresh)).toMatchObject({ name: "Lunch", known: true });
  const all = await log(server, bob, room);
  expect(entries.filter((e) => e.room === room)).toEqual(all.filter((e) => e.seq > three.seq));
  expect(again.timeline(room).get().messages).toEqual(folded(room, all, bob.user));
  expect(again.room(room)?.happenings.map((e) => Object.keys(e.body)[0])).toEqual(["room", "member", "member", "room"]);
});

test("a first visit reads history, in pages, from the newest back to the first", async () => {
  const [alice, bob] = (await friends(server, "alice", "bob")) as [Account, Account];
  const a = connect(server, alice);
  const room = await group(server, [alice, bob], [a]);
  const sent = Array.from({ length: 120 }, (_, i) => a.send(room, `message ${i}`));
  const numbers = await Promise.all(sent);
  const b = connect(server, bob);
  await b.caughtUp();
  const timeline = b.timeline(room);
  const first = await until("the first page", () => timeline.get().messages.length >= 25 && !timeline.get().loading && timeline.get());
  expect(first.messages.at(-1)?.text).toBe("message 119");
  while (timeline.get().hasBefore) await timeline.loadBefore(30);
  expect(timeline.get().messages.map((m) => m.text)).toEqual(Array.from({ length: 120 }, (_, i) => `message ${i}`));

  // Another one jumps into the middle, and grows at both ends until it meets the newest.
  const c = connect(server, bob, { store: new MemoryStore() });
  await c.caughtUp();
  const middle = c.timeline(room);
  await until("the first page", () => middle.get().messages.length > 0 && !middle.get().loading);
  const at = (numbers[10] as { seq: number }).seq;
  await middle.jumpTo(at, 10);
  expect(middle.get().messages.some((m) => m.seq === at)).toBe(true);
  expect([middle.get().hasBefore, middle.get().hasAfter]).toEqual([true, true]);
  while (middle.get().hasAfter) await middle.loadAfter(40);
  expect(middle.get().messages.at(-1)?.text).toBe("message 119");
  await middle.loadBefore(50);
  expect(middle.get().messages.map((m) => m.n)).toEqual(Array.from({ length: 120 }, (_, i) => i + 1));
});

test("a room whose log cannot be followed is read anew", async () => {
  const small = await Server.start({ "rooms.resume_entries_max": 20 });
  try {
    const [alice, bob] = (await friends(small, "alice", "bob")) as [Account, Account];
    const [a, b] = [connect(small, alice), connect(small, bob)];
    const room = await group(small, [alice, bob], [a, b]);
    await a.send(room, "before");
    await until("bob has it", () => b.room(room)?.last?.text === "before");
    const timeline = b.timeline(room);
    b.close();
    for (let i = 0; i < 60; i++) await a.send(room, `missed ${i}`);
    const resync = new Promise((resolve) => b.on("resync", resolve));
    b.connect();
    expect(await resync).toEqual({ room });
    await b.caughtUp();
    await until("the page was read", () => timeline.get().messages.at(-1)?.text === "missed 59" && !timeline.get().loading);
    expect(timeline.get().messages.length).toBe(50);
    await timeline.loadBefore();
    expect(timeline.get().messages[0]?.text).toBe("before");
    await a.send(room, "live");
    await until("and it goes on", () => timeline.get().messages.at(-1)?.text === "live");
  } finally {
    await small.stop();
  }
});

test("a message read offline is read everywhere afterwards", async () => {
  const [alice, bob] = (await friends(server, "alice", "bob")) as [Account, Account];
  const store = new MemoryStore();
  const [a, b] = [connect(server, alice), connect(server, bob, { store })];
  const room = await group(server, [alice, bob], [a, b]);
  const { seq } = await a.send(room, "read me");
  await until("bob has it", () => b.room(room)?.unread === 1);
  b.close();
  const offline = new Client({ url: server.url, token: () => bob.access_token, store, WebSocket: class {} });
  await offline.ready;
  offline.markRead(room);
  expect(offline.unread()).toEqual({ unread: 0, mentions: 0, rooms: 0 });
  await until("it is stored", async () => (await store.load()).rooms.find((r) => r.view.room === room)?.view.read === seq);
  const again = connect(server, bob, { store });
  await again.caughtUp();
  await until("alice is told", () => a.room(room)?.receipts[bob.user]?.read === seq);
  const other = connect(server, bob);
  await other.caughtUp();
  expect(other.room(room)).toMatchObject({ unread: 0, read: seq });
});
