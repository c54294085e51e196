/** The real server for tests: its binary in a process of its own, with its data in a directory that goes when the test is over. */
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until } from "./until.js";

const ROOT = join(import.meta.dirname, "../../../..");
const BINARY = process.env["HUBBUB_BIN"] ?? join(ROOT, "target/debug/hubbub");

export interface Account {
  user: string;
  name: string;
  access_token: string;
  refresh_token: string;
  expires: number;
}

export const PASSWORD = "correct horse battery staple";
let accounts = 0;

export class Server {
  url = "";
  #process: ChildProcess | undefined;
  #said = "";
  readonly #data = mkdtempSync(join(tmpdir(), "hubbub-web-"));

  private constructor(private readonly settings: string[]) {}

  static async start(settings: Record<string, string | number> = {}): Promise<Server> {
    if (!existsSync(BINARY)) throw new Error(`${BINARY} is not there: run cargo build, or say where it is with HUBBUB_BIN`);
    const all = { "auth.argon2_memory_kib": 64, "auth.argon2_passes": 1, "auth.attempts_per_minute": 10_000, "presence.offline_debounce_ms": 100, ...settings };
    const server = new Server(Object.entries(all).flatMap(([k, v]) => ["--set", `${k}=${v}`]));
    await server.run("127.0.0.1:0");
    return server;
  }

  async run(listen: string): Promise<void> {
    const args = ["serve", "--data-dir", this.#data, "--listen", listen, "--admin-listen", "127.0.0.1:0", ...this.settings];
    // A directory without a configuration file of somebody's own.
    const child = spawn(BINARY, args, { cwd: this.#data, stdio: ["ignore", "pipe", "pipe"] });
    this.#process = child;
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", (text: Buffer) => (this.#said = (this.#said + String(text)).slice(-4000)));
    const file = join(this.#data, "node.json");
    await until("the server is ready", () => {
      if (child.exitCode !== null) throw new Error(`the server ended: ${this.#said}`);
      if (!existsSync(file)) return false;
      const node = JSON.parse(readFileSync(file, "utf8")) as { pid: number; http: string };
      this.url = `http://${node.http}`;
      return node.pid === child.pid;
    });
  }

  /** Ends it as a power failure would, and starts it again at the same address. */
  async crash(): Promise<void> {
    await this.#end("SIGKILL");
    await this.run(new URL(this.url).host);
  }

  kill(): Promise<void> {
    return this.#end("SIGKILL");
  }

  /** Starts it again at the address that it had. */
  again(): Promise<void> {
    return this.run(new URL(this.url).host);
  }

  /** Asks it to stop, which it tells its clients. */
  terminate(): void {
    this.#process?.kill("SIGTERM");
  }

  async ended(): Promise<void> {
    await until("the server has ended", () => this.#process?.exitCode !== null || this.#process?.signalCode !== null);
  }

  async stop(): Promise<void> {
    await this.#end("SIGKILL");
    rmSync(this.#data, { recursive: true, force: true });
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    this.#process?.kill(signal);
    await this.ended();
  }

  async post<R>(path: string, body: unknown, token?: string, method = "POST"): Promise<R> {
    const headers = { "content-type": "application/json", ...(token ? { authorization: `Bearer ${token}` } : {}) };
    const response = await fetch(`${this.url}${path}`, { method, headers, body: JSON.stringify(body) });
    const text = await response.text();
    if (!response.ok) throw new Error(`${path}: ${response.status} ${text}`);
    return (text ? JSON.parse(text) : undefined) as R;
  }

  /** A new account of a name of its own. */
  account(name: string): Promise<Account> {
    return this.post("/v1/auth/register", { name: `${name}${++accounts}`, password: PASSWORD });
  }

  /** Makes two users contacts of each other. */
  async befriend(a: Account, b: Account): Promise<void> {
    await this.post(`/v1/contacts/${b.user}`, {}, a.access_token, "PUT");
    await this.post(`/v1/contacts/${a.user}`, {}, b.access_token, "PUT");
  }
}
