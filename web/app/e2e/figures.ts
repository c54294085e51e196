/** Measures the app: prints the table of docs/BENCHMARKS.md, "The web app". */
import { execFileSync } from "node:child_process";
import { resolve } from "node:path";
import type { Page } from "@playwright/test";
import { expect, newContext, test } from "./support/app";
import { PASSWORD, Server } from "./support/server";
import { Socket } from "./support/socket";

const MESSAGES = 100_000;
const RUNS = 7;

const median = (all: number[]) => [...all].sort((a, b) => a - b)[Math.floor(all.length / 2)] ?? Number.NaN;
const ms = (n: number) => `${Math.round(n)} ms`;

async function signIn(page: Page, url: string, name: string) {
  await page.goto(url);
  await page.locator("input[name=name]").fill(name);
  await page.locator("input[name=password]").fill(PASSWORD);
  await page.locator(".door-form button[type=submit]").click();
  await expect(page.locator(".side .room").first()).toBeVisible();
}

const paint = (page: Page) => page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? Number.NaN);

/** From the key that sends to the row in the page, measured within the page. */
const own = (page: Page, text: string) =>
  page.evaluate(async (text) => {
    const area = document.querySelector<HTMLTextAreaElement>(".composer textarea");
    if (!area) return Number.NaN;
    Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value")?.set?.call(area, text);
    area.dispatchEvent(new InputEvent("input", { bubbles: true }));
    await new Promise((r) => setTimeout(r, 100));
    const begun = performance.now();
    const drawn = new Promise<number>((resolve) => {
      const look = () => [...document.querySelectorAll(".list article .text")].some((x) => x.textContent === text) && resolve(performance.now());
      new MutationObserver(look).observe(document.body, { childList: true, subtree: true, characterData: true });
    });
    area.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true }));
    return (await drawn) - begun;
  }, text);

async function heapMb(page: Page): Promise<number> {
  const cdp = await page.context().newCDPSession(page);
  await cdp.send("HeapProfiler.enable");
  await cdp.send("HeapProfiler.collectGarbage");
  const { usedSize } = (await cdp.send("Runtime.getHeapUsage")) as { usedSize: number };
  return usedSize / 1e6;
}

test("figures", async ({ browser }) => {
  const rows: [string, string][] = [];
  const sizes = JSON.parse(execFileSync("node", [resolve(import.meta.dirname, "../scripts/sizes.mjs"), "--json"], { encoding: "utf8" })) as { what: string; kB: number; max?: number }[];
  for (const s of sizes.filter((x) => x.max)) rows.push([`gzip, ${s.what}`, `${s.kB.toFixed(1)} kB (at most ${s.max})`]);
  const server = await Server.start({ "rooms.resume_entries_max": "100000" });
  const [a, b] = [await server.register("alice"), await server.register("bob")];
  const socket = await Socket.open(server, b);
  const small = await socket.create("group", [a], "Small");
  await socket.say(small, Array.from({ length: 60 }, (_, i) => `small ${i + 1}`), { under: 1 });
  await socket.once("send", { room: small, text: "the last one" });

  const door: number[] = [];
  const usable: number[] = [];
  const again: number[] = [];
  for (let i = 0; i < RUNS; i++) {
    const context = await newContext(browser);
    const page = await context.newPage();
    await page.goto(server.url);
    await expect(page.locator(".door-card")).toBeVisible();
    door.push(await paint(page));
    await signIn(page, server.url, a.name);
    // A link to a conversation, opened anew: nothing in memory.
    const begun = Date.now();
    await page.goto(`${server.url}/r/${small}`);
    await expect(page.locator(".composer textarea")).toBeEditable();
    await expect(page.locator("article").first()).toBeVisible();
    usable.push(Date.now() - begun);
    again.push(await paint(page));
    await context.close();
  }
  rows.push(["first contentful paint, sign-in, nothing cached", ms(median(door))]);
  rows.push(["first contentful paint, a conversation's link", ms(median(again))]);
  rows.push(["a conversation's link to a usable conversation", ms(median(usable))]);

  const context = await newContext(browser);
  const page = await context.newPage();
  await signIn(page, server.url, a.name);
  await page.goto(`${server.url}/r/${small}`);
  await expect(page.locator("article").first()).toBeVisible();
  const drawn: number[] = [];
  for (let i = 0; i < 3 * RUNS; i++) drawn.push(await own(page, `own ${i}`));
  rows.push(["Enter to one's own message in the page", `${median(drawn).toFixed(1)} ms`]);
  const before = await heapMb(page);
  await context.close();

  const large = await socket.create("group", [a], "Large");
  await socket.say(large, Array.from({ length: MESSAGES }, (_, i) => `message ${i + 1} of a long room, with some words in it`), { under: 64 });
  const long = await newContext(browser);
  const far = await long.newPage();
  await signIn(far, server.url, a.name);
  await expect(far.locator(".shell")).toHaveAttribute("data-connection", "live", { timeout: 120_000 });
  const opened = Date.now();
  await far.locator(".side .room", { hasText: "Large" }).click();
  await expect(far.locator("article").first()).toBeVisible({ timeout: 60_000 });
  rows.push([`${MESSAGES.toLocaleString("en")} messages: click to the first row`, ms(Date.now() - opened)]);
  let most = 0;
  await far.mouse.move(700, 400);
  for (let i = 0; i < 60; i++) {
    await far.mouse.wheel(0, i < 30 ? 1_500 : -1_500);
    most = Math.max(most, await far.locator(".list article").count());
  }
  rows.push([`${MESSAGES.toLocaleString("en")} messages: rows in the page while scrolling, at most`, String(most)]);
  const held = await far.evaluate(() => document.querySelector<HTMLElement>("[data-virtuoso-scroller]")?.scrollHeight ?? 0);
  rows.push([`${MESSAGES.toLocaleString("en")} messages: heap after a collection`, `${(await heapMb(far)).toFixed(0)} MB (${before.toFixed(0)} MB with a small room)`]);
  const late: number[] = [];
  const end = far.getByRole("button", { name: /Jump to the latest/ });
  if (await end.isVisible()) await end.click();
  for (let i = 0; i < RUNS; i++) late.push(await own(far, `late ${i}`));
  rows.push([`${MESSAGES.toLocaleString("en")} messages: Enter to one's own message in the page`, `${median(late).toFixed(1)} ms`]);
  await long.close();
  await server.stop();
  console.log(`\n(the list's height was ${held} px)\n| what | figure |\n|---|---|\n${rows.map(([what, figure]) => `| ${what} | ${figure} |`).join("\n")}\n`);
});
