import { expect, test } from "vitest";
import { administers, mayGive, mayTransfer, moderates, outranks, ROLES } from "./roles";

test("order is kept by moderators and above, and only among those below", () => {
  expect(ROLES.filter(moderates)).toEqual(["moderator", "admin", "owner"]);
  expect(ROLES.filter(administers)).toEqual(["admin", "owner"]);
  expect(ROLES.filter(mayTransfer)).toEqual(["owner"]);
  expect(ROLES.filter((theirs) => outranks("moderator", theirs))).toEqual(["reader", "member"]);
  expect(ROLES.filter((theirs) => outranks("owner", theirs))).toEqual(["reader", "member", "moderator", "admin"]);
  expect(ROLES.filter((theirs) => outranks("member", theirs))).toEqual([]);
});

test("admins give roles below their own to those below them, owners any to anybody", () => {
  expect(ROLES.filter((role) => mayGive("admin", "member", role))).toEqual(["reader", "member", "moderator"]);
  expect(ROLES.filter((role) => mayGive("admin", "admin", role))).toEqual([]);
  expect(ROLES.filter((role) => mayGive("owner", "owner", role))).toEqual([...ROLES]);
  expect(ROLES.filter((role) => mayGive("moderator", "member", role))).toEqual([]);
});
