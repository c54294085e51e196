// After `vite build`: tells the service worker its files, and leaves a compressed form beside everything that gets smaller by it.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const out = fileURLToPath(new URL("../../dist/app", import.meta.url));
const walk = (dir) => readdirSync(dir, { withFileTypes: true }).flatMap((f) => (f.isDirectory() ? walk(join(dir, f.name)) : [join(dir, f.name)]));
const names = () => walk(out).map((f) => relative(out, f));

// What every visitor needs offline; the rest (other languages, the emoji picker) too: it is small and loads when nothing else does.
const files = names().filter((n) => !n.startsWith(".vite") && n !== "sw.js" && n !== "index.html" && !/\.(br|gz|map)$/.test(n)).map((n) => `/${n}`);
files.unshift("/");
const version = createHash("sha256");
for (const n of names().sort()) if (!n.startsWith(".vite")) version.update(n).update(readFileSync(join(out, n)));
const worker = join(out, "sw.js");
const text = readFileSync(worker, "utf8");
const told = text.replace("__FILES__", JSON.stringify(files).replaceAll("\\", "\\\\").replaceAll('"', '\\"')).replace("__VERSION__", version.digest("hex").slice(0, 12));
if (told === text) throw new Error("sw.js has no place for its files");
writeFileSync(worker, told);

const brotli = { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } };
for (const n of names()) {
  if (!/\.(js|css|html|svg|webmanifest)$/.test(n)) continue;
  const bytes = readFileSync(join(out, n));
  for (const [ending, packed] of [["br", brotliCompressSync(bytes, brotli)], ["gz", gzipSync(bytes, { level: 9 })]]) {
    if (packed.length < statSync(join(out, n)).size) writeFileSync(join(out, `${n}.${ending}`), packed);
  }
}
// For `sizes.mjs`, not for browsers.
writeFileSync(join(out, "../manifest.json"), readFileSync(join(out, ".vite/manifest.json")));
rmSync(join(out, ".vite"), { recursive: true });
