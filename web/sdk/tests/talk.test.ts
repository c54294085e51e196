/** Two clients through the real server. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { closeAll, connect } from "./support/client.js";
import { Server } from "./support/server.js";
import { until } from "./support/until.js";

let server: Server;
beforeAll(async () => {
  server = await Server.start();
});
afterEach(closeAll);
afterAll(() => server.stop());

describe.each(["msgpack", "json"] as const)("over %s", (format) => {
  test("a message is shown at once, settled once, and arrives", async () => {
    const [alice, bob] = [await server.account("alice"), await server.account("bob")];
    await server.befriend(alice, bob);
    const [a, b] = [connect(server, alice, { format }), connect(server, bob, { format })];
    await Promise.all([a.caughtUp(), b.caughtUp()]);
    expect(a.me).toBe(alice.user);
    const { room } = await a.create({ kind: "direct", members: [bob.user] });
    const [mine, theirs] = [a.timeline(room), b.timeline(room)];
    const ticket = a.send(room, "hello, bob");
    expect(a.pending(room).map((p) => [p.cid, p.text, p.state])).toEqual([[ticket.cid, "hello, bob", "pending"]]);
    const { seq } = await ticket;
    // At no time is it shown nowhere, or twice.
    const places = () => [...mine.get().pending, ...mine.get().messages].filter((m) => m.cid === ticket.cid).length;
    expect(places()).toBe(1);
    await until("it is in alice's timeline", () => {
      expect(places()).toBe(1);
      return mine.get().messages.some((m) => m.seq === seq && m.cid === ticket.cid);
    });
    expect(a.pending(room)).toEqual([]);
    await until("it is in bob's timeline", () => theirs.get().messages.at(-1)?.text === "hello, bob");
    expect(b.room(room)).toMatchObject({ kind: "direct", peer: alice.user, unread: 1 });
    expect(b.unread()).toEqual({ unread: 1, mentions: 0, rooms: 1 });
    b.markRead(room);
    expect(b.room(room)?.unread).toBe(0);
    await until("alice sees that bob has read it", () => a.room(room)?.receipts[bob.user]?.read === seq);
    b.setTyping(room);
    await until("alice sees bob type", () => a.typing(room).includes(bob.user));
    await b.react(room, seq, "👍");
    await until("alice sees the reaction", () => mine.get().messages.at(-1)?.reactions[0]?.users[0] === bob.user);
  });
});
