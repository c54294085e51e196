/** A real server for a test: its own data, its own port; it can be killed and started again where it stood. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

export const ROOT = resolve(import.meta.dirname, "../../../..");
export const BINARY = process.env.HUBBUB_BIN ?? join(process.env.CARGO_TARGET_DIR ?? join(ROOT, "target"), "debug/hubbub");
/** The app, as it was built last. */
export const APP = join(ROOT, "web/dist/app");
const READY_MS = 20_000;

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address();
      probe.close(() => (typeof address === "object" && address ? resolve(address.port) : reject(new Error("no port"))));
    });
  });
}

export type Account = { name: string; user: string; token: string };

/** What is asked of a server, or of several behind one address. */
export class Api {
  constructor(readonly port: number) {}

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  async api<R>(method: string, path: string, body?: unknown, token?: string): Promise<R> {
    const response = await fetch(`${this.url}${path}`, {
      method,
      headers: { "content-type": "application/json", ...(token ? { authorization: `Bearer ${token}` } : {}) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return (text ? JSON.parse(text) : undefined) as R;
  }

  async register(name: string): Promise<Account> {
    const session = await this.api<{ user: string; access_token: string }>("POST", "/v1/auth/register", { name, password: PASSWORD });
    return { name, user: session.user, token: session.access_token };
  }

  async befriend(a: Account, b: Account): Promise<void> {
    await this.api("PUT", `/v1/contacts/${b.user}`, undefined, a.token);
    await this.api("PUT", `/v1/contacts/${a.user}`, undefined, b.token);
  }
}

export class Server extends Api {
  #process: ChildProcess | undefined;
  #said: string[] = [];
  readonly #data = mkdtempSync(join(tmpdir(), "hubbub-e2e-"));

  private constructor(
    port: number,
    private readonly admin: number,
    private readonly settings: Record<string, string>,
  ) {
    super(port);
  }

  static async start(settings: Record<string, string> = {}): Promise<Server> {
    if (!existsSync(BINARY)) throw new Error(`${BINARY} is not there: run scripts/web e2e, which builds it`);
    const server = new Server(await freePort(), await freePort(), settings);
    await server.begin();
    return server;
  }

  async begin(): Promise<void> {
    const settings = {
      "http.listen": `127.0.0.1:${this.port}`,
      "admin.listen": `127.0.0.1:${this.admin}`,
      "storage.data_dir": this.#data,
      "mail.public_url": this.url,
      // Tests sign many people in; the cost of a password is not what they are about.
      "auth.argon2_memory_kib": "64",
      "auth.argon2_passes": "1",
      "auth.attempts_per_minute": "100000",
      "limits.requests_per_second": "0",
      "limits.http_per_second": "0",
      // As it was built last, so that the binary need not be built again for it.
      "dev.app_dir": APP,
      ...this.settings,
    };
    const args = ["serve", ...Object.entries(settings).flatMap(([k, v]) => ["--set", `${k}=${v}`])];
    const child = spawn(BINARY, args, { stdio: ["ignore", "pipe", "pipe"], cwd: this.#data });
    this.#process = child;
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", (d: Buffer) => this.#said.push(d.toString()));
    const until = Date.now() + READY_MS;
    while (Date.now() < until && child.exitCode === null) {
      const ready = await fetch(`http://127.0.0.1:${this.port}/readyz`).then((r) => r.ok, () => false);
      if (ready) return;
      await new Promise((r) => setTimeout(r, 50));
    }
    throw new Error(`the server did not start:\n${this.#said.join("").slice(-4_000)}`);
  }

  /** As a power cut would: no goodbye. */
  async kill(): Promise<void> {
    const child = this.#process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((r) => child.once("exit", r));
    child.kill("SIGKILL");
    await gone;
  }

  async stop(): Promise<void> {
    await this.kill();
    rmSync(this.#data, { recursive: true, force: true });
  }

  /** The link of the newest mail to an address. */
  async mailedLink(to: string): Promise<string> {
    const outbox = join(this.#data, "outbox");
    const until = Date.now() + READY_MS;
    while (Date.now() < until) {
      const mails = existsSync(outbox) ? readdirSync(outbox).filter((f) => f.endsWith(".eml")) : [];
      const texts = mails.sort().map((f) => readFileSync(join(outbox, f), "utf8").replace(/=\r?\n/g, "").replaceAll("=3D", "="));
      const link = texts.findLast((text) => text.includes(to))?.match(/https?:\S+#token=\S+/)?.[0];
      if (link) return link;
      await new Promise((r) => setTimeout(r, 50));
    }
    throw new Error(`no mail to ${to}`);
  }
}

export const PASSWORD = "correct horse battery";
