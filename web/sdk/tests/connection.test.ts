/** The connection: one socket, back after every end as its code asks, tokens renewed on the way. */
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { HubbubError, type Status } from "../src/index.js";
import { closeAll, connect } from "./support/client.js";
import { friends, group } from "./support/people.js";
import { Server, type Account } from "./support/server.js";
import { Network } from "./support/sockets.js";
import { until } from "./support/until.js";

let server: Server;
beforeAll(async () => {
  server = await Server.start();
});
afterEach(closeAll);
afterAll(() => server.stop());

test("there are never two sockets, however often it is cut, closed and begun", async () => {
  const alice = await server.account("alice");
  const network = new Network();
  const a = connect(server, alice, { WebSocket: network.WebSocket });
  for (let i = 0; i < 5; i++) {
    await a.caughtUp();
    if (i % 2) network.cut();
    else {
      a.close();
      expect(a.status.state).toBe("closed");
      a.connect();
      a.connect();
    }
    a.nudge();
    await until("it noticed", () => !a.status.caughtUp);
  }
  await a.caughtUp();
  expect(network.most).toBe(1);
  expect(network.made).toBeGreaterThan(5);
});

test("without a server it is disconnected and says when it tries again; with one again it comes back by itself", async () => {
  const alice = await server.account("alice");
  const network = new Network();
  network.down = true;
  const a = connect(server, alice, { WebSocket: network.WebSocket });
  const seen: Status[] = [];
  a.on("status", (status) => seen.push(status));
  await until("a third attempt", () => network.made >= 3);
  const waiting = seen.find((s) => s.state === "disconnected");
  expect(waiting?.retryAt).toBeGreaterThan(0);
  expect(waiting?.error).toMatchObject({ code: "not_connected", retry: "now" });
  network.down = false;
  await a.caughtUp();
  expect(a.status).toEqual({ state: "connected", caughtUp: true });
});

test("a token that ends is renewed over the socket: the connection stays", async () => {
  const short = await Server.start({ "auth.access_ttl_s": 2 });
  try {
    let account = await short.account("alice");
    const network = new Network();
    const given: boolean[] = [];
    const a = connect(short, account, {
      WebSocket: network.WebSocket,
      token: async ({ fresh }) => {
        given.push(fresh);
        if (fresh) account = await short.post<Account>("/v1/auth/refresh", { refresh_token: account.refresh_token });
        return account.access_token;
      },
    });
    await a.caughtUp();
    const began = Date.now();
    const states: string[] = [];
    a.on("status", ({ state }) => states.push(state));
    await until("two tokens' time is over", () => Date.now() - began > 4_300);
    expect([states, network.made, a.status.caughtUp]).toEqual([[], 1, true]);
    expect(given.filter(Boolean).length).toBeGreaterThanOrEqual(2);
  } finally {
    await short.stop();
  }
}, 30_000);

test("a token that ended while offline is asked for anew, once", async () => {
  const alice = await server.account("alice");
  const asked: boolean[] = [];
  const a = connect(server, alice, {
    token: ({ fresh }) => {
      asked.push(fresh);
      return fresh ? alice.access_token : "no.such.token";
    },
  });
  await a.caughtUp();
  expect(asked).toEqual([false, true]);
});

test("a token that is not accepted, twice, closes the client and says why", async () => {
  let n = 0;
  const a = connect(server, await server.account("alice"), { token: () => `no.such.token${n++}` });
  await expect(a.caughtUp()).rejects.toMatchObject({ code: "unauthorized" });
  expect(a.status).toMatchObject({ state: "closed", error: { code: "unauthorized", retry: "never" } });
  expect(n).toBe(2);
});

test("a provider that has no token any more closes the client; one that cannot reach its server does not", async () => {
  const alice = await server.account("alice");
  const gone = connect(server, alice, { token: () => Promise.reject(new HubbubError("token_revoked", "signed out")) });
  await expect(gone.caughtUp()).rejects.toMatchObject({ code: "token_revoked" });
  let tries = 0;
  const slow = connect(server, alice, { token: () => (++tries < 3 ? Promise.reject(new TypeError("fetch failed")) : alice.access_token) });
  await slow.caughtUp();
  expect(tries).toBe(3);
});

test("a server that drains is left when it said, not before, and come back to", async () => {
  const own = await Server.start({ "http.drain_spread_ms": 1_500 });
  try {
    const alice = await own.account("alice");
    const network = new Network();
    const a = connect(own, alice, { WebSocket: network.WebSocket });
    await a.caughtUp();
    own.terminate();
    const drained = await until("it was told to wait", () => a.status.retryAt);
    a.nudge();
    expect(network.made).toBe(1);
    await own.ended();
    await own.again();
    await a.caughtUp();
    expect(Date.now()).toBeGreaterThanOrEqual(drained - 5);
    expect(network.most).toBe(1);
  } finally {
    await own.stop();
  }
});

test("entries that the server loses on the way are found missing and fetched", async () => {
  const lossy = await Server.start({ "dev.lose_envelopes_every": 5 });
  try {
    const [alice, bob] = (await friends(lossy, "alice", "bob")) as [Account, Account];
    const [a, b] = [connect(lossy, alice), connect(lossy, bob)];
    await Promise.all([a.caughtUp(), b.caughtUp()]);
    const room = await group(lossy, [alice, bob], [a]);
    await until("bob knows the room", () => b.room(room));
    const seqs: number[] = [];
    b.on("entry", ({ entry }) => entry.room === room && seqs.push(entry.seq));
    for (let i = 0; i < 60; i++) await a.send(room, `message ${i}`);
    const head = a.room(room)?.head as number;
    await a.send(room, "last");
    await until("all have come", () => (b.room(room)?.head ?? 0) >= head);
    expect(seqs).toEqual(Array.from(seqs, (_, i) => (seqs[0] as number) + i));
  } finally {
    await lossy.stop();
  }
});

test("a gap makes the client resume", async () => {
  const [alice, bob] = (await friends(server, "alice", "bob")) as [Account, Account];
  const network = new Network();
  const [a, b] = [connect(server, alice), connect(server, bob, { WebSocket: network.WebSocket, format: "json" })];
  const room = await group(server, [alice, bob], [a, b]);
  const first = await a.send(room, "one");
  await until("bob has it", () => b.room(room)?.head === first.seq);
  network.lose = '"op":"entry"';
  await a.send(room, "lost");
  await a.send(room, "three");
  const timeline = b.timeline(room);
  await until("all are there, in order", () => timeline.get().messages.map((m) => m.text).join() === "one,lost,three");
  expect([network.made, network.most]).toEqual([2, 1]);
});

test("what is asked while there is no connection waits for it, and no longer than its time", async () => {
  const alice = await server.account("alice");
  const network = new Network();
  network.down = true;
  const a = connect(server, alice, { WebSocket: network.WebSocket, requestTimeoutMs: 300 });
  await expect(a.request("rooms", {})).rejects.toMatchObject({ code: "not_connected", retry: "later" });
  const rooms = a.request("rooms", {});
  network.down = false;
  expect(await rooms).toMatchObject({ rooms: [], more: false });
  await expect(a.request("history", { room: "1" })).rejects.toMatchObject({ code: "not_found", retry: "never" });
  a.close();
  await expect(a.request("rooms", {})).rejects.toMatchObject({ code: "closed" });
});

test("a quiet connection stays, by heartbeats; a dead one is noticed", async () => {
  const quick = await Server.start({ "socket.heartbeat_ms": 300 });
  try {
    const alice = await quick.account("alice");
    const network = new Network();
    const a = connect(quick, alice, { WebSocket: network.WebSocket });
    await a.caughtUp();
    const began = Date.now();
    await until("several heartbeats' time", () => Date.now() - began > 1_500);
    expect([network.made, a.status.caughtUp]).toEqual([1, true]);
    // Nothing comes through any more, and nobody says so.
    network.silent = true;
    await until("it was noticed", () => a.status.state !== "connected", 3_000);
    network.silent = false;
    await a.caughtUp();
    expect(network.most).toBe(1);
  } finally {
    await quick.stop();
  }
});

test("presence that was set is said again on the next connection", async () => {
  const [alice, bob] = (await friends(server, "alice", "bob")) as [Account, Account];
  const network = new Network();
  const [a, b] = [connect(server, alice, { WebSocket: network.WebSocket }), connect(server, bob)];
  await Promise.all([a.caughtUp(), b.caughtUp()]);
  await a.setPresence({ state: "busy", status: "in a meeting" });
  await until("bob is told", () => b.presence(alice.user)?.state === "busy");
  a.close();
  await until("bob is told", () => b.presence(alice.user)?.state === "offline");
  a.connect();
  await until("bob is told", () => b.presence(alice.user)?.state === "busy" && b.presence(alice.user)?.status === "in a meeting");
});
