/** Every address of the REST API that the app uses, as a function with types. Signing in is in `auth.ts`. */
import type { Method, Options } from "./http";

import type { Shown } from "@hubbub/client";

export type Id = string;
export type Role = "reader" | "member" | "moderator" | "admin" | "owner";
export type RoomKind = "direct" | "group" | "channel";
export type NotifyLevel = "all" | "mentions" | "none";
export type ContactState = "requested" | "pending" | "accepted" | "blocked";

export type Profile = { user: Id; name: string; display_name?: string; avatar_url?: string; status?: string; last_seen?: number };
export type Me = Profile & { device: Id; created: number; email?: string; email_verified?: boolean; totp?: boolean };
export type Contact = Profile & { state: ContactState };
export type PresenceShown = { user: Id; state: "offline" | "away" | "busy" | "online"; last_seen?: number; status?: string };
export type Device = { device: Id; name: string; created: number; used: number; current: boolean };
export type Member = { user: Id; name: string; role: Role; muted_until?: number };
export type Invite = { code: string; room: Id; by: Id; created: number; expires?: number; uses: number; uses_max?: number };
export type InviteShown = { room: Id; kind: RoomKind; name: string; topic?: string; members: number; by: Id };
export type Channel = { room: Id; name: string; topic?: string; members: number; joined: boolean };
export type Notify = { level: NotifyLevel; muted_until?: number };
export type Reader = { user: Id; name: string };
export type Page<R> = { items: R[]; next?: string };

/** A request with the access token of who is signed in. */
export type Call = <R>(method: Method, path: string, options?: Omit<Options, "token">) => Promise<R>;

/** Pages that are asked for at most when all of a list is wanted; longer lists end there. */
const PAGES_MAX = 20;

async function all<R>(call: Call, path: string): Promise<R[]> {
  const items: R[] = [];
  let cursor = "";
  for (let page = 0; page < PAGES_MAX; page++) {
    const join = path.includes("?") ? "&" : "?";
    const got: Page<R> = await call("GET", path + (cursor ? `${join}cursor=${encodeURIComponent(cursor)}` : ""));
    items.push(...got.items);
    if (!got.next) break;
    cursor = got.next;
  }
  return items;
}

export function rest(call: Call) {
  const room = (id: Id) => `/v1/rooms/${id}`;
  const idempotent = () => ({ headers: { "idempotency-key": crypto.randomUUID() } });
  return {
    me: () => call<Me>("GET", "/v1/me"),
    patchMe: (body: { display_name?: string; avatar_url?: string; status?: string }) => call<Me>("PATCH", "/v1/me", { body }),
    password: (old: string, next: string) => call<unknown>("PUT", "/v1/me/password", { body: { old, new: next } }),
    devices: () => all<Device>(call, "/v1/me/devices"),
    revokeDevice: (device: Id) => call<void>("DELETE", `/v1/me/devices/${device}`),
    totpBegin: (password: string) => call<{ secret: string; uri: string }>("POST", "/v1/me/totp", { body: { password } }),
    totpConfirm: (code: string) => call<{ recovery_codes: string[] }>("POST", "/v1/me/totp/confirm", { body: { code } }),
    totpEnd: (password: string, code: string) => call<void>("DELETE", "/v1/me/totp", { body: { password, code } }),
    deleteMe: (password: string) => call<void>("DELETE", "/v1/me", { body: { password } }),

    user: (id: Id) => call<Profile>("GET", `/v1/users/${id}`),
    userByName: (name: string) => call<Profile>("GET", `/v1/users/by-name/${encodeURIComponent(name)}`),

    contacts: () => all<Contact>(call, "/v1/contacts"),
    presence: () => all<PresenceShown>(call, "/v1/contacts/presence"),
    askContact: (user: Id) => call<Contact>("PUT", `/v1/contacts/${user}`),
    removeContact: (user: Id) => call<void>("DELETE", `/v1/contacts/${user}`),
    blocks: () => all<Profile>(call, "/v1/blocks"),
    block: (user: Id) => call<void>("PUT", `/v1/blocks/${user}`),
    unblock: (user: Id) => call<void>("DELETE", `/v1/blocks/${user}`),

    channels: (q: string) => call<Page<Channel>>("GET", `/v1/channels?q=${encodeURIComponent(q)}`),
    members: (id: Id) => all<Member>(call, `${room(id)}/members`),
    invites: (id: Id) => all<Invite>(call, `${room(id)}/invites`),
    makeInvite: (id: Id, body: { expires_s?: number; uses_max?: number }) => call<Invite>("POST", `${room(id)}/invites`, { body, ...idempotent() }),
    endInvite: (id: Id, code: string) => call<void>("DELETE", `${room(id)}/invites/${encodeURIComponent(code)}`),
    invite: (code: string) => call<InviteShown>("GET", `/v1/invites/${encodeURIComponent(code)}`),
    acceptInvite: (code: string) => call<{ room: Id }>("POST", `/v1/invites/${encodeURIComponent(code)}/accept`),
    notify: (id: Id) => call<Notify>("GET", `${room(id)}/notify`),
    setNotify: (id: Id, body: Notify) => call<Notify>("PUT", `${room(id)}/notify`, { body }),
    readers: (id: Id, seq: number) => all<Reader>(call, `${room(id)}/messages/${seq}/readers`),
    message: (id: Id, seq: number) => call<Shown>("GET", `${room(id)}/messages/${seq}`),
    pins: (id: Id) => all<Shown>(call, `${room(id)}/pins`),
    thread: (id: Id, seq: number) => all<Shown>(call, `${room(id)}/messages/${seq}/thread`),

    vapid: () => call<{ public_key: string }>("GET", "/v1/push/vapid"),
    subscribe: (body: { endpoint: string; keys: { p256dh: string; auth: string } }) => call<void>("PUT", "/v1/push/subscription", { body }),
    unsubscribe: () => call<void>("DELETE", "/v1/push/subscription"),
  };
}

export type Rest = ReturnType<typeof rest>;
