import { expect, test } from "vitest";
import { candidates, completed, mentioned, partial } from "./complete";

const ALL = ["alice", "bob", "bobby", "carol"].map((name, i) => ({ user: String(i + 1), name, shown: name === "carol" ? "Bo Carol" : name }));

test("what begins with @ at a word's start is completed, and nothing else", () => {
  expect(partial("hi @bo", 6)).toEqual({ from: 3, to: 6, text: "bo" });
  expect(partial("@", 1)?.text).toBe("");
  expect([partial("mail@bo", 7), partial("hi @bo there", 12), partial("plain", 5)]).toEqual([undefined, undefined, undefined]);
});

test("names that begin with what was typed come first, shown names count too", () => {
  expect(candidates(ALL, "bo").map((c) => c.name)).toEqual(["bob", "bobby", "carol"]);
  expect(candidates(ALL, "xyz")).toEqual([]);
});

test("the name takes the place of what was typed, with one space behind", () => {
  expect(completed("hi @bo there", { from: 3, to: 6, text: "bo" }, "bob")).toEqual({ text: "hi @bob there", caret: 8 });
});

test("who is named is mentioned, once, whatever the case and the full stop", () => {
  expect(mentioned("@Bob. and @bob, not @dave or mail@carol.x", ALL)).toEqual(["2"]);
  expect(mentioned("@bobby", ALL)).toEqual(["3"]);
});
