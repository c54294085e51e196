import { expect, test } from "vitest";
import type { Item, Message } from "../../chat/types";
import { around, firstUnread, reached, slide } from "./rows";

const message = (seq: number, more: Partial<Message> = {}): Message => ({
  kind: "message", key: `k${seq}`, seq, n: seq, at: Date.UTC(2026, 0, 10, 12) + seq * 1000, by: "1", text: "x", mentions: [], attachments: [],
  edited: false, deleted: false, reactions: [], pinned: false, state: "sent", ...more,
});

test("messages of one author stand together, until five minutes, a day, a reply or another author part them", () => {
  const first = message(1);
  expect(around(undefined, first, undefined)).toEqual({ day: true, unread: false, head: true, thread: false });
  expect(around(first, message(2), undefined).head).toBe(false);
  expect(around(first, message(2, { by: "2" }), undefined).head).toBe(true);
  expect(around(first, message(2, { at: first.at + 300_000 }), undefined).head).toBe(true);
  expect(around(first, message(2, { replyTo: 1 }), undefined).head).toBe(true);
  expect(around(first, message(2, { at: first.at + 86_400_000 }), undefined)).toMatchObject({ day: true, head: true });
});

test("where a thread's messages begin is said once", () => {
  const answers = [message(2, { thread: 1 }), message(3, { thread: 1, by: "2" }), message(4)];
  expect(answers.map((m, i) => around(answers[i - 1] ?? message(1), m, undefined).thread)).toEqual([true, false, false]);
});

test("the unread divider stands once, before the first unread message", () => {
  const items = [1, 2, 3, 4].map((s) => message(s, { by: s === 3 ? "me" : "1" }));
  const from = firstUnread(items, 2, "me");
  expect(from).toBe(4);
  expect(items.map((m, i) => around(items[i - 1], m, from).unread)).toEqual([false, false, false, true]);
  expect(firstUnread(items, 4, "me")).toBeUndefined();
});

test("a message has come as far as the farthest of the others", () => {
  const mine = message(5, { by: "me" });
  expect(reached({ ...mine, state: "pending" }, {}, "me")).toBe("pending");
  expect(reached({ ...mine, state: "failed" }, {}, "me")).toBe("failed");
  expect(reached(mine, { me: { read: 9, delivered: 9 } }, "me")).toBe("sent");
  expect(reached(mine, { a: { read: 4, delivered: 5 } }, "me")).toBe("delivered");
  expect(reached(mine, { a: { read: 4, delivered: 5 }, b: { read: 5, delivered: 5 } }, "me")).toBe("read");
});

test("what is put before the list leaves every item at its index; another window is a fresh one", () => {
  const items: Item[] = [message(10), message(11)];
  const first = slide(undefined, items);
  const older = slide(first, [message(8), message(9), ...items]);
  expect(older.first).toBe(first.first - 2);
  expect(older.fresh).toBe(first.fresh);
  expect(slide(older, [message(8), message(9), ...items, message(12)])).toEqual(older);
  expect(slide(older, [message(500)]).fresh).toBe(older.fresh + 1);
  // Dropped from the top while one reads at the bottom: the kept ones keep their index.
  expect(slide(older, [message(8), message(9)]).first).toBe(older.first);
});
