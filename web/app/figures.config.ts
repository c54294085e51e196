import base from "./playwright.config";

/** `scripts/web figures`: what docs/BENCHMARKS.md says of the web app, measured against the real server. */
export default { ...base, testMatch: "figures.ts", workers: 1, timeout: 600_000 };
