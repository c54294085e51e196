import base from "./playwright.config";

/** `scripts/web screenshots`: the pictures of docs/screenshots, from the real app and server. */
export default { ...base, testMatch: "screenshots.ts", workers: 1 };
