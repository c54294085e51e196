import react from "@vitejs/plugin-react";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const server = process.env.HUBBUB_URL ?? "http://127.0.0.1:8080";

export default defineConfig({
  logLevel: "warn",
  plugins: [react()],
  // The client comes from its sources, so that nothing has to be built before.
  resolve: { conditions: ["hubbub-source", "module", "browser", "import", "default"] },
  ssr: { resolve: { conditions: ["hubbub-source"] } }, // For the unit tests, which run in Node.
  build: {
    outDir: here("../dist/app"),
    emptyOutDir: true,
    target: "es2023",
    // Nothing inline: the server's Content-Security-Policy forbids it.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    sourcemap: false,
    manifest: true,
    // The emoji are one large table, loaded when it is opened.
    chunkSizeWarningLimit: 700,
    rolldownOptions: {
      input: { app: here("index.html"), sw: here("src/sw/sw.ts") },
      output: {
        // The worker's address must not change, and it must stand at the top for its scope.
        entryFileNames: (chunk) => (chunk.name === "sw" ? "sw.js" : "assets/[name]-[hash].js"),
      },
    },
  },
  // `npm run dev`: the app with quick reloads, everything else from a server that runs.
  server: { proxy: { "/v1": { target: server, ws: true } } },
  preview: { proxy: { "/v1": { target: server, ws: true } } },
  test: { include: ["src/**/*.test.{ts,tsx}"], environment: "node" },
});
