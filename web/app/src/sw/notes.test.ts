import { expect, test } from "vitest";
import { decide, read } from "./notes";

const push = (seq: number, more: object = {}) => ({ room: "5", seq, title: "Bob", body: `line ${seq}`, unread: seq, ...more });

test("messages of a room are shown together, the newest last and only the last few", () => {
  let shown: Parameters<typeof decide>[1];
  for (let seq = 1; seq <= 6; seq++) {
    const deed = decide(push(seq), shown, false);
    if (deed.do !== "show") throw new Error(deed.do);
    shown = deed.kept;
  }
  expect(shown).toEqual({ room: "5", seq: 6, lines: ["line 3", "line 4", "line 5", "line 6"] });
});

test("a push that comes twice, or late, shows nothing", () => {
  expect(decide(push(4), { room: "5", seq: 4, lines: [] }, false)).toEqual({ do: "nothing" });
  expect(decide(push(3), { room: "5", seq: 4, lines: [] }, false)).toEqual({ do: "nothing" });
});

test("what is read elsewhere is withdrawn, and who is looking is not told", () => {
  expect(decide(push(9, { unread: 0 }), undefined, false)).toEqual({ do: "withdraw" });
  expect(decide(push(9), undefined, true)).toEqual({ do: "nothing" });
});

test("what was read elsewhere meanwhile is not shown again with the next message", () => {
  const shown = { room: "5", seq: 3, lines: ["line 1", "line 2", "line 3"] };
  expect(decide(push(9, { unread: 1 }), shown, false)).toMatchObject({ body: "line 9", count: 1 });
});

test("a body may be left out, for people who do not want it on their screen", () => {
  expect(decide({ room: "5", seq: 1 }, undefined, false)).toMatchObject({ title: "Hubbub", body: "" });
});

test("only what has the form of a push is one", () => {
  expect([read(null), read({ room: "../x", seq: 1 }), read({ room: "5" }), read({ room: "5", seq: 2 })?.seq]).toEqual([undefined, undefined, undefined, 2]);
});
