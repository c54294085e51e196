import { defineConfig } from "vitest/config";

export default defineConfig({
  resolve: { conditions: ["hubbub-source"] },
  ssr: { resolve: { conditions: ["hubbub-source"] } },
  test: { include: ["tests/**/*.test.ts"], testTimeout: 30_000, hookTimeout: 30_000 },
});
