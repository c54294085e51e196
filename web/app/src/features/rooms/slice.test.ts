import { expect, test } from "vitest";
import type { Room } from "../../chat/types";
import { inOrder, nextUnread, selectTotals } from "./slice";

const room = (id: string, more: Partial<Room> = {}): Room => ({
  room: id, kind: "group", name: id, topic: "", role: "member", head: 1, n: 1, at: 0, read: 0, unread: 0, mentions: 0, archived: false, unlisted: false, slowModeS: 0, ...more,
});

test("the room with the newest activity is first; where there is none to tell, the order stays the same", () => {
  expect(inOrder({ a: room("a", { at: 1 }), c: room("c", { at: 5 }), b: room("b", { at: 5 }) }).map((r) => r.room)).toEqual(["b", "c", "a"]);
});

test("the next unread room is sought down or up the list, round its ends, and never the one that is open", () => {
  const list = [room("a", { unread: 1 }), room("b"), room("c", { unread: 2 }), room("d")];
  expect(nextUnread(list, "b", 1)?.room).toBe("c");
  expect(nextUnread(list, "c", 1)?.room).toBe("a");
  expect(nextUnread(list, "b", -1)?.room).toBe("a");
  expect(nextUnread(list, "a", -1)?.room).toBe("c");
  expect(nextUnread(list, undefined, 1)?.room).toBe("a");
  expect(nextUnread([room("a", { unread: 1 })], "a", 1)).toBeUndefined();
  expect(nextUnread([], undefined, -1)).toBeUndefined();
});

test("urgent is what was said to oneself: direct messages and mentions", () => {
  const byId = { a: room("a", { kind: "direct", unread: 3 }), b: room("b", { unread: 9, mentions: 2 }), c: room("c", { unread: 4 }) };
  expect(selectTotals({ rooms: { byId, known: true, levels: {} } })).toEqual({ unread: 3, urgent: 5 });
});
