/** The server's REST API, as the client library has it, and the types that features name. */
export type { Channel, Contact, Device, Invite, InviteShown, Me, Notify, Profile, Rest } from "@hubbub/client/rest";
export type { Member, Presence as PresenceShown, Role, RoomKind } from "@hubbub/client";
import type { Contact, Notify } from "@hubbub/client/rest";

export type NotifyLevel = Notify["level"];
export type ContactState = Contact["state"];
export type Reader = { user: string; name: string };
