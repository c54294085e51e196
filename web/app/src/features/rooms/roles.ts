/** Who may do what to whom, as far as buttons are shown for it; the server decides. Pure. */
import type { Role } from "../../api/rest";

/** From least to most. */
export const ROLES: readonly Role[] = ["reader", "member", "moderator", "admin", "owner"];

const rank = (role: Role) => ROLES.indexOf(role);

/** Moderators and above act on those below them. */
export function outranks(mine: Role, theirs: Role): boolean {
  return rank(mine) >= rank("moderator") && (rank(mine) > rank(theirs) || mine === "owner");
}

/** Admins give roles below their own, owners all. */
export function mayGive(mine: Role, role: Role): boolean {
  return rank(mine) >= rank("admin") && (rank(role) < rank(mine) || mine === "owner");
}
