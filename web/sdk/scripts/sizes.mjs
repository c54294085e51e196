// Bundles the entries as an application would and holds them to their sizes (gzip).
import { build } from "esbuild";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const KB = 1000;
const at = (path) => fileURLToPath(new URL(path, import.meta.url));

async function bundle(source) {
  const { outputFiles } = await build({
    stdin: { contents: source, resolveDir: at("../src"), loader: "ts" },
    bundle: true,
    write: false,
    format: "esm",
    minify: true,
    target: "es2022",
    legalComments: "none",
  });
  return gzipSync(outputFiles[0].contents, { level: 9 }).length;
}

const core = await bundle('export * from "./index.js";');
const both = await bundle('export * from "./index.js"; export * from "./offline/index.js";');
const rest = await bundle('export * from "./rest.js";');
const rows = [
  ["@hubbub/client, with the codec", core, 15 * KB],
  ["@hubbub/client/offline, on top of it", both - core, 12 * KB],
  ["@hubbub/client/rest, alone", rest, 5 * KB],
];
let failed = false;
for (const [what, bytes, max] of rows) {
  const over = bytes > max;
  failed ||= over;
  console.log(`${over ? "TOO LARGE " : ""}${what}: ${(bytes / KB).toFixed(1)} kB gzip, at most ${max / KB}`);
}
process.exit(failed ? 1 : 0);
