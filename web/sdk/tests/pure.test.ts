/** The parts that need no server. */
import { describe, expect, test, vi } from "vitest";
import { afterClose, Backoff } from "../src/backoff.js";
import { newCid } from "../src/cid.js";
import { Emitter } from "../src/emitter.js";
import { HubbubError } from "../src/errors.js";
import { Client, MemoryStore } from "../src/index.js";
import { Replica } from "../src/replica.js";
import { KEPT, RoomState, STORED } from "../src/room.js";
import { socketUrl } from "../src/session.js";
import type { Body, Entry, Push, RoomPush, Shown } from "../src/types.js";

const ME = "7";
const entry = (seq: number, body: Body, by = "8", n = seq): Entry => ({ room: "5", seq, n, id: String(seq), at: seq, by, body });
const says = (seq: number, text: string, by = "8") => entry(seq, { message: { text } }, by);
function room(...entries: Entry[]): RoomState {
  const state = new RoomState("5", 0);
  for (const e of entries) expect(state.apply(e, ME)).toBe(true);
  return state;
}
const shown = (state: RoomState) => state.list({ from: 0, to: 1e9 });

describe("a room", () => {
  test("applies entries in order only: doubles and gaps change nothing", () => {
    const state = room(says(1, "one"), says(2, "two"));
    const before = state.view;
    expect(state.apply(says(1, "again"), ME)).toBe(false);
    expect(state.apply(says(4, "four"), ME)).toBe(false);
    expect(state.view).toBe(before);
  });

  test("folds edits, reactions, pins and deletions, and never changes a message in place", () => {
    const state = room(says(1, "one"));
    const [before] = shown(state);
    state.apply(entry(2, { edit: { seq: 1, text: "uno" } }), ME);
    state.apply(entry(3, { react: { seq: 1, emoji: "x", on: true } }, ME), ME);
    state.apply(entry(4, { react: { seq: 1, emoji: "x", on: true } }), ME);
    state.apply(entry(5, { pin: { seq: 1, on: true } }), ME);
    expect(shown(state)[0]).toMatchObject({ text: "uno", edited: 2, reactions: [{ emoji: "x", users: [ME, "8"] }], pinned: true });
    expect(before).toMatchObject({ text: "one", reactions: [] });
    state.apply(entry(6, { react: { seq: 1, emoji: "x", on: false } }), ME);
    state.apply(entry(7, { react: { seq: 1, emoji: "x", on: false } }, ME), ME);
    expect(shown(state)[0]?.reactions).toEqual([]);
    state.apply(entry(8, { delete: { seq: 1 } }), ME);
    state.apply(entry(9, { edit: { seq: 1, text: "back?" } }), ME);
    expect(shown(state)[0]).toMatchObject({ text: "", deleted: 8, pinned: false });
    expect(state.view.last).toMatchObject({ deleted: 8 });
  });

  test("follows settings, mutes and the room's being given away", () => {
    const state = room(says(1, "one"));
    state.members = new Map([ME, "8"].map((user) => [user, { user, name: user, role: "member" }]));
    const member = (seq: number, body: Body["member"], by = "8") => state.apply(entry(seq, { member: body } as Body, by), ME);
    state.apply(entry(2, { room: { slow_mode_s: 30, archived: true, unlisted: true } }), ME);
    expect(state.view).toMatchObject({ slowModeS: 30, archived: true, unlisted: true });
    member(3, { user: ME, change: "mute", until: 500 });
    expect([state.view.mutedUntil, state.members.get(ME)?.muted_until]).toEqual([500, 500]);
    member(4, { user: ME, change: "unmute" });
    expect([state.view.mutedUntil, state.members.get(ME)?.muted_until]).toEqual([undefined, undefined]);
    member(5, { user: ME, change: "transfer", role: "owner" });
    expect([state.view.role, state.members.get("8")?.role]).toEqual(["owner", "admin"]);
    member(6, { user: "8", change: "transfer", role: "owner" }, ME);
    expect([state.view.role, state.members.get("8")?.role]).toEqual(["admin", "owner"]);
    // The server's word is the whole of it: what it does not name is not so.
    state.standing({
      op: "room", room: "5", standing: "catch_up", from: 6, head: 6,
      summary: { room: "5", kind: "group", name: "x", role: "admin", head: 6, n: 1, at: 9, read: 0, unread: 1, mentions: 0, members: 2, muted_until: 900 },
    });
    expect(state.view).toMatchObject({ slowModeS: 0, archived: false, unlisted: false, members: 2, mutedUntil: 900 });
  });

  test("an entry of an unknown kind counts", () => {
    const state = room(says(1, "one"), entry(2, { dance: {} } as Body, "8", 1));
    expect(state.view).toMatchObject({ head: 2, n: 1 });
  });

  test("history shows and never moves the head, and an older page does not undo what came since", () => {
    const state = new RoomState("5", 10);
    const old = (seq: number, text: string, more: Partial<Shown> = {}): Shown => ({ entry: says(seq, text), ...more });
    state.history({ room: "5" }, { messages: [old(9, "nine"), old(10, "ten")], head: 10, more: true });
    state.apply(entry(11, { edit: { seq: 4, text: "newer" } }, "8", 10), ME);
    // This page was read at head 10: the edit is not in it.
    state.history({ room: "5", before: 9 }, { messages: [old(4, "four"), old(8, "eight")], head: 10, more: false });
    expect(state.view.head).toBe(11);
    expect(shown(state).map((m) => m.text)).toEqual(["newer", "eight", "nine", "ten"]);
    expect(state.ranges).toEqual([{ from: 0, to: 11 }]);
    // This page was read at head 12: it has an edit that has not come as an entry yet.
    state.history({ room: "5", around: 8 }, { messages: [old(8, "edited", { edited: 12 })], head: 12, more: true });
    state.apply(entry(12, { edit: { seq: 8, text: "edited" } }, "8", 10), ME);
    expect(shown(state)[1]).toMatchObject({ text: "edited", edited: 12 });
  });

  test("pages that do not meet are ranges of their own until they do", () => {
    const state = new RoomState("5", 100);
    const page = (...seqs: number[]) => seqs.map((seq) => ({ entry: says(seq, `${seq}`) }));
    state.history({ room: "5" }, { messages: page(95, 100), head: 100, more: true });
    state.history({ room: "5", around: 50 }, { messages: page(48, 50, 52), head: 100, more: true });
    expect(state.ranges).toEqual([{ from: 47, to: 52 }, { from: 94, to: 100 }]);
    state.apply(says(101, "live"), ME);
    expect(state.live()).toEqual({ from: 94, to: 101 });
    state.history({ room: "5", after: 52 }, { messages: page(60, 95), head: 101, more: true });
    expect(state.ranges).toEqual([{ from: 47, to: 101 }]);
    expect(shown(state).map((m) => m.seq)).toEqual([48, 50, 52, 60, 95, 100, 101]);
  });

  test("counts what is unread and the mentions in it, from the server's summary on", () => {
    const state = new RoomState("5", 10);
    const told: RoomPush = {
      op: "room", room: "5", standing: "catch_up", from: 10, head: 12,
      summary: { room: "5", kind: "group", name: "x", role: "member", head: 12, n: 12, at: 5, read: 9, unread: 3, mentions: 1 },
    };
    state.standing(told);
    expect(state.view).toMatchObject({ unread: 3, mentions: 1 });
    // Those were in the summary; the third is news.
    for (const seq of [11, 12, 13]) state.apply(entry(seq, { message: { text: "x", mentions: [ME] } }), ME);
    expect(state.view).toMatchObject({ unread: 4, mentions: 2 });
    expect(state.moveRead(12, ME)).toBe(true);
    expect(state.view).toMatchObject({ unread: 1, mentions: 1, read: 12 });
    expect(state.moveRead(11, ME)).toBe(false);
    state.apply(says(14, "mine", ME), ME);
    expect(state.view).toMatchObject({ unread: 0, mentions: 0, read: 14 });
  });

  test("lets go of the oldest: of what it holds when nobody looks, of what is stored in any case", () => {
    const state = new RoomState("5", 0);
    for (let seq = 1; seq <= 2 * KEPT + 1; seq++) state.apply(says(seq, "x"), ME);
    expect([state.messages.size, state.live()]).toEqual([KEPT, { from: KEPT + 1, to: 2 * KEPT + 1 }]);
    expect(state.storedFrom()).toBe(2 * KEPT + 1 - STORED);
  });
});

describe("the replica", () => {
  const push = (replica: Replica, p: Push) =>
    replica.apply({ kind: "push", push: p, live: true, now: 1_000 });

  test("the same changes make the same replica, also from what was stored in the middle", async () => {
    const [one, store] = [new Replica(), new MemoryStore()];
    const changes = Array.from({ length: 30 }, (_, i) => {
      const seq = i + 1;
      const body: Body = i % 5 === 4 ? { react: { seq: i, emoji: "x", on: true } } : { message: { text: `${i}` } };
      return { op: "entry" as const, ...entry(seq, body) };
    });
    for (const [i, change] of changes.entries()) {
      push(one, change);
      if (i === 15) await store.write(one.takeWrites());
    }
    const two = new Replica();
    two.restore(await store.load());
    expect(two.have("5")).toBe(16);
    for (const change of changes) push(two, change);
    expect(two.saved()).toEqual(one.saved());
    expect(two.rooms.get("5")?.list({ from: 0, to: 99 })).toEqual(one.rooms.get("5")?.list({ from: 0, to: 99 }));
  });

  test("forgets another user's rooms when somebody else signs in", () => {
    const replica = new Replica();
    const hello = { op: "hello" as const, ref: 1, user: ME, name: "a", device: "1", expires: 0, now: 0, heartbeat_ms: 1, frame_bytes_max: 1, server: "" };
    replica.apply({ kind: "hello", hello });
    push(replica, { op: "entry", ...says(1, "secret") });
    replica.apply({ kind: "queued", item: { cid: newCid(), op: "send", room: "5", fields: {}, at: 0 } });
    replica.apply({ kind: "hello", hello: { ...hello, user: "9" } });
    expect([replica.rooms.size, replica.outbox.size, replica.me]).toEqual([0, 0, "9"]);
    expect(replica.takeWrites().slice(0, 2)).toEqual([{ drop: "all" }, { put: "user", user: "9" }]);
  });

  test("a message that was answered before its room's first entry came is shown until it comes itself, or the room is not one's own", () => {
    const sent = () => {
      const [replica, cid] = [new Replica(), newCid()];
      replica.me = ME;
      replica.apply({ kind: "queued", item: { cid, op: "send", room: "5", fields: { text: "x" }, at: 0 } });
      replica.apply({ kind: "settled", cid, reply: { seq: 2, n: 1, id: "2", at: 2 } });
      expect(replica.pending("5").map((p) => p.state)).toEqual(["sent"]);
      return { replica, cid };
    };
    const { replica, cid } = sent();
    push(replica, { op: "entry", ...entry(1, { room: { kind: "direct" } }, ME, 0) });
    expect(replica.pending("5")).toHaveLength(1);
    push(replica, { op: "entry", ...entry(2, { message: { text: "x" } }, ME, 1), cid });
    expect([replica.pending("5").length, replica.rooms.get("5")?.list({ from: 0, to: 9 }).length]).toEqual([0, 1]);
    const resumed = { op: "resumed", ref: 1, cursors: [], presence: [] } as const;
    for (const end of [resumed, { op: "room", ref: 1, room: "5", standing: "left", from: 0, head: 0 } as const]) {
      const { replica } = sent();
      push(replica, end as unknown as Push);
      expect(replica.outbox.size).toBe(0);
    }
  });

  test("one's own end of membership ends the room, another's does not", () => {
    for (const [user, stays] of [["8", true], [ME, false]] as const) {
      const replica = new Replica();
      replica.me = ME;
      push(replica, { op: "entry", ...says(1, "x") });
      push(replica, { op: "entry", ...entry(2, { member: { user, change: "kick" } }) });
      expect(replica.rooms.has("5")).toBe(stays);
    }
  });

  test("typing ends by itself, with a message, or when it is said", () => {
    const replica = new Replica();
    push(replica, { op: "entry", ...says(1, "x") });
    const types = (user: string, on: boolean) => push(replica, { op: "typing", room: "5", user, on, ttl_ms: 500 });
    const who = () => [...(replica.typing.get("5")?.keys() ?? [])];
    for (const user of ["8", "9", "10"]) types(user, true);
    types("9", false);
    push(replica, { op: "entry", ...says(2, "y", "10") });
    expect(who()).toEqual(["8"]);
    expect(replica.expireTyping(1_499)).toBe(1_500);
    expect(replica.expireTyping(1_500)).toBeUndefined();
    expect(who()).toEqual([]);
  });

  test("stores the messages of a hundred rooms, and of more rooms only that they are", async () => {
    const [replica, store] = [new Replica(), new MemoryStore()];
    for (let id = 1; id <= 130; id++) push(replica, { op: "entry", ...says(1, "x"), room: String(id), at: id });
    await store.write(replica.takeWrites());
    const saved = await store.load();
    expect([saved.rooms.length, saved.messages.length]).toEqual([130, 100]);
    expect(saved.messages.some((m) => m.room === "1")).toBe(false);
    expect(saved.rooms.find((r) => r.view.room === "1")?.from).toBe(1);
  });
});

describe("much of it", () => {
  test("ten thousand missed entries are applied in well under a second, and a room of 100,000 goes on at ease", () => {
    const replica = new Replica();
    replica.me = ME;
    replica.open.set("5", 1);
    const page = (from: number, count: number) => Array.from({ length: count }, (_, i) => (i % 10 === 9 ? entry(from + i, { react: { seq: from + i - 1, emoji: "x", on: true } }) : says(from + i, "x")));
    const took = (work: () => void) => {
      const began = performance.now();
      work();
      return performance.now() - began;
    };
    const missed = took(() => {
      for (let at = 1; at <= 10_000; at += 200) replica.apply({ kind: "push", push: { op: "entries", room: "5", entries: page(at, 200), more: true }, live: false, now: 0 });
    });
    for (let at = 10_001; at <= 100_000; at += 1_000) replica.apply({ kind: "push", push: { op: "entries", room: "5", entries: page(at, 1_000), more: true }, live: false, now: 0 });
    const state = replica.rooms.get("5") as RoomState;
    expect(state.messages.size).toBe(90_000);
    const live = took(() => {
      for (let seq = 100_001; seq <= 100_050; seq++) {
        replica.apply({ kind: "push", push: { op: "entry", ...says(seq, "x") }, live: true, now: 0 });
        state.list(state.live());
      }
    });
    // Generous for a machine that does other things: both are a tenth of that on an idle one.
    expect(missed).toBeLessThan(1_500);
    expect(live / 50).toBeLessThan(100);
  });
});

describe("small parts", () => {
  test("waits double up to the limit, with jitter, and start over after success", () => {
    const backoff = new Backoff(100, 2_000);
    for (const full of [100, 200, 400, 800, 1_600, 2_000, 2_000]) {
      const wait = backoff.wait("now");
      expect(wait).toBeGreaterThanOrEqual(full / 2);
      expect(wait).toBeLessThanOrEqual(full);
    }
    backoff.succeeded();
    expect(backoff.wait("now")).toBeLessThanOrEqual(100);
    backoff.succeeded();
    expect(backoff.wait("later")).toBeGreaterThanOrEqual(500);
  });

  test("close codes are obeyed by their range", () => {
    const by = (...codes: number[]) => codes.map(afterClose);
    expect(by(1006, 1011, 4000, 4003, 4099)).toEqual(Array(5).fill("now"));
    expect(by(1001, 1012, 1013, 4100, 4102, 4199)).toEqual(Array(6).fill("later"));
    expect(by(1000, 1002, 1009, 4200, 4204, 4299, 4300, 3000)).toEqual(Array(8).fill("never"));
  });

  test("client ids are UUIDs of version 7 in the order of making, also when the clock stands or goes back", () => {
    const now = Date.now();
    const all = [now, now, now + 1, now - 5_000, now].map((t) => newCid(t)).concat(Array.from({ length: 5_000 }, () => newCid(now)));
    for (const cid of all) expect(cid).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect([...all].sort()).toEqual(all);
    expect(new Set(all).size).toBe(all.length);
  });

  test("any form of the server's address leads to its socket", () => {
    for (const url of ["http://h:1", "ws://h:1/", "http://h:1/v1/socket"]) expect(socketUrl(url)).toBe("ws://h:1/v1/socket");
    expect(socketUrl("https://chat.example/chat/")).toBe("wss://chat.example/chat/v1/socket");
  });

  test("a listener's mistake stops no other listener", () => {
    const emitter = new Emitter<{ x: number }>();
    const seen: number[] = [];
    const report = vi.fn();
    vi.stubGlobal("reportError", report);
    emitter.on("x", () => { throw new Error("mine"); });
    const off = emitter.on("x", (n) => seen.push(n));
    emitter.emit("x", 1);
    off();
    emitter.emit("x", 2);
    expect([seen, report.mock.calls.length]).toEqual([[1], 2]);
    vi.unstubAllGlobals();
  });

  test("without a WebSocket it says what to do", () => {
    vi.stubGlobal("WebSocket", undefined);
    expect(() => new Client({ url: "http://h", token: () => "" })).toThrow(HubbubError);
    vi.unstubAllGlobals();
  });
});
