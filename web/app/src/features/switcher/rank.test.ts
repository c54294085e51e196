import { expect, test } from "vitest";
import { rank } from "./rank";

const target = (name: string, unread = 0) => ({ room: name, kind: "group", unread, name });
const ALL = [target("Design review"), target("Random", 3), target("Team lunch"), target("redesign")];

test("with nothing typed, what is unread comes first", () => {
  expect(rank(ALL, " ")[0]?.name).toBe("Random");
});

test("beginnings come before words, words before parts, parts before letters in order", () => {
  expect(rank(ALL, "de").map((t) => t.name)).toEqual(["Design review", "redesign"]);
  expect(rank(ALL, "re").map((t) => t.name)).toEqual(["redesign", "Design review"]);
  expect(rank(ALL, "tl").map((t) => t.name)).toEqual(["Team lunch"]);
  expect(rank(ALL, "zz")).toEqual([]);
});
