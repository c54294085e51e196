import { expect, test } from "vitest";
import { session, signedIn, signedOut } from "./slice";

const alice = { user: "1", name: "alice", device: "d" };

test("a renewed session of who is in leaves who it is as it was", () => {
  const began = session.reducer({ who: null, ended: "token_expired" }, signedIn(alice));
  expect(began).toEqual({ who: alice, ended: null });
  expect(session.reducer(began, signedIn({ ...alice })).who).toBe(began.who);
  expect(session.reducer(began, signedIn({ ...alice, device: "e" })).who).toEqual({ ...alice, device: "e" });
  expect(session.reducer(began, signedOut("deleted"))).toEqual({ who: null, ended: "deleted" });
});
