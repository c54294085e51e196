/**
 * Frames' bytes: JSON in text messages, MessagePack in binary ones.
 *
 * In MessagePack ids are integers of up to 63 bits and client ids are 16 bytes; in the API both are strings. Which fields they are is known by
 * name, so that fields of later servers pass through. `after` is a user in `members` and a position in `history`.
 */
import { pack, unpack } from "./msgpack.js";
import type { RequestFrame, ServerFrame } from "./types.js";

export type Format = "json" | "msgpack";

/** The WebSocket subprotocol that stands for it. */
export const subprotocol = (format: Format): string => `hubbub.v1.${format}`;

/** By name; with `[]` for what stands in a list of that name (`mentions` is also a number). */
const IDS = new Set(["room", "user", "device", "id", "by", "link_by", "peer", "users[]", "mentions[]", "members[]", "members[][]"]);

/** Writes a client's frame. */
export function encode(format: Format, frame: RequestFrame): string | Uint8Array<ArrayBuffer> {
  if (format === "json") return JSON.stringify(frame);
  const ids = frame.op === "members" ? new Set([...IDS, "after"]) : IDS;
  return pack(toWire(frame, "", ids));
}

/** Reads a server's frame. Throws when it is none. */
export function decode(data: string | ArrayBuffer | Uint8Array): ServerFrame {
  const frame: unknown = typeof data === "string" ? JSON.parse(data) : fromWire(unpack(data), "");
  if (typeof frame !== "object" || frame === null || !("op" in frame)) throw new TypeError("not a frame");
  return frame as ServerFrame;
}

function toWire(value: unknown, key: string, ids: Set<string>): unknown {
  if (typeof value === "string") {
    if (key === "cid") return bytesOf(value);
    // A role among the members stays what it is.
    if (!ids.has(key) || !/^\d+$/.test(value)) return value;
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : BigInt(value);
  }
  return walk(value, key, (v, k) => toWire(v, k, ids));
}

function fromWire(value: unknown, key: string): unknown {
  if (typeof value === "bigint" || typeof value === "number") return IDS.has(key) ? String(value) : Number(value);
  if (value instanceof Uint8Array) return key === "cid" ? uuidOf(value) : value;
  return walk(value, key, fromWire);
}

function walk(value: unknown, key: string, each: (value: unknown, key: string) => unknown): unknown {
  if (Array.isArray(value)) return value.map((v) => each(v, `${key}[]`));
  if (typeof value !== "object" || value === null) return value;
  const out: Record<string, unknown> = {};
  for (const [k, v] of Object.entries(value)) out[k] = each(v, k);
  return out;
}

function bytesOf(uuid: string): Uint8Array {
  const hex = uuid.replaceAll("-", "");
  return Uint8Array.from({ length: 16 }, (_, i) => parseInt(hex.slice(2 * i, 2 * i + 2), 16));
}

function uuidOf(bytes: Uint8Array): string {
  const hex = Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
