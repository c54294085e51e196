/**
 * One socket: signs in, matches answers to requests by `ref`, hands pushes on in order, keeps the heartbeat, and knows how it ended.
 *
 * It never reconnects: that is `session.ts`'s. Every request has a time limit; whatever waits when the socket ends fails with `not_connected`,
 * which says that the outcome is unknown. `ended` is called once, and nothing is called after it.
 */
import { decode, encode, subprotocol, type Format } from "./codec.js";
import { HubbubError } from "./errors.js";
import type { DrainPush, Hello, Op, Push, Replies, RequestFrame, Requests } from "./types.js";

/** What is used of a WebSocket: the browser's, Node's, or the `ws` package's. */
export interface Socket {
  binaryType: string;
  readonly readyState: number;
  send(data: string | Uint8Array<ArrayBuffer>): void;
  close(code?: number, reason?: string): void;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
}
export type SocketClass = new (url: string, protocols: string[]) => Socket;

/** How a connection ended; `code` 1006 when there was no Close frame. */
export interface End {
  code: number;
  reason: string;
  /** What the server answered to the sign-in, if it refused it. */
  error?: HubbubError;
}

export interface Handlers {
  hello(hello: Hello): void;
  push(push: Push | DrainPush): void;
  ended(end: End): void;
}

interface Waiting {
  resolve(reply: never): void;
  reject(error: HubbubError): void;
  timer: ReturnType<typeof setTimeout>;
}

const OPEN = 1;
/** TCP, handshake and sign-in together. */
const CONNECT_TIMEOUT_MS = 10_000;

export class Connection {
  /** When something was last heard. */
  heard = Date.now();
  #socket: Socket;
  #handlers: Handlers;
  #format: Format;
  #waiting = new Map<number, Waiting>();
  #ref = 0;
  #over = false;
  #refused: HubbubError | undefined;
  #sent = Date.now();
  #beat: ReturnType<typeof setTimeout> | undefined;

  constructor(url: string, token: string, format: Format, socketClass: SocketClass, handlers: Handlers) {
    this.#handlers = handlers;
    this.#format = format;
    this.#socket = new socketClass(url, [subprotocol(format)]);
    this.#socket.binaryType = "arraybuffer";
    this.#beat = setTimeout(() => this.end({ code: 1006, reason: "no sign-in in time" }), CONNECT_TIMEOUT_MS);
    this.#socket.onopen = () => this.#write("auth", { token });
    this.#socket.onmessage = ({ data }: { data: string | ArrayBuffer }) => this.#incoming(data);
    this.#socket.onclose = ({ code, reason }: { code: number; reason: string }) => this.#ended({ code, reason });
    // What went wrong is told by the Close that follows; without a listener some would throw.
    this.#socket.onerror = () => {};
  }

  /** Sends a request and waits for its answer. */
  request<O extends Op>(op: O, fields: Requests[O], timeoutMs: number): Promise<Replies[O]> {
    return new Promise((resolve, reject) => {
      if (this.#over || this.#socket.readyState !== OPEN) return reject(new HubbubError("not_connected", "the connection has ended", "later"));
      const ref = this.#write(op, fields);
      const timer = setTimeout(() => {
        this.#waiting.delete(ref);
        reject(new HubbubError("timeout", `no answer to ${op} within ${timeoutMs} ms`, "now"));
      }, timeoutMs);
      this.#waiting.set(ref, { resolve, reject, timer });
    });
  }

  /** Leaves the socket now, whatever the server still says. */
  end(end: End, code = 1000): void {
    if (this.#over) return;
    try {
      this.#socket.close(code, end.reason.slice(0, 100));
    } catch {
      // Not open yet, or a code that this WebSocket does not let through: it is left all the same.
    }
    this.#ended(end);
  }

  #ended(end: End): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#beat);
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(new HubbubError("not_connected", `the connection ended: ${end.code} ${end.reason}`, "later"));
    }
    this.#waiting.clear();
    this.#handlers.ended(this.#refused ? { ...end, error: this.#refused } : end);
  }

  #write<O extends Op>(op: O, fields: Requests[O]): number {
    const ref = ++this.#ref;
    this.#sent = Date.now();
    this.#socket.send(encode(this.#format, { op, ref, ...fields } as unknown as RequestFrame));
    return ref;
  }

  #incoming(data: string | ArrayBuffer): void {
    if (this.#over) return;
    this.heard = Date.now();
    let frame;
    try {
      frame = decode(data);
    } catch (e) {
      return this.end({ code: 1006, reason: `the server sent what cannot be read: ${String(e)}` });
    }
    switch (frame.op) {
      case "hello":
        this.#heartbeat(Math.max(frame.heartbeat_ms, 100));
        return this.#handlers.hello(frame);
      case "ok": {
        const { op: _, ref, ...reply } = frame;
        return this.#answer(ref, (w) => w.resolve(reply as never));
      }
      case "error":
        // The first request is the sign-in; the Close that follows tells the rest.
        if (frame.ref === 1) this.#refused = HubbubError.from(frame);
        return this.#answer(frame.ref, (w) => w.reject(HubbubError.from(frame)));
      case "resumed":
        // The end of a resume is its answer, and an event with a place among the pushes.
        this.#handlers.push(frame);
        return this.#answer(frame.ref, (w) => w.resolve({} as never));
      default:
        return this.#handlers.push(frame);
    }
  }

  #answer(ref: number, settle: (waiting: Waiting) => void): void {
    const waiting = this.#waiting.get(ref);
    if (!waiting) return;
    this.#waiting.delete(ref);
    clearTimeout(waiting.timer);
    settle(waiting);
  }

  /** Says something at least every `every` ms, and takes silence of twice that for the end. */
  #heartbeat(every: number): void {
    clearTimeout(this.#beat);
    const tick = () => {
      const now = Date.now();
      if (now - this.heard > 2 * every) return this.end({ code: 1006, reason: "nothing was heard from the server" });
      // A ping also makes the server say something, so it is sent when either side was quiet.
      if (now - Math.min(this.#sent, this.heard) >= every / 2 - 10) this.probe(2 * every);
      this.#beat = setTimeout(tick, every / 2);
    };
    this.#beat = setTimeout(tick, every / 2);
  }

  /** Asks for a sign of life within a time; without one the connection is over. */
  probe(withinMs: number): void {
    this.request("ping", {}, withinMs).catch((e: HubbubError) => {
      if (e.code === "timeout") this.end({ code: 1006, reason: "no answer to a heartbeat" });
    });
  }
}
