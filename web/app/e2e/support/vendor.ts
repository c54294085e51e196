/** A push service, and a browser's end of it: takes what the server sends and opens it as a browser would (RFC 8291). */
import { createDecipheriv, createECDH, createHmac, randomBytes } from "node:crypto";
import { createServer, type Server as HttpServer } from "node:http";
import type { BrowserContext } from "@playwright/test";

const hmac = (key: Buffer, ...data: Buffer[]) => createHmac("sha256", key).update(Buffer.concat(data)).digest();
const said = (text: string) => Buffer.from(`${text}\0`);
const ONE = Buffer.from([1]);

export class Vendor {
  readonly #ecdh = createECDH("prime256v1");
  readonly #public: Buffer;
  readonly #auth = randomBytes(16);
  readonly #got: Buffer[] = [];
  #wake: () => void = () => undefined;

  private constructor(private readonly listener: HttpServer) {
    this.#public = this.#ecdh.generateKeys();
    listener.on("request", (request, response) => {
      const parts: Buffer[] = [];
      request.on("data", (part: Buffer) => parts.push(part));
      request.on("end", () => {
        this.#got.push(Buffer.concat(parts));
        this.#wake();
        response.writeHead(201).end();
      });
    });
  }

  static async open(): Promise<Vendor> {
    const listener = createServer();
    await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
    return new Vendor(listener);
  }

  /** Browsers in tests have no push service: these are subscribed at this one. */
  async standFor(context: BrowserContext): Promise<void> {
    const address = this.listener.address();
    const port = typeof address === "object" && address ? address.port : 0;
    const subscription = { endpoint: `http://127.0.0.1:${port}/here`, keys: { p256dh: this.#public.toString("base64url"), auth: this.#auth.toString("base64url") } };
    await context.addInitScript((json) => {
      let made: { toJSON: () => unknown; unsubscribe: () => Promise<boolean> } | null = null;
      const subscribe = () => Promise.resolve((made = { toJSON: () => json, unsubscribe: () => Promise.resolve(((made = null), true)) }));
      Object.assign(PushManager.prototype, { subscribe, getSubscription: () => Promise.resolve(made) });
    }, subscription);
  }

  /** The next push, opened. */
  async next(): Promise<unknown> {
    while (this.#got.length === 0) await new Promise<void>((resolve) => (this.#wake = resolve));
    return JSON.parse(this.#open(this.#got.shift() ?? Buffer.alloc(0)).toString());
  }

  close() {
    this.listener.close();
  }

  #open(body: Buffer): Buffer {
    const salt = body.subarray(0, 16);
    const idLength = body[20] ?? 0;
    const theirs = body.subarray(21, 21 + idLength);
    const sealed = body.subarray(21 + idLength);
    const shared = hmac(this.#auth, this.#ecdh.computeSecret(theirs));
    const secret = hmac(salt, hmac(shared, said("WebPush: info"), this.#public, theirs, ONE));
    const key = hmac(secret, said("Content-Encoding: aes128gcm"), ONE).subarray(0, 16);
    const nonce = hmac(secret, said("Content-Encoding: nonce"), ONE).subarray(0, 12);
    const cipher = createDecipheriv("aes-128-gcm", key, nonce).setAuthTag(sealed.subarray(-16));
    const padded = Buffer.concat([cipher.update(sealed.subarray(0, -16)), cipher.final()]);
    return padded.subarray(0, padded.lastIndexOf(2));
  }
}
