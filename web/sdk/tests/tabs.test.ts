/** Several tabs of one browser: one socket, one store, and the same in all of them. */
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { Client } from "../src/index.js";
import { Browser } from "./support/browser.js";
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

const texts = (client: Client, room: string) => client.timeline(room).get().messages.map((m) => m.text);

test("two tabs have one socket and show the same; each can do everything", async () => {
  const [alice, bob] = (await friends(server, "alice", "bob")) as [Account, Account];
  const [browser, network] = [new Browser(), new Network()];
  const tab = () => connect(server, alice, { ...browser.tab("alice"), WebSocket: network.WebSocket });
  const [one, two] = [tab(), tab()];
  const b = connect(server, bob);
  await Promise.all([one.caughtUp(), two.caughtUp(), b.caughtUp()]);
  expect([network.made, two.me, two.hello?.name]).toEqual([1, alice.user, alice.name]);

  const room = await group(server, [alice, bob], [two, b]);
  const first = two.send(room, "from the second tab");
  expect(two.pending(room).length).toBe(1);
  await until("the first tab shows it too", () => one.pending(room).length === 1 || texts(one, room).length === 1);
  await first;
  await one.send(room, "from the first tab");
  await b.send(room, { text: "from bob", mentions: [alice.user] });
  const expected = ["from the second tab", "from the first tab", "from bob"];
  for (const client of [one, two]) await until("all is shown", () => texts(client, room).join() === expected.join());
  for (const client of [one, two]) await until("it is unread", () => client.room(room)?.mentions === 1);
  two.markRead(room);
  await until("read in the other tab", () => one.room(room)?.unread === 0);
  await until("and bob is told", () => b.room(room)?.receipts[alice.user]?.read === b.room(room)?.head);
  two.setDraft(room, "half a sen");
  await until("the draft is in the other tab", () => one.draft(room) === "half a sen");
  two.setTyping(room);
  await until("bob sees it", () => b.typing(room).includes(alice.user));
  const { members } = await two.members(room);
  expect(members.length).toBe(2);
  await expect(two.request("history", { room: "1" })).rejects.toMatchObject({ code: "not_found" });
  await expect(two.send(room, "x".repeat(20_000))).rejects.toMatchObject({ code: "too_large" });
  await until("the refusal is in both tabs", () => one.pending(room)[0]?.state === "failed");
  two.discard(two.pending(room)[0]?.cid ?? "");
  await until("and gone from both", () => one.pending(room).length === 0);
  expect([network.made, network.most]).toEqual([1, 1]);
});

test("a tab that comes later is given what there is, and one that closes hands over", async () => {
  const [alice, bob] = (await friends(server, "alice", "bob")) as [Account, Account];
  const [browser, network] = [new Browser(), new Network()];
  const tab = () => connect(server, alice, { ...browser.tab("alice"), WebSocket: network.WebSocket });
  const one = tab();
  const b = connect(server, bob);
  const room = await group(server, [alice, bob], [one, b]);
  await one.send(room, "one");
  await settled(one);
  const two = tab();
  await two.caughtUp();
  expect(texts(two, room)).toEqual(["one"]);
  one.close();
  expect(one.status.state).toBe("closed");
  await b.send(room, "two");
  await until("the second tab has it", () => texts(two, room).join() === "one,two");
  await two.send(room, "three");
  one.connect();
  await until("the first tab is back", () => one.status.caughtUp && texts(one, room).join() === "one,two,three");
  expect([network.made, network.most]).toEqual([2, 1]);
});

test("the leading tab dies with a full outbox of both tabs: nothing is lost or doubled", async () => {
  const [alice, bob] = (await friends(server, "alice", "bob")) as [Account, Account];
  const [browser, network, other] = [new Browser(), new Network(), new Network()];
  const parts = browser.tab("alice");
  const one = connect(server, alice, { ...parts, WebSocket: network.WebSocket });
  await one.caughtUp();
  const two = connect(server, alice, { ...browser.tab("alice"), WebSocket: other.WebSocket });
  await two.caughtUp();
  const room = await group(server, [alice, bob], [one, two]);
  const mine = Array.from({ length: 40 }, (_, i) => one.send(room, `one ${i}`));
  const theirs = Array.from({ length: 40 }, (_, i) => two.send(room, `two ${i}`));
  await mine[5];
  // It is gone in the middle: its socket torn, its channel silent, its lock free.
  network.down = true;
  parts.kill(true);
  network.cut();
  const numbers = await Promise.all(theirs);
  expect(numbers.length).toBe(40);
  await settled(two);
  const sent = (await log(server, alice, room)).flatMap((e) => e.body.message?.text ?? []);
  expect(sent.filter((t) => t.startsWith("two"))).toEqual(Array.from({ length: 40 }, (_, i) => `two ${i}`));
  // What the dead tab had stored is sent, in order; what it had not come to store never was.
  const ones = sent.filter((t) => t.startsWith("one"));
  expect(ones).toEqual(ones.map((_, i) => `one ${i}`));
  expect(ones.length).toBeGreaterThan(5);
  expect(new Set(sent).size).toBe(sent.length);
  expect(other.most).toBe(1);
});

test("what a tab stored and nobody heard of is sent by the next leader", async () => {
  const [alice, bob] = (await friends(server, "alice", "bob")) as [Account, Account];
  const [browser, network, other] = [new Browser(), new Network(), new Network()];
  const parts = browser.tab("alice");
  const one = connect(server, alice, { ...parts, WebSocket: network.WebSocket });
  await one.caughtUp();
  const room = await group(server, [alice, bob], [one]);
  const [next, two] = [connect(server, alice, { ...browser.tab("alice"), WebSocket: other.WebSocket }), connect(server, alice, browser.tab("alice"))];
  for (const tab of [next, two]) await until("the room is known", () => tab.room(room)?.known);
  // The leader hears nothing any more, but holds its lock; the other tab writes something and is closed.
  network.down = true;
  parts.kill(false);
  network.cut();
  const { cid } = two.send(room, "an orphan");
  await until("it is stored", async () => (await parts.store.load()).outbox.some((i) => i.cid === cid));
  two.close();
  expect(next.outbox()).toEqual([]);
  browser.locks.die("alice");
  await until("the next leader sends it", () => texts(next, room).includes("an orphan"));
  await settled(next);
  expect((await log(server, alice, room)).filter((e) => e.cid === cid).length).toBe(1);
});

test("everything is there again when the browser is opened anew, without a connection", async () => {
  const [alice, bob] = (await friends(server, "alice", "bob")) as [Account, Account];
  const browser = new Browser();
  const one = connect(server, alice, browser.tab("alice"));
  const room = await group(server, [alice, bob], [one]);
  await one.send(room, "kept");
  await settled(one);
  one.setDraft(room, "a draft");
  one.close();
  void one.send(room, "to be sent");
  const parts = browser.tab("alice");
  await until("it is stored", async () => (await parts.store.load()).outbox.length === 1);
  const network = new Network();
  network.down = true;
  const offline = connect(server, alice, { ...parts, WebSocket: network.WebSocket });
  await offline.ready;
  expect([texts(offline, room), offline.draft(room), offline.pending(room)[0]?.text]).toEqual([["kept"], "a draft", "to be sent"]);
  network.down = false;
  await until("and it is sent", () => texts(offline, room).join() === "kept,to be sent");
  await offline.forget();
  const again = await browser.tab("alice").store.load();
  expect(again).toEqual({ rooms: [], messages: [], outbox: [], drafts: {} });
});

test("a store that cannot be opened is told once, and the client goes on without", async () => {
  const alice = await server.account("alice");
  const broken = { open: () => { throw new Error("no storage here"); } } as unknown as IDBFactory;
  const { offline } = await import("../src/offline/index.js");
  const locks = new Browser().locks as never;
  const channel = () => ({ onmessage: null, postMessage: () => {}, close: () => {} });
  const errors: string[] = [];
  const a = connect(server, alice, offline("x", { indexedDB: broken, locks, channel }));
  a.on("error", (e) => errors.push(`${e.code}: ${e.message}`));
  await a.caughtUp();
  const { room } = await a.create({ kind: "channel", name: "lobby" });
  await a.send(room, "hello");
  expect(errors[0]).toBe("storage: no storage here");
  expect(errors.length).toBeLessThanOrEqual(3);
});
