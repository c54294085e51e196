/** Who may do what to whom, as far as buttons are shown for it; the server decides. Pure. */
import type { Role } from "../../api/rest";

/** From least to most. */
export const ROLES: readonly Role[] = ["reader", "member", "moderator", "admin", "owner"];

const rank = (role: Role) => ROLES.indexOf(role);

/** Moderators and above keep order: links, bans, mutes, what is pinned. */
export function moderates(mine: Role): boolean {
  return rank(mine) >= rank("moderator");
}

/** Admins and above say what the room is. */
export function administers(mine: Role): boolean {
  return rank(mine) >= rank("admin");
}

/** Moderators and above act on those below them. */
export function outranks(mine: Role, theirs: Role): boolean {
  return moderates(mine) && rank(mine) > rank(theirs);
}

/** An owner may give the room away. */
export function mayTransfer(mine: Role): boolean {
  return mine === "owner";
}

/** Admins give roles below their own to those below them, owners all to all. */
export function mayGive(mine: Role, theirs: Role, role: Role): boolean {
  return mine === "owner" || (administers(mine) && rank(role) < rank(mine) && rank(theirs) < rank(mine));
}
