/**
 * MessagePack, as much of it as the protocol uses: maps with text keys, lists, text, bytes, whole numbers of 64 bits, floats, booleans, nil.
 * No extension types. A tested library would be three times the size of this whole client's budget for it.
 *
 * Whole numbers that a JavaScript number cannot hold come and go as `bigint`. What is not well-formed, nested deeper than `DEPTH_MAX` or
 * followed by more bytes is refused; nothing is allocated by an announced count.
 */

const DEPTH_MAX = 32;
const utf8 = new TextEncoder();
const text = new TextDecoder("utf-8", { fatal: true });

/** Writes a value; fields that are undefined are left out. */
export function pack(value: unknown): Uint8Array<ArrayBuffer> {
  const out: number[] = [];
  write(out, value);
  return Uint8Array.from(out);
}

function write(out: number[], value: unknown): void {
  if (value === null || value === undefined) out.push(0xc0);
  else if (typeof value === "boolean") out.push(value ? 0xc3 : 0xc2);
  else if (typeof value === "number" && !Number.isInteger(value)) wide(out, 0xcb, 8, (view) => view.setFloat64(0, value));
  else if (typeof value === "number" || typeof value === "bigint") whole(out, value);
  else if (typeof value === "string") {
    const bytes = utf8.encode(value);
    if (bytes.length < 32) out.push(0xa0 | bytes.length);
    else head(out, bytes.length, 0xd9);
    for (const byte of bytes) out.push(byte);
  } else if (value instanceof Uint8Array) {
    head(out, value.length, 0xc4);
    for (const byte of value) out.push(byte);
  } else if (Array.isArray(value)) {
    if (value.length < 16) out.push(0x90 | value.length);
    else head(out, value.length, 0xdb);
    for (const each of value) write(out, each);
  } else {
    const fields = Object.entries(value as object).filter(([, v]) => v !== undefined);
    if (fields.length < 16) out.push(0x80 | fields.length);
    else head(out, fields.length, 0xdd);
    for (const [key, each] of fields) {
      write(out, key);
      write(out, each);
    }
  }
}

/** A length in 8, 16 or 32 bits. `base` is the code of the 8-bit form; lists and maps have none, and theirs begins one before the 16-bit one. */
function head(out: number[], length: number, base: number): void {
  if (length < 0x100 && base < 0xda) out.push(base, length);
  else if (length < 0x10000) out.push(base + 1, length >> 8, length & 0xff);
  else wide(out, base + 2, 4, (view) => view.setUint32(0, length));
}

function whole(out: number[], value: number | bigint): void {
  if (value >= 0 && value < 0x80) out.push(Number(value));
  else if (value < 0 && value >= -0x20) out.push(Number(value) & 0xff);
  else if (value >= 0 && value < 0x100) out.push(0xcc, Number(value));
  else if (value >= 0 && value < 0x10000) out.push(0xcd, Number(value) >> 8, Number(value) & 0xff);
  else if (value >= 0 && value < 0x100000000) wide(out, 0xce, 4, (view) => view.setUint32(0, Number(value)));
  else if (value >= 0) wide(out, 0xcf, 8, (view) => view.setBigUint64(0, BigInt(value)));
  else wide(out, 0xd3, 8, (view) => view.setBigInt64(0, BigInt(value)));
}

function wide(out: number[], code: number, size: number, set: (view: DataView) => void): void {
  const view = new DataView(new ArrayBuffer(size));
  set(view);
  out.push(code, ...new Uint8Array(view.buffer));
}

/** Reads one value, and nothing behind it. */
export function unpack(data: ArrayBuffer | Uint8Array): unknown {
  const bytes = data instanceof Uint8Array ? data : new Uint8Array(data);
  const reader = new Reader(bytes);
  const value = reader.value(0);
  if (reader.at !== bytes.length) throw new RangeError("bytes behind the value");
  return value;
}

class Reader {
  at = 0;
  readonly #view: DataView;
  constructor(private readonly bytes: Uint8Array) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  value(depth: number): unknown {
    if (depth > DEPTH_MAX) throw new RangeError("nested too deep");
    const code = this.#uint(1);
    if (code < 0x80) return code;
    if (code >= 0xe0) return code - 0x100;
    if (code < 0x90) return this.#map(code & 0x0f, depth);
    if (code < 0xa0) return this.#list(code & 0x0f, depth);
    if (code < 0xc0) return text.decode(this.#take(code & 0x1f));
    switch (code) {
      case 0xc0:
        return null;
      case 0xc2:
      case 0xc3:
        return code === 0xc3;
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return this.#take(this.#uint(1 << (code - 0xc4))).slice();
      case 0xca:
        return this.#view.getFloat32(this.#skip(4));
      case 0xcb:
        return this.#view.getFloat64(this.#skip(8));
      case 0xcc:
      case 0xcd:
      case 0xce:
        return this.#uint(1 << (code - 0xcc));
      case 0xcf:
        return safe(this.#view.getBigUint64(this.#skip(8)));
      case 0xd0:
        return this.#view.getInt8(this.#skip(1));
      case 0xd1:
        return this.#view.getInt16(this.#skip(2));
      case 0xd2:
        return this.#view.getInt32(this.#skip(4));
      case 0xd3:
        return safe(this.#view.getBigInt64(this.#skip(8)));
      case 0xd9:
      case 0xda:
      case 0xdb:
        return text.decode(this.#take(this.#uint(1 << (code - 0xd9))));
      case 0xdc:
      case 0xdd:
        return this.#list(this.#uint(2 << (code - 0xdc)), depth);
      case 0xde:
      case 0xdf:
        return this.#map(this.#uint(2 << (code - 0xde)), depth);
      default:
        throw new TypeError(`a kind of value that is not used: ${code}`);
    }
  }

  #list(length: number, depth: number): unknown[] {
    const all: unknown[] = [];
    while (all.length < length) all.push(this.value(depth + 1));
    return all;
  }

  #map(length: number, depth: number): Record<string, unknown> {
    const all: Record<string, unknown> = {};
    for (let i = 0; i < length; i++) {
      const key = this.value(depth + 1);
      if (typeof key !== "string" || key === "__proto__") throw new TypeError("a key that is no name");
      all[key] = this.value(depth + 1);
    }
    return all;
  }

  #uint(size: number): number {
    const at = this.#skip(size);
    return size === 1 ? this.#view.getUint8(at) : size === 2 ? this.#view.getUint16(at) : this.#view.getUint32(at);
  }

  #take(length: number): Uint8Array {
    const at = this.#skip(length);
    return this.bytes.subarray(at, at + length);
  }

  #skip(size: number): number {
    const { at } = this;
    if (at + size > this.bytes.length) throw new RangeError("it ends too early");
    this.at += size;
    return at;
  }
}

function safe(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
