/**
 * Signing in, and the access token of who is.
 *
 * The refresh token is a cookie that no script can read; the access token lives in memory only. A refresh token is good for one use, so of all
 * the tabs of a browser one refreshes at a time (a lock of the browser's) and gives the others what it got.
 */
import { ApiError, isApiError, request } from "./http";
import type { Call } from "./rest";

export type Session = { user: string; name: string; device: string; access_token: string; expires: number };
/** What is kept in the browser about who is signed in: nothing secret. */
export type Who = Pick<Session, "user" | "name" | "device">;

const AUTH = "/v1/auth";
const CSRF = { "hubbub-csrf": "1" };
const WHO = "hubbub.who";
const LOCK = "hubbub.refresh";
/** A token is renewed when it has less left than this. */
const EARLY_MS = 60_000;

export const auth = {
  register: (name: string, password: string, email?: string) =>
    request<Session>("POST", `${AUTH}/register`, { body: { name, password, cookie: true, device: deviceName(), ...(email ? { email } : {}) }, headers: CSRF }),
  login: (name: string, password: string) =>
    request<Session>("POST", `${AUTH}/login`, { body: { name, password, cookie: true, device: deviceName() }, headers: CSRF }),
  mfa: (mfa_token: string, code: string) =>
    request<Session>("POST", `${AUTH}/login/mfa`, { body: { mfa_token, code, cookie: true, device: deviceName() }, headers: CSRF }),
  forgot: (name: string) => request<void>("POST", `${AUTH}/password/forgot`, { body: { name } }),
  reset: (token: string, password: string) => request<void>("POST", `${AUTH}/password/reset`, { body: { token, password } }),
  verifyEmail: (token: string) => request<void>("POST", `${AUTH}/email/verify`, { body: { token } }),
};

/** What people will recognise in the list of their devices. */
export function deviceName(agent = navigator.userAgent): string {
  const first = (pairs: [RegExp, string][], or: string) => pairs.find(([re]) => re.test(agent))?.[1] ?? or;
  const browser = first([[/Edg\//, "Edge"], [/Firefox\//, "Firefox"], [/Chrome\//, "Chrome"], [/Safari\//, "Safari"]], "Browser");
  const system = first([[/Android/, "Android"], [/iPhone|iPad/, "iOS"], [/Mac OS X/, "macOS"], [/Windows/, "Windows"], [/Linux/, "Linux"]], "");
  return system ? `${browser}, ${system}` : browser;
}

export function rememberedWho(): Who | undefined {
  try {
    const who: unknown = JSON.parse(localStorage.getItem(WHO) ?? "null");
    if (who && typeof who === "object" && "user" in who && "name" in who && "device" in who) return who as Who;
  } catch {
    // Not ours, or storage is shut: nobody is remembered.
  }
  return undefined;
}

function remember(who: Who | undefined) {
  try {
    if (who) localStorage.setItem(WHO, JSON.stringify(who));
    else localStorage.removeItem(WHO);
  } catch {
    // Storage is shut: one signs in again next time.
  }
}

type Told = { kind: "session"; session: Session } | { kind: "out"; why: string };

/** The token of who is signed in, shared with the other tabs. */
export class Tokens {
  #session: Session | undefined;
  #refreshing: Promise<Session> | undefined;
  readonly #others = new BroadcastChannel("hubbub.session");

  /** `ended` is called when the session is over for good (signed out here, in another tab, or by the server), `began` when another tab has one. */
  constructor(
    private readonly ended: (why: string) => void,
    private readonly began: (who: Who) => void,
  ) {
    this.#others.onmessage = ({ data }: MessageEvent<Told>) => {
      if (data.kind === "out") return this.#over(data.why);
      const another = this.#session?.device !== data.session.device;
      this.#session = data.session;
      if (another) this.began(data.session);
    };
  }

  /** Begins a session that was just opened. */
  begin(session: Session) {
    this.#session = session;
    remember({ user: session.user, name: session.name, device: session.device });
    this.#others.postMessage({ kind: "session", session } satisfies Told);
  }

  /** A token that is good for a while. Throws `offline` when the server is not there, and ends the session when it says so. */
  async get(fresh = false): Promise<string> {
    const now = this.#session;
    if (now && !fresh && now.expires - Date.now() > EARLY_MS) return now.access_token;
    return (await this.#refresh(now?.access_token)).access_token;
  }

  #refresh(had: string | undefined): Promise<Session> {
    this.#refreshing ??= this.#locked(had).finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  async #locked(had: string | undefined): Promise<Session> {
    return navigator.locks.request(LOCK, async () => {
      // Another tab did it while this one waited for the lock.
      const now = this.#session;
      if (now && now.access_token !== had && now.expires - Date.now() > EARLY_MS) return now;
      try {
        const session = await request<Session>("POST", `${AUTH}/refresh`, { body: {}, headers: CSRF });
        this.begin(session);
        return session;
      } catch (e) {
        if (isApiError(e) && (e.status === 401 || e.status === 403)) this.signedOut(e.code);
        throw e;
      }
    });
  }

  /** Signs out at the server, as far as it is there, and here in any case. */
  async signOut(): Promise<void> {
    try {
      const token = await this.get();
      await request("POST", `${AUTH}/logout`, { token, body: {}, headers: CSRF });
    } catch {
      // Offline, or over already. The device can be revoked from any other.
    }
    this.signedOut("signed_out");
  }

  /** The session is over: tells the other tabs, forgets who it was. */
  signedOut(why: string) {
    this.#others.postMessage({ kind: "out", why } satisfies Told);
    this.#over(why);
  }

  #over(why: string) {
    this.#session = undefined;
    remember(undefined);
    this.ended(why);
  }

  /** A request with the token; once more with a new one when the server says that it is over. */
  readonly call: Call = async (method, path, options = {}) => {
    try {
      return await request(method, path, { ...options, token: await this.get() });
    } catch (e) {
      if (!(e instanceof ApiError) || e.code !== "token_expired") throw e;
      return request(method, path, { ...options, token: await this.get(true) });
    }
  };
}
