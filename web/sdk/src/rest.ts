/**
 * `@hubbub/client/rest`: the server's REST API, typed, and the tokens of who is signed in.
 *
 * Every method rejects with a `HubbubError`: the server's code, or `unreachable` when there was no answer. With a token provider an answer of
 * `token_expired` is asked again once with a fresh token. `Tokens` renews one at a time over all the tabs of a browser: a refresh token is
 * good for one use.
 */
import type { TokenProvider } from "./driver.js";
import { HubbubError } from "./errors.js";
import type { Entry, Id, Member, Millis, Numbered, Presence, Retry, Role, RoomKind, RoomSummary, Seq, Shown } from "./types.js";

export { HubbubError };

export interface Session {
  user: Id;
  name: string;
  device: Id;
  access_token: string;
  expires: Millis;
  /** Absent when it came as a cookie. */
  refresh_token?: string;
  refresh_expires: Millis;
}
export interface Profile {
  user: Id;
  name: string;
  display_name?: string;
  avatar_url?: string;
  status?: string;
  /** A program and no person. */
  bot?: boolean;
  /** What is left of an account that was deleted. */
  deleted?: boolean;
  last_seen?: Millis;
}
export interface Me extends Profile {
  device: Id;
  created: Millis;
  expires: Millis;
  email?: string;
  email_verified?: boolean;
  totp: boolean;
}
export interface Contact extends Profile {
  state: "requested" | "pending" | "accepted" | "blocked";
}
export interface Device {
  device: Id;
  name: string;
  created: Millis;
  used: Millis;
  current: boolean;
}
export interface Notify {
  level: "all" | "mentions" | "none";
  muted_until?: Millis;
}
export interface RestRoom extends RoomSummary {
  members: number;
  slow_mode_s: number;
  archived: boolean;
  notify: Notify;
  muted_until?: Millis;
}
export interface RestMember extends Member {
  muted_until?: Millis;
}
export interface Invite {
  code: string;
  room: Id;
  by: Id;
  created: Millis;
  expires?: Millis;
  uses: number;
  uses_max?: number;
}
export interface InviteShown {
  room: Id;
  kind: RoomKind;
  name: string;
  topic?: string;
  members: number;
  by: Id;
}
export interface Channel {
  room: Id;
  name: string;
  topic?: string;
  members: number;
  joined: boolean;
}
export interface Receipt {
  user: Id;
  read: Seq;
  delivered: Seq;
}
export interface PushSubscriptionBody {
  endpoint: string;
  keys: { p256dh: string; auth: string };
}
export interface Page<R> {
  items: R[];
  next?: string;
}
/** Which page of a list: `cursor` is the `next` of the one before. */
export interface PageAsk {
  cursor?: string | undefined;
  limit?: number | undefined;
}
export interface SignIn {
  name: string;
  password: string;
  /** A name for this device, for the list of devices. */
  device?: string;
}

export interface RestOptions {
  /** The server; in a browser the page's own origin unless told otherwise. */
  url?: string | undefined;
  /** For everything that needs somebody signed in. */
  token?: TokenProvider | undefined;
  /** The refresh token travels as a cookie that no script can read: for browsers. */
  cookie?: boolean | undefined;
  fetch?: typeof globalThis.fetch | undefined;
  /** Longest wait for an answer; 15 s. */
  timeoutMs?: number | undefined;
}

type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
interface Extra {
  body?: unknown;
  query?: object;
  headers?: Record<string, string>;
  /** Nobody has to be signed in. */
  open?: boolean;
  /** Longest wait for this answer, if not the usual one. */
  timeoutMs?: number;
}

const part = encodeURIComponent;

export class Rest {
  readonly #url: string;
  readonly #fetch: typeof globalThis.fetch;
  constructor(private readonly options: RestOptions = {}) {
    this.#url = (options.url ?? "").replace(/^ws/, "http").replace(/\/+$/, "");
    this.#fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
  }

  /** The same server, with this token. */
  with(token: TokenProvider): Rest {
    return new Rest({ ...this.options, token });
  }

  /** Any call. The answer is what the server sent, or undefined when it sent nothing. */
  async call<R>(method: Method, path: string, extra: Extra = {}): Promise<R> {
    const { token } = this.options;
    if (extra.open || !token) return this.#once<R>(method, path, extra);
    const used = await token({ fresh: false });
    try {
      return await this.#once<R>(method, path, extra, used);
    } catch (e) {
      if (!(e instanceof HubbubError) || (e.code !== "token_expired" && e.code !== "token_revoked")) throw e;
      const other = await token({ fresh: true });
      if (other === used) throw e;
      return this.#once<R>(method, path, extra, other);
    }
  }

  async #once<R>(method: Method, path: string, extra: Extra, token?: string): Promise<R> {
    const { body, query, headers } = extra;
    const asked = new URLSearchParams(Object.entries(query ?? {}).flatMap(([k, v]) => (v === undefined ? [] : [[k, String(v)]])));
    const { timeoutMs = 15_000, cookie } = this.options;
    let response: Response;
    let text: string;
    try {
      response = await this.#fetch(`${this.#url}/v1${path}${asked.size ? `?${asked}` : ""}`, {
        method,
        signal: AbortSignal.timeout(extra.timeoutMs ?? timeoutMs),
        credentials: cookie ? "include" : "same-origin",
        headers: {
          accept: "application/json",
          ...(body === undefined ? {} : { "content-type": "application/json" }),
          ...(cookie ? { "hubbub-csrf": "1" } : {}),
          ...(token ? { authorization: `Bearer ${token}` } : {}),
          ...headers,
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      text = await response.text();
    } catch (e) {
      throw new HubbubError("unreachable", `${method} ${path}: ${e instanceof Error ? e.message : String(e)}`, "later");
    }
    const answer = parse(text);
    if (!response.ok) throw problem(response.status, answer);
    return answer as R;
  }

  // Signing in. `Tokens` calls these.
  register(who: SignIn & { email?: string }): Promise<Session> {
    return this.#auth("register", who);
  }
  /** With a second factor it rejects with `mfa_required`, an `MfaRequired`, whose token `loginMfa` takes. */
  login(who: SignIn): Promise<Session> {
    return this.#auth("login", who);
  }
  loginMfa(answer: { mfa_token: string; code: string; device?: string }): Promise<Session> {
    return this.#auth("login/mfa", answer);
  }
  refresh(refresh_token?: string): Promise<Session> {
    return this.#auth("refresh", refresh_token === undefined ? {} : { refresh_token });
  }
  logout(everywhere = false): Promise<void> {
    return this.call("POST", "/auth/logout", { body: { everywhere } });
  }
  forgotPassword(who: { name: string } | { email: string }): Promise<void> {
    return this.call("POST", "/auth/password/forgot", { body: who, open: true });
  }
  resetPassword(token: string, password: string): Promise<void> {
    return this.call("POST", "/auth/password/reset", { body: { token, password }, open: true });
  }
  verifyEmail(token: string): Promise<void> {
    return this.call("POST", "/auth/email/verify", { body: { token }, open: true });
  }
  #auth(what: string, body: object): Promise<Session> {
    return this.call("POST", `/auth/${what}`, { body: this.options.cookie ? { ...body, cookie: true } : body, open: true });
  }

  // Oneself.
  me(): Promise<Me> {
    return this.call("GET", "/me");
  }
  updateMe(body: { display_name?: string; avatar_url?: string; status?: string }): Promise<Me> {
    return this.call("PATCH", "/me", { body });
  }
  /** Signs everything else out and closes all sockets. Call it within `Tokens.replace`, which takes the new session in. */
  changePassword(old: string, next: string): Promise<Session> {
    return this.call("PUT", "/me/password", { body: { old, new: next, ...(this.options.cookie ? { cookie: true } : {}) } });
  }
  /** A mail with a link goes there; the address counts once it was followed (`verifyEmail`). */
  setEmail(email: string, password: string): Promise<void> {
    return this.call("PUT", "/me/email", { body: { email, password } });
  }
  removeEmail(password: string): Promise<void> {
    return this.call("DELETE", "/me/email", { body: { password } });
  }
  devices(page: PageAsk = {}): Promise<Page<Device>> {
    return this.call("GET", "/me/devices", { query: page });
  }
  revokeDevice(device: Id): Promise<void> {
    return this.call("DELETE", `/me/devices/${device}`);
  }
  totp(password: string): Promise<{ secret: string; uri: string }> {
    return this.call("POST", "/me/totp", { body: { password } });
  }
  confirmTotp(code: string): Promise<{ recovery_codes: string[] }> {
    return this.call("POST", "/me/totp/confirm", { body: { code } });
  }
  removeTotp(password: string, code: string): Promise<void> {
    return this.call("DELETE", "/me/totp", { body: { password, code } });
  }
  /** Deletes the account for good; `code`: of the second factor, if there is one. */
  deleteMe(password: string, code?: string): Promise<void> {
    return this.call("DELETE", "/me", { body: { password, ...(code === undefined ? {} : { code }) } });
  }
  /** Everything of one's own, to keep. It may be large and take minutes. */
  exportMe(timeoutMs = 900_000): Promise<unknown> {
    return this.call("GET", "/me/export", { timeoutMs });
  }

  // Others.
  user(user: Id): Promise<Profile> {
    return this.call("GET", `/users/${user}`);
  }
  userByName(name: string): Promise<Profile> {
    return this.call("GET", `/users/by-name/${part(name)}`);
  }
  contacts(page: PageAsk = {}): Promise<Page<Contact>> {
    return this.call("GET", "/contacts", { query: page });
  }
  contactsPresence(page: PageAsk = {}): Promise<Page<Presence>> {
    return this.call("GET", "/contacts/presence", { query: page });
  }
  /** Asks to be contacts, or accepts. */
  addContact(user: Id): Promise<Contact> {
    return this.call("PUT", `/contacts/${user}`);
  }
  removeContact(user: Id): Promise<void> {
    return this.call("DELETE", `/contacts/${user}`);
  }
  blocks(page: PageAsk = {}): Promise<Page<Profile>> {
    return this.call("GET", "/blocks", { query: page });
  }
  block(user: Id): Promise<void> {
    return this.call("PUT", `/blocks/${user}`);
  }
  unblock(user: Id): Promise<void> {
    return this.call("DELETE", `/blocks/${user}`);
  }
  report(body: { room?: Id; seq?: Seq; user?: Id; reason: string }): Promise<{ id?: Id }> {
    return this.call("POST", "/reports", { body });
  }

  // Rooms. What the socket can do as well, `Client` does with the outbox; these are for programs without one.
  rooms(page: PageAsk = {}): Promise<Page<RestRoom>> {
    return this.call("GET", "/rooms", { query: page });
  }
  room(room: Id): Promise<RestRoom> {
    return this.call("GET", `/rooms/${room}`);
  }
  createRoom(body: { kind: RoomKind; name?: string; topic?: string; members?: Id[] }): Promise<RestRoom> {
    return this.call("POST", "/rooms", { body, headers: once() });
  }
  updateRoom(room: Id, body: { name?: string; topic?: string; slow_mode_s?: number; archived?: boolean }): Promise<RestRoom> {
    return this.call("PATCH", `/rooms/${room}`, { body });
  }
  joinRoom(room: Id): Promise<unknown> {
    return this.call("POST", `/rooms/${room}/join`);
  }
  leaveRoom(room: Id): Promise<void> {
    return this.call("POST", `/rooms/${room}/leave`);
  }
  transferRoom(room: Id, user: Id): Promise<void> {
    return this.call("POST", `/rooms/${room}/transfer`, { body: { user } });
  }
  members(room: Id, page: PageAsk = {}): Promise<Page<RestMember>> {
    return this.call("GET", `/rooms/${room}/members`, { query: page });
  }
  inviteMember(room: Id, user: Id, role?: Role): Promise<unknown> {
    return this.call("PUT", `/rooms/${room}/members/${user}`, { body: role ? { role } : {} });
  }
  setRole(room: Id, user: Id, role: Role): Promise<unknown> {
    return this.call("PATCH", `/rooms/${room}/members/${user}`, { body: { role } });
  }
  kick(room: Id, user: Id): Promise<void> {
    return this.call("DELETE", `/rooms/${room}/members/${user}`);
  }
  bans(room: Id, page: PageAsk = {}): Promise<Page<{ user: Id; name: string }>> {
    return this.call("GET", `/rooms/${room}/bans`, { query: page });
  }
  ban(room: Id, user: Id): Promise<void> {
    return this.call("PUT", `/rooms/${room}/bans/${user}`);
  }
  unban(room: Id, user: Id): Promise<void> {
    return this.call("DELETE", `/rooms/${room}/bans/${user}`);
  }
  mute(room: Id, user: Id, until?: Millis): Promise<void> {
    return this.call("PUT", `/rooms/${room}/mutes/${user}`, { body: until === undefined ? {} : { until } });
  }
  unmute(room: Id, user: Id): Promise<void> {
    return this.call("DELETE", `/rooms/${room}/mutes/${user}`);
  }
  channels(q = "", page: PageAsk = {}): Promise<Page<Channel>> {
    return this.call("GET", "/channels", { query: { q, ...page } });
  }
  notify(room: Id): Promise<Notify> {
    return this.call("GET", `/rooms/${room}/notify`);
  }
  setNotify(room: Id, body: Notify): Promise<Notify> {
    return this.call("PUT", `/rooms/${room}/notify`, { body });
  }

  // Invitations.
  createInvite(room: Id, body: { expires_s?: number; uses_max?: number } = {}): Promise<Invite> {
    return this.call("POST", `/rooms/${room}/invites`, { body, headers: once() });
  }
  invites(room: Id, page: PageAsk = {}): Promise<Page<Invite>> {
    return this.call("GET", `/rooms/${room}/invites`, { query: page });
  }
  endInvite(room: Id, code: string): Promise<void> {
    return this.call("DELETE", `/rooms/${room}/invites/${part(code)}`);
  }
  invite(code: string): Promise<InviteShown> {
    return this.call("GET", `/invites/${part(code)}`);
  }
  acceptInvite(code: string): Promise<RestRoom> {
    return this.call("POST", `/invites/${part(code)}/accept`);
  }

  // Messages.
  messages(room: Id, ask: { before?: Seq; after?: Seq; around?: Seq; limit?: number } = {}): Promise<{ items: Shown[]; head: Seq; more: boolean }> {
    return this.call("GET", `/rooms/${room}/messages`, { query: ask });
  }
  message(room: Id, seq: Seq): Promise<Shown> {
    return this.call("GET", `/rooms/${room}/messages/${seq}`);
  }
  sendMessage(room: Id, body: object): Promise<Numbered & { room: Id }> {
    return this.call("POST", `/rooms/${room}/messages`, { body, headers: once() });
  }
  thread(room: Id, seq: Seq, page: PageAsk = {}): Promise<Page<Shown>> {
    return this.call("GET", `/rooms/${room}/messages/${seq}/thread`, { query: page });
  }
  readers(room: Id, seq: Seq, page: PageAsk = {}): Promise<Page<{ user: Id; name: string }>> {
    return this.call("GET", `/rooms/${room}/messages/${seq}/readers`, { query: page });
  }
  /** How far the other members have come; nobody in rooms too large for receipts. */
  receipts(room: Id): Promise<Page<Receipt>> {
    return this.call("GET", `/rooms/${room}/receipts`);
  }
  pins(room: Id, page: PageAsk = {}): Promise<Page<Shown>> {
    return this.call("GET", `/rooms/${room}/pins`, { query: page });
  }
  entries(room: Id, ask: { after?: Seq; limit?: number } = {}): Promise<Page<Entry>> {
    return this.call("GET", `/rooms/${room}/entries`, { query: ask });
  }

  // Web Push.
  vapid(): Promise<{ public_key: string }> {
    return this.call("GET", "/push/vapid");
  }
  subscribePush(body: PushSubscriptionBody): Promise<void> {
    return this.call("PUT", "/push/subscription", { body });
  }
  unsubscribePush(): Promise<void> {
    return this.call("DELETE", "/push/subscription");
  }

  /** All of a list, page after page, up to `max` items. */
  async all<R>(list: (page: PageAsk) => Promise<Page<R>>, max = 5_000): Promise<R[]> {
    const items: R[] = [];
    let cursor: string | undefined;
    do {
      const page = await list({ cursor });
      items.push(...page.items);
      cursor = page.next;
    } while (cursor !== undefined && items.length < max);
    return items;
  }
}

/** The password was right and a code is wanted too. */
export class MfaRequired extends HubbubError {
  constructor(
    message: string,
    /** For `loginMfa`. */
    readonly mfaToken: string,
  ) {
    super("mfa_required", message);
  }
}

const once = () => ({ "idempotency-key": crypto.randomUUID() });

function parse(text: string): unknown {
  try {
    return text ? JSON.parse(text) : undefined;
  } catch {
    // A proxy's own page: the status tells what there is to tell.
    return undefined;
  }
}

/** Reads problem+json; anything else becomes an error that goes by the status. */
function problem(status: number, answer: unknown): HubbubError {
  const body = (answer ?? {}) as { code?: string; detail?: string; title?: string; retry?: Retry; retry_after_ms?: number; mfa_token?: string };
  const message = body.detail ?? body.title ?? `the server answered ${status}`;
  if (body.code === "mfa_required" && body.mfa_token) return new MfaRequired(message, body.mfa_token);
  const later = status === 429 || status >= 500;
  return new HubbubError(body.code ?? (later ? "unavailable" : "internal"), message, body.retry ?? (later ? "later" : "never"), body.retry_after_ms);
}

/** A token is renewed when it has less left than this. */
const EARLY_MS = 60_000;

export interface TokensOptions {
  /** The session that was opened before, if it is known; with cookies there need not be one. */
  session?: Session | undefined;
  /** Every new session, to be kept; its refresh token is good for one use. */
  changed?: ((session: Session) => void) | undefined;
  /** It is over for good: signed out or revoked. */
  ended?: ((why: HubbubError) => void) | undefined;
  /** One name per browser and server; tabs with the same one renew one after another. */
  name?: string | undefined;
}

/** Who is signed in: gives its token, renewed in time, to a `Client` and to a `Rest`. */
export class Tokens {
  session: Session | undefined;
  #renewing: Promise<Session> | undefined;
  #last: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly rest: Rest,
    private readonly options: TokensOptions = {},
  ) {
    this.session = options.session;
  }

  /** Takes in a session that was opened by `register`, `login` or another tab. */
  begin(session: Session): void {
    this.session = session;
    this.options.changed?.(session);
  }

  /** The provider that `Client` and `Rest` ask. Rejects with `retry: "never"` when nobody is signed in any more. */
  readonly token: TokenProvider = async ({ fresh }) => {
    const { session } = this;
    if (session && !fresh && session.expires - Date.now() > EARLY_MS) return session.access_token;
    this.#renewing ??= this.#renew(session).finally(() => (this.#renewing = undefined));
    return (await this.#renewing).access_token;
  };

  /**
   * A call that ends the session and opens another, such as `changePassword`. Renewals, of other tabs too, wait for it: the sockets that it
   * closes come back with the new session.
   */
  async replace(call: (rest: Rest) => Promise<Session>): Promise<Session> {
    const token = await this.token({ fresh: false });
    return this.#alone(async () => {
      const session = await call(this.rest.with(() => token));
      this.begin(session);
      return session;
    });
  }

  /** One at a time, over all tabs where the browser has locks. */
  #alone(work: () => Promise<Session>): Promise<Session> {
    const locks = globalThis.navigator?.locks;
    if (locks) return locks.request(this.options.name ?? "hubbub-tokens", work) as Promise<Session>;
    const done = this.#last.then(work);
    this.#last = done.catch(() => undefined);
    return done;
  }

  #renew(had: Session | undefined): Promise<Session> {
    return this.#alone(async () => {
      // Another tab did it while this one waited, and told `begin`.
      if (this.session && this.session !== had && this.session.expires - Date.now() > EARLY_MS) return this.session;
      try {
        const session = await this.rest.refresh(this.session?.refresh_token);
        this.begin(session);
        return session;
      } catch (e) {
        if (e instanceof HubbubError && e.retry === "never") {
          this.session = undefined;
          this.options.ended?.(e);
        }
        throw e;
      }
    });
  }
}
