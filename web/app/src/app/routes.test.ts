import { expect, test } from "vitest";
import { address, parse, type Place } from "./routes";

test("a place has an address that leads back to it", () => {
  const places: Place[] = [{ at: "home" }, { at: "room", room: "5" }, { at: "room", room: "5", seq: 17 }, { at: "people" }, { at: "channels" }, { at: "invite", code: "a b/c" }];
  for (const place of places) expect(parse(address(place))).toEqual(place);
});

test("what is no place is home", () => {
  for (const path of ["/", "/r", "/r/abc", "/r/5x", "/r/12345678901234567890", "/nowhere", "/invite", "/reset"]) expect(parse(path)).toEqual({ at: "home" });
  expect(parse("/r/5/x")).toEqual({ at: "room", room: "5" });
});

test("a mail's token is read from behind the hash, and no address ever has it again", () => {
  expect(parse("/reset", "#token=abc")).toEqual({ at: "reset", token: "abc" });
  expect(parse("/verify", "#token=a%2Fb")).toEqual({ at: "verify", token: "a/b" });
  expect(address({ at: "reset", token: "abc" })).toBe("/");
});
