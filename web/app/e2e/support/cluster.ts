/** A real cluster for a test, by scripts/cluster, with a directory and ports of its own: Redis, a CQL server, three nodes, HAProxy before them. */
import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { Api, APP, BINARY, ROOT } from "./server";

const run = promisify(execFile);
const SCRIPT = join(ROOT, "scripts/cluster");
/** Ports that the system gives to nobody by itself, in hundreds. */
const FIRST = 10_000;
const HUNDREDS = 220;
const TRIES = 5;

export class Cluster extends Api {
  private constructor(
    port: number,
    private readonly dir: string,
  ) {
    super(port);
  }

  static async start(): Promise<Cluster> {
    if (!existsSync(BINARY)) throw new Error(`${BINARY} is not there: run scripts/web e2e, which builds it`);
    for (let tries = 1; ; tries++) {
      const cluster = new Cluster(FIRST + 100 * Math.floor(Math.random() * HUNDREDS), mkdtempSync(join(tmpdir(), "hubbub-cluster-")));
      try {
        await cluster.#script("start");
        return cluster;
      } catch (e) {
        await cluster.stop();
        if (tries === TRIES || !/is taken/.test(String(e))) throw e;
      }
    }
  }

  async #script(...words: string[]): Promise<void> {
    const env = {
      ...process.env,
      HUBBUB_BIN: BINARY,
      HUBBUB_CLUSTER_DIR: this.dir,
      HUBBUB_CLUSTER_PORT: String(this.port),
      HUBBUB_CLUSTER_CQL_NODES: "1",
      HUBBUB_AUTH__ARGON2_MEMORY_KIB: "64",
      HUBBUB_AUTH__ARGON2_PASSES: "1",
      HUBBUB_DEV__APP_DIR: APP,
    };
    await run(SCRIPT, words, { env, timeout: 180_000 });
  }

  /** How many sockets each node holds. */
  async sockets(): Promise<number[]> {
    const of = async (node: number) => {
      const metrics = await fetch(`http://127.0.0.1:${this.port + 10 + node}/metrics`).then((r) => r.text(), () => "");
      return Number(/^hubbub_sockets_open (\d+)/m.exec(metrics)?.[1] ?? 0);
    };
    return Promise.all([1, 2, 3].map(of));
  }

  /** As a power cut would: no goodbye. */
  async kill(node: number): Promise<void> {
    await this.#script("kill", String(node));
  }

  async stop(): Promise<void> {
    await this.#script("stop");
    rmSync(this.dir, { recursive: true, force: true });
  }
}
