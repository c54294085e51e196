/**
 * Who is signed in, in all tabs of a browser.
 *
 * The refresh token is a cookie that no script can read; access tokens live in memory. A refresh token is good for one use: one tab renews at a
 * time (the client library sees to that), and gives the others what it got. What stays in the browser says who it is and nothing secret, so
 * that the app opens without a network.
 */
import { type HubbubError, Rest, type Session, Tokens } from "@hubbub/client/rest";

export type { Session };
export type Who = Pick<Session, "user" | "name" | "device">;

const WHO = "hubbub.who";

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
    if (who) localStorage.setItem(WHO, JSON.stringify({ user: who.user, name: who.name, device: who.device }));
    else localStorage.removeItem(WHO);
  } catch {
    // Storage is shut: one signs in again next time.
  }
}

type Told = { kind: "session"; session: Session } | { kind: "out"; why: string };

/** Signing in and out, and requests as who is signed in. */
export class Account {
  /** Requests for which nobody has to be signed in. */
  readonly open = new Rest({ cookie: true });
  readonly tokens: Tokens;
  readonly rest: Rest;
  readonly #others = new BroadcastChannel("hubbub.session");

  /** `began`: a session is there, here or in another tab; `ended`: it is over for good, and why. */
  constructor(
    private readonly began: (who: Who) => void,
    private readonly ended: (why: string) => void,
  ) {
    this.tokens = new Tokens(this.open, {
      changed: (session) => {
        this.#others.postMessage({ kind: "session", session } satisfies Told);
        this.#begun(session);
      },
      ended: (why: HubbubError) => this.over(why.code),
    });
    this.rest = new Rest({ token: this.tokens.token, cookie: true });
    this.#others.onmessage = ({ data }: MessageEvent<Told>) => {
      if (data.kind === "out") return this.#gone(data.why);
      this.tokens.session = data.session;
      this.#begun(data.session);
    };
  }

  /** Takes in a session that was just opened. */
  begin(session: Session) {
    this.tokens.begin(session);
  }

  /**
   * Signs out every other device and closes all sockets; this one goes on with the new session. Who asks for a token meanwhile, in another
   * tab too, waits for it: the refresh token of before would be taken for stolen.
   */
  async changePassword(old: string, next: string): Promise<void> {
    await this.tokens.replace((rest) => rest.changePassword(old, next));
  }

  /** Deletes the account for good; `code`: of the second step, where it is on. */
  async delete(password: string, code?: string): Promise<void> {
    await this.rest.deleteMe(password, code);
    this.over("deleted");
  }

  /** Signs out at the server, as far as it is there, and here in any case. */
  async signOut(): Promise<void> {
    // Offline, or over already: the device can be revoked from any other.
    await this.rest.logout().catch(() => undefined);
    this.over("signed_out");
  }

  /** The session is over: tells the other tabs, forgets who it was. */
  over(why: string) {
    this.#others.postMessage({ kind: "out", why } satisfies Told);
    this.#gone(why);
  }

  #begun(session: Session) {
    remember(session);
    this.began(session);
  }

  #gone(why: string) {
    this.tokens.session = undefined;
    remember(undefined);
    this.ended(why);
  }
}
