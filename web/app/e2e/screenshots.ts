import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Page } from "@playwright/test";
import { expect, newContext, test } from "./support/app";
import { type Account, PASSWORD, Server } from "./support/server";
import { Socket } from "./support/socket";

const OUT = resolve(import.meta.dirname, "../../../docs/screenshots");

type Talk = { who: Account; text: string; reply_to?: number; thread?: number; mentions?: string[] }[];

/** People in the middle of a day's work. */
async function world(server: Server) {
  const names = ["maya", "jonas", "amira", "tomek", "ines"] as const;
  const people = Object.fromEntries(await Promise.all(names.map(async (n) => [n, await server.register(n)] as const))) as Record<(typeof names)[number], Account>;
  const shown = { maya: "Maya Lindqvist", jonas: "Jonas Weber", amira: "Amira Haddad", tomek: "Tomek Nowak", ines: "Inês Duarte" };
  for (const n of names) await server.api("PATCH", "/v1/me", { display_name: shown[n] }, people[n].token).catch(() => undefined);
  const { maya, jonas, amira, tomek, ines } = people;
  for (const other of [jonas, amira, tomek]) await server.befriend(maya, other);
  const sockets = new Map<string, Socket>();
  for (const n of names) sockets.set(people[n].user, await Socket.open(server, people[n]));
  const of = (who: Account) => sockets.get(who.user) as Socket;
  const say = async (room: string, talk: Talk) => {
    for (const { who, ...m } of talk) {
      const { seq } = await of(who).once("send", { room, ...m });
      // Who writes has read what was there.
      await of(who).ask("cursor", { room, read: seq, delivered: seq });
    }
  };

  const release = await of(maya).create("group", [jonas, amira, tomek], "Release 2.4", "Ship on Thursday. Notes in the pinned message");
  const design = await of(maya).create("channel", [], "design", "What we show, and why");
  for (const who of [jonas, amira, ines]) await of(who).once("join", { room: design });
  const lunch = await of(tomek).create("group", [maya, jonas, ines], "Lunch");
  const withAmira = await of(amira).create("direct", [maya]);
  const withJonas = await of(jonas).create("direct", [maya]);

  await say(design, [
    { who: ines, text: "New spacing scale is in the file: `4 · 8 · 12 · 16 · 24`" },
    { who: amira, text: "Looks much calmer already" },
  ]);
  await say(lunch, [{ who: tomek, text: "Ramen or the new place by the canal?" }, { who: ines, text: "Canal! It is sunny" }]);
  await say(withJonas, [{ who: jonas, text: "Did the migration finish?" }, { who: maya, text: "Yes, 41 minutes, no errors 🎉" }]);
  await say(release, [
    { who: jonas, text: "Morning! Release checklist, please add what is missing:\n1. Migration dry run on a copy\n2. **Rollback** tested, not only written down\n3. Changelog reviewed" },
    { who: amira, text: "Dry run is done. The copy took 41 minutes, the index build is most of it." },
    { who: amira, text: "Numbers:\n```\nrows        18,204,113\ncopy            38m 12s\nindex            2m 49s\n```" },
    { who: maya, text: "That fits into the window. I will do the rollback test this afternoon." },
    { who: tomek, text: "> Changelog reviewed\nDone for the API part, two entries were missing. Rest is yours @maya", mentions: [maya.user] },
    { who: jonas, text: "Perfect. Who watches the dashboards on Thursday?", reply_to: 3 },
    { who: maya, text: "I do, and Amira from six on" },
    { who: amira, text: "Confirmed 👍" },
  ]);
  await of(tomek).once("react", { room: release, seq: 5, emoji: "👍", on: true });
  await of(jonas).once("react", { room: release, seq: 5, emoji: "👍", on: true });
  await of(amira).once("react", { room: release, seq: 5, emoji: "🙏", on: true });
  await of(jonas).once("react", { room: release, seq: 3, emoji: "🚀", on: true });
  await of(maya).once("react", { room: release, seq: 3, emoji: "🚀", on: true });
  await of(maya).once("pin", { room: release, seq: 2, on: true });
  await say(release, [
    { who: jonas, text: "Which rollback do we test, schema or binary?", thread: 5 },
    { who: maya, text: "Both. Schema first, it is the slow one.", thread: 5 },
    { who: jonas, text: "Good. Ping me when you start, I want to watch." , thread: 5 },
  ]);
  await say(withAmira, [{ who: amira, text: "هل أنتِ متفرغة غدًا صباحًا؟" }, { who: maya, text: "نعم، بعد العاشرة" }, { who: amira, text: "ممتاز، نراجع معًا خطة الإصدار **2.4**" }, { who: maya, text: "سأحضر الأرقام 📊" }]);
  await say(lunch, [{ who: tomek, text: "Table for four at 12:30, done" }]);
  await say(design, [{ who: ines, text: "Can you look at the empty states, @maya?", mentions: [maya.user] }]);
  return { people, rooms: { release, design, lunch, withAmira, withJonas } };
}

async function open(page: Page, url: string, name: string) {
  await page.goto(url);
  await page.locator("input[name=name]").fill(name);
  await page.locator("input[name=password]").fill(PASSWORD);
  await page.locator(".door-form button[type=submit]").click();
  await expect(page.locator(".side .room").first()).toBeVisible();
}

/** Settled: names known, nothing moving, nothing said about the connection. */
async function shoot(page: Page, name: string) {
  await expect(page.locator(".busy-line")).toHaveCount(0);
  await expect(page.locator(".connection")).toHaveCount(0);
  await page.evaluate(() => document.fonts.ready);
  await page.mouse.move(0, 0);
  await page.screenshot({ path: join(OUT, `${name}.png`), animations: "disabled", caret: "hide" });
}

test("pictures of the main screens", async ({ browser }) => {
  test.setTimeout(90_000);
  const server = await Server.start();
  const { rooms } = await world(server);
  for (const theme of ["light", "dark"] as const) {
    const context = await newContext(browser, { reducedMotion: "reduce" });
    await context.addInitScript((t) => localStorage.setItem("hubbub.looks", JSON.stringify({ theme: t, language: "en" })), theme);
    const page = await context.newPage();
    await page.goto(server.url);
    await expect(page.locator(".door-card")).toBeVisible();
    await shoot(page, `sign-in-${theme}`);
    await open(page, server.url, "maya");
    await page.locator(".side .room", { hasText: "Release" }).click();
    await expect(page.locator("article").last()).toBeVisible();
    await page.getByRole("button", { name: /Jump to the latest/ }).click({ timeout: 2_000 }).catch(() => undefined);
    await shoot(page, `conversation-${theme}`);
    await page.locator(".thread-link").first().click();
    await expect(page.locator(".panel article")).toHaveCount(4);
    await shoot(page, `thread-${theme}`);
    if (theme === "light") {
      await page.keyboard.press("Control+k");
      await expect(page.locator("dialog[open]")).toBeVisible();
      await shoot(page, "switcher-light");
      await page.keyboard.press("Escape");
      await page.locator(".composer").first().getByRole("button", { name: "Insert emoji" }).click();
      await expect(page.locator(".picker-cells button").first()).toBeVisible();
      await shoot(page, "emoji-light");
      await page.keyboard.press("Escape");
    } else {
      await page.getByRole("button", { name: "About this room" }).click();
      await expect(page.locator(".panel .line").first()).toBeVisible();
      await shoot(page, "about-dark");
      await page.goto(`${server.url}/people`);
      await expect(page.locator(".page-main .line").first()).toBeVisible();
      await shoot(page, "people-dark");
    }
    await context.close();
  }

  const phone = await newContext(browser, { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2, reducedMotion: "reduce" });
  const small = await phone.newPage();
  await open(small, server.url, "maya");
  await shoot(small, "phone-rooms");
  await small.locator(".side .room", { hasText: "Release" }).click();
  await expect(small.locator("article").last()).toBeVisible();
  await shoot(small, "phone-conversation");
  await phone.close();

  const rtl = await newContext(browser, { locale: "ar", reducedMotion: "reduce" });
  const arabic = await rtl.newPage();
  await open(arabic, server.url, "maya");
  await arabic.goto(`${server.url}/r/${rooms.withAmira}`);
  await expect(arabic.locator("article").last()).toBeVisible();
  await arabic.locator(".head .icon-button").last().click();
  await expect(arabic.locator(".panel")).toBeVisible();
  await shoot(arabic, "conversation-rtl");
  await rtl.close();
  await server.stop();
});

test("the app's icon in the sizes that systems ask for", async ({ browser }) => {
  const svg = readFileSync(resolve(import.meta.dirname, "../public/icon.svg"), "utf8");
  for (const [name, size, scale] of [["icon-192", 192, 1], ["icon-512", 512, 1], ["icon-512-maskable", 512, 0.72]] as const) {
    const page = await browser.newPage({ viewport: { width: size, height: size } });
    // A mask may cut away everything outside the middle: there the mark is smaller, on its own colour.
    const ground = scale < 1 ? "#3651c9" : "transparent";
    await page.setContent(`<body style="margin:0;display:grid;place-items:center;height:100vh;background:${ground}"><div style="width:${size * scale}px;height:${size * scale}px">${svg}</div></body>`);
    await page.screenshot({ path: resolve(import.meta.dirname, `../public/${name}.png`), omitBackground: true });
    await page.close();
  }
});
