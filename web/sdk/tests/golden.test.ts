/** The one schema that the server and this client share: the golden frames are read, written, and fit the types. */
import { decode as unpack } from "@msgpack/msgpack";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { decode, encode } from "../src/codec.js";
import { SERVER_OPS, type RequestFrame } from "../src/types.js";

const golden = (name: string) => readFileSync(new URL(`../../../tests/golden/${name}`, import.meta.url), "utf8").trim().split("\n");
const bytes = (hex: string) => Uint8Array.from(Buffer.from(hex, "hex"));

const pushes = golden("pushes.jsonl");
const requests = golden("requests.jsonl");
const packed = { pushes: golden("pushes.msgpack.hex"), requests: golden("requests.msgpack.hex") };

describe("golden frames", () => {
  test("every frame of the server reads the same in both formats", () => {
    expect(pushes.length).toBeGreaterThan(30);
    pushes.forEach((line, i) => {
      expect(decode(line)).toEqual(JSON.parse(line));
      expect(decode(bytes(packed.pushes[i] as string)), line).toEqual(JSON.parse(line));
    });
  });

  test("every request is written as the server reads it, in both formats", () => {
    expect(requests.length).toBeGreaterThan(20);
    requests.forEach((line, i) => {
      const frame = JSON.parse(line) as RequestFrame;
      expect(JSON.parse(encode("json", frame) as string)).toEqual(frame);
      const big = { useBigInt64: true };
      expect(unpack(encode("msgpack", frame) as Uint8Array, big), line).toEqual(unpack(bytes(packed.requests[i] as string), big));
    });
  });

  test("ids above what a number can hold keep every digit", () => {
    const frame: RequestFrame = { op: "invite", ref: 1, room: "9223372036854775807", user: "9007199254740993", cid: "0199f3a0-1c00-7000-8000-000000000001", since: 0 };
    expect(decode(encode("msgpack", frame))).toEqual(frame);
  });

  test("every op is known", () => {
    for (const line of pushes) expect(SERVER_OPS).toContain((JSON.parse(line) as { op: string }).op);
  });

  test("every golden frame fits the types, field by field", () => {
    const dir = fileURLToPath(new URL("./.generated", import.meta.url));
    mkdirSync(dir, { recursive: true });
    const list = (name: string, type: string, lines: string[]) => `export const ${name}: ${type}[] = [\n${lines.join(",\n")}\n];\n`;
    writeFileSync(`${dir}/frames.ts`, 'import type { RequestFrame, ServerFrame } from "../../src/types.js";\n' + list("requests", "RequestFrame", requests) + list("pushes", "ServerFrame", pushes));
    writeFileSync(`${dir}/tsconfig.json`, JSON.stringify({ extends: "../../tsconfig.json", include: ["frames.ts"] }));
    try {
      // A field or an op that the types do not have is an error of the compiler's; so is one that they have otherwise.
      execFileSync(fileURLToPath(new URL("../../node_modules/.bin/tsc", import.meta.url)), ["--noEmit", "-p", dir], { encoding: "utf8" });
    } catch (e) {
      throw new Error((e as { stdout: string }).stdout);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});
