/** Measures the app, and writes the table of docs/BENCHMARKS.md, "The web app": `scripts/web figures`. */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import type { Browser, Page } from "@playwright/test";
import { expect, newContext, test } from "./support/app";
import { type Account, PASSWORD, Server } from "./support/server";
import { Socket } from "./support/socket";

const DOCUMENT = resolve(import.meta.dirname, "../../../docs/BENCHMARKS.md");
const [BEGIN, END] = ["<!-- web: begin -->", "<!-- web: end -->"];
const MESSAGES = 100_000;
const RUNS = 9;
/** What the list's library does by itself with as many rows of text, measured once. */
const ALONE = { rows: "13-22", heap: "39 MB", first: "1.2 s", top: "21-28 ms" };

type Figure = readonly [what: string, figure: string, beside: string];

const median = (all: number[]) => [...all].sort((a, b) => a - b)[Math.floor(all.length / 2)] ?? Number.NaN;
const ms = (n: number) => `${n < 100 ? n.toFixed(1) : Math.round(n)} ms`;

test("figures", async ({ browser }) => {
  const server = await Server.start();
  const [a, b] = [await server.register("alice"), await server.register("bob")];
  const socket = await Socket.open(server, b);
  const rows = [...sizes(), ...(await starts(browser, server, a, socket)), ...(await long(browser, server, a, socket))];
  const table = ["| what | figure | goal, or react-virtuoso alone |", "|---|---|---|", ...rows.map((r) => `| ${r.join(" | ")} |`)].join("\n");
  const text = readFileSync(DOCUMENT, "utf8");
  const [before, after] = [text.indexOf(BEGIN), text.indexOf(END)];
  expect(before, `${DOCUMENT} has a place for the table`).toBeGreaterThan(0);
  const today = new Date().toISOString().slice(0, 10);
  writeFileSync(DOCUMENT, `${text.slice(0, before)}${BEGIN}\n${today}, Chromium ${browser.version()}, server and browser on the same two cores.\n\n${table}\n${text.slice(after)}`);
  console.log(table);
  await server.stop();
});

function sizes(): Figure[] {
  const json = execFileSync("node", [resolve(import.meta.dirname, "../scripts/sizes.mjs"), "--json"], { encoding: "utf8" });
  const all = JSON.parse(json) as { what: string; kB: number; max?: number }[];
  return all.filter((s) => s.max).map(({ what, kB, max }) => [`gzip, ${what}`, `${kB.toFixed(1)} kB`, `at most ${max} kB`]);
}

/** From nothing to a conversation that one can write in. */
async function starts(browser: Browser, server: Server, who: Account, socket: Socket): Promise<Figure[]> {
  const room = await socket.create("group", [who], "Small");
  await socket.say(room, Array.from({ length: 60 }, (_, i) => `small ${i + 1}`), { under: 1 });
  const [door, painted, usable, drawn]: number[][] = [[], [], [], []];
  for (let i = 0; i < RUNS; i++) {
    const context = await newContext(browser);
    const page = await context.newPage();
    await page.goto(server.url);
    await expect(page.locator(".door-card")).toBeVisible();
    door?.push(await paint(page));
    await signIn(page, server.url, who.name);
    const begun = Date.now();
    await page.goto(`${server.url}/r/${room}`);
    await expect(page.locator(".composer textarea")).toBeEditable();
    await expect(page.locator("article").first()).toBeVisible();
    usable?.push(Date.now() - begun);
    painted?.push(await paint(page));
    if (i === RUNS - 1) for (let n = 0; n < 3 * RUNS; n++) drawn?.push(await own(page, `own ${n}`));
    await context.close();
  }
  return [
    ["first contentful paint, sign-in, nothing cached", ms(median(door ?? [])), ""],
    ["first contentful paint, a conversation's address", ms(median(painted ?? [])), ""],
    ["from a conversation's address to reading and writing in it", ms(median(usable ?? [])), ""],
    ["from Enter to one's own message in the page", ms(median(drawn ?? [])), ""],
  ];
}

/** A room of very many messages, every one of them in the list: they arrive while it is open. */
async function long(browser: Browser, server: Server, who: Account, socket: Socket): Promise<Figure[]> {
  const many = MESSAGES.toLocaleString("en");
  const room = await socket.create("group", [who], "Large");
  await socket.say(room, ["the first one"]);
  const context = await newContext(browser);
  const page = await context.newPage();
  await signIn(page, server.url, who.name);
  await page.locator(".side .room", { hasText: "Large" }).click();
  await expect(page.locator("article").first()).toBeVisible();
  const small = await heapMb(page);
  await socket.say(room, Array.from({ length: MESSAGES - 1 }, (_, i) => `message ${i + 2} of a long room, with some words in it`), { under: 64 });
  const end = page.locator(".to-end");
  // So many at once outrun the list: it says how many are below.
  await expect(async () => {
    if (await end.isVisible()) await end.click();
    await expect(page.locator("article").getByText(`message ${MESSAGES} of`)).toBeVisible();
  }).toPass({ timeout: 120_000 });
  const heap = await heapMb(page);

  let most = await page.locator(".list article").count();
  await page.mouse.move(700, 400);
  for (let i = 0; i < 80; i++) {
    await page.mouse.wheel(0, i < 40 ? -2_500 : 2_500);
    most = Math.max(most, await page.locator(".list article").count());
  }
  const drawn: number[] = [];
  for (let i = 0; i < 2 * RUNS; i++) drawn.push(await own(page, `late ${i}`));
  const top = await jumpToTop(page);

  // The same room by somebody who comes anew: only what is seen is read.
  const fresh = await newContext(browser);
  const late = await fresh.newPage();
  await signIn(late, server.url, who.name);
  const opened = Date.now();
  await late.locator(".side .room", { hasText: "Large" }).click();
  await expect(late.locator("article").first()).toBeVisible();
  const first = Date.now() - opened;
  await fresh.close();
  await context.close();
  return [
    [`${many} messages, all in the list: heap after a collection`, `${heap.toFixed(0)} MB (with one message ${small.toFixed(0)} MB)`, ALONE.heap],
    [`${many} messages: rows in the page, at most, while scrolling`, String(most), `at most 40; ${ALONE.rows}`],
    [`${many} messages: jump to the first one`, ms(top), ALONE.top],
    [`${many} messages: from Enter to one's own message in the page`, ms(median(drawn)), ""],
    [`${many} messages stored, the room opened anew: click to the first row`, ms(first), ALONE.first],
  ];
}

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

/** By the Home key, from the newest message to the first one drawn. */
const jumpToTop = (page: Page) =>
  page.evaluate(async () => {
    const last = [...document.querySelectorAll<HTMLElement>(".list article")].at(-1);
    last?.focus();
    const begun = performance.now();
    const drawn = new Promise<number>((resolve) => {
      const look = () => [...document.querySelectorAll(".list article .text")].some((x) => x.textContent === "the first one") && resolve(performance.now());
      new MutationObserver(look).observe(document.body, { childList: true, subtree: true });
    });
    last?.dispatchEvent(new KeyboardEvent("keydown", { key: "Home", bubbles: true, cancelable: true }));
    return (await drawn) - begun;
  });

async function heapMb(page: Page): Promise<number> {
  const cdp = await page.context().newCDPSession(page);
  await cdp.send("HeapProfiler.enable");
  await cdp.send("HeapProfiler.collectGarbage");
  const { usedSize } = (await cdp.send("Runtime.getHeapUsage")) as { usedSize: number };
  return usedSize / 1e6;
}
