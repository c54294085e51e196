/** Our MessagePack against the usual library's. */
import { decode, encode } from "@msgpack/msgpack";
import { expect, test } from "vitest";
import { pack, unpack } from "../src/msgpack.js";

const BIG = { useBigInt64: true };
const values: unknown[] = [
  null, true, false, "", "ü👍", "x".repeat(31), "x".repeat(32), "x".repeat(255), "x".repeat(256), "x".repeat(70_000), 1.5, -2.25,
  ...[0, 127, 128, 255, 256, 65_535, 65_536, 2 ** 32 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER, -1, -32, -33, -128, -129, -32_769, -(2 ** 31) - 1],
  2n ** 63n - 1n, 2n ** 64n - 1n, -(2n ** 63n),
  Uint8Array.of(1, 2, 3), new Uint8Array(300), new Uint8Array(70_000), [], Array(15).fill(1), Array(16).fill(1), Array(70_000).fill(0),
  { a: 1, b: { c: [{ d: "e" }] } }, Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`key${i}`, i])),
];
const plain = (value: unknown): unknown =>
  typeof value === "bigint" && Number.isSafeInteger(Number(value)) ? Number(value)
  : Array.isArray(value) ? value.map(plain) : value;

test("what we write the library reads, and the other way round", () => {
  for (const value of values) {
    expect(plain(decode(pack(value), BIG))).toEqual(value);
    expect(unpack(encode(value, BIG))).toEqual(value);
    expect(unpack(pack(value))).toEqual(value);
  }
});

test("what is not well-formed is refused", () => {
  const whole = pack({ a: ["text", 70_000, Uint8Array.of(1)] });
  for (let length = 0; length < whole.length; length++) expect(() => unpack(whole.subarray(0, length)), String(length)).toThrow();
  expect(() => unpack(Uint8Array.of(...whole, 0))).toThrow();
  expect(() => unpack(Uint8Array.of(0xc1))).toThrow();
  expect(() => unpack(Uint8Array.of(0xd4, 1, 1))).toThrow("not used");
  expect(() => unpack(Uint8Array.of(0xa1, 0xff))).toThrow();
  expect(() => unpack(Uint8Array.of(0x81, 1, 1))).toThrow("no name");
  expect(() => unpack(new Uint8Array(40).fill(0x91))).toThrow("deep");
  // An announced length allocates nothing.
  expect(() => unpack(Uint8Array.of(0xdd, 0xff, 0xff, 0xff, 0xff))).toThrow();
});
