// What a browser loads, in kB of gzip, against what it may: `node scripts/sizes.mjs` after a build; `--json` for programs.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const at = (path) => fileURLToPath(new URL(`../../dist/${path}`, import.meta.url));
const manifest = JSON.parse(readFileSync(at("manifest.json"), "utf8"));
const size = (file) => gzipSync(readFileSync(at(`app/${file}`)), { level: 9 }).length;

/** Files of entries with everything that they import at once. */
function reach(keys, files = new Set()) {
  for (const key of keys) {
    const chunk = manifest[key];
    if (!chunk) throw new Error(`the build has no ${key}`);
    if (files.has(chunk.file)) continue;
    files.add(chunk.file);
    for (const css of chunk.css ?? []) files.add(css);
    reach(chunk.imports ?? [], files);
  }
  return files;
}

const DOOR = ["index.html"];
const CONVERSATION = [...DOOR, "src/app/Inside.tsx", "src/features/messages/Conversation.tsx"];
const kb = (keys) => [...reach(keys), "index.html"].reduce((sum, f) => sum + size(f), 0) / 1000;
const rows = [
  { what: "sign-in", kB: kb(DOOR), max: 120 },
  { what: "first conversation, in all", kB: kb(CONVERSATION), max: 200 },
];
const later = Object.entries(manifest).filter(([, c]) => c.isDynamicEntry).map(([key, c]) => ({ what: `later: ${key.replace(/^src\//, "")}`, kB: size(c.file) / 1000 }));
if (process.argv.includes("--json")) console.log(JSON.stringify([...rows, ...later]));
else for (const r of [...rows, ...later]) console.log(`${r.kB.toFixed(1).padStart(7)} kB  ${r.what}${r.max ? `  (at most ${r.max})` : ""}`);
const over = rows.filter((r) => r.kB > r.max);
if (over.length > 0) {
  console.error(`too large: ${over.map((r) => r.what).join(", ")}`);
  process.exit(1);
}
