/** A bare socket for tests that need many messages quickly, or somebody who is no browser. Node 22 has a WebSocket; for Node 20 the client's tests bring one. */
import WebSocket from "ws";
import type { Account, Api } from "./server";

type Reply = { op: string; ref: number; room?: string; code?: string; message?: string; [k: string]: unknown };

export class Socket {
  #ref = 0;
  /** The newest entry that was heard of, by room. */
  #seen = new Map<string, number>();
  #waiting = new Map<number, (r: Reply) => void>();

  private constructor(private readonly ws: WebSocket) {}

  static async open(server: Api, who: Account): Promise<Socket> {
    const ws = new WebSocket(`ws://127.0.0.1:${server.port}/v1/socket`, ["hubbub.v1.json"]);
    await new Promise((resolve, reject) => ws.once("open", resolve).once("error", reject));
    const socket = new Socket(ws);
    ws.on("message", (data) => {
      const frame = JSON.parse(String(data)) as Reply;
      const waits = socket.#waiting.get(frame.ref);
      if (!waits || !["ok", "error", "hello", "resumed"].includes(frame.op)) return;
      socket.#waiting.delete(frame.ref);
      waits(frame);
    });
    await socket.ask("auth", { token: who.token });
    await socket.ask("resume", { rooms: [], last: true });
    return socket;
  }

  ask(op: string, fields: Record<string, unknown>): Promise<Reply> {
    const ref = ++this.#ref;
    return new Promise((resolve, reject) => {
      this.#waiting.set(ref, (r) => (r.op === "error" ? reject(new Error(`${op}: ${r.code}: ${r.message}`)) : resolve(r)));
      this.ws.send(JSON.stringify({ op, ref, ...fields }));
    });
  }

  async once(op: string, fields: { room: string } & Record<string, unknown>): Promise<Reply> {
    const since = this.#seen.get(fields.room) ?? 0;
    const reply = await this.ask(op, { cid: crypto.randomUUID(), since, ...fields });
    this.#seen.set(fields.room, Math.max(since, Number(reply.seq ?? 0)));
    return reply;
  }

  async create(kind: "direct" | "group" | "channel", members: Account[], name?: string, topic?: string): Promise<string> {
    const made = await this.ask("create", { cid: crypto.randomUUID(), kind, members: members.map((m) => m.user), ...(name ? { name } : {}), ...(topic ? { topic } : {}) });
    return String(made.room);
  }

  /** Sends many, with so many under way at a time. */
  async say(room: string, texts: readonly string[], { under = 32 } = {}): Promise<void> {
    let at = 0;
    const one = async () => {
      for (let text = texts[at++]; text !== undefined; text = texts[at++]) await this.once("send", { room, text });
    };
    await Promise.all(Array.from({ length: under }, one));
  }

  close() {
    this.ws.close();
  }
}
