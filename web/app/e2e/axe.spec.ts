import AxeBuilder from "@axe-core/playwright";
import type { Page } from "@playwright/test";
import { expect, test } from "./support/app";
import { Socket } from "./support/socket";

const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

async function clean(page: Page, screen: string) {
  // What is still fading in would be judged by half its colour.
  await page.evaluate(() => Promise.all(document.getAnimations().filter((a) => a.effect?.getComputedTiming().iterations !== Infinity).map((a) => a.finished.catch(() => undefined))));
  const { violations } = await new AxeBuilder({ page }).withTags(RULES).analyze();
  expect(violations.map((v) => `${screen}: ${v.id}: ${v.nodes.map((n) => `${n.target.join(" ")}: ${n.failureSummary}`).slice(0, 3).join(" | ")}`)).toEqual([]);
}

const LOOKS = [
  { look: "light", theme: "light", language: "en" },
  { look: "dark", theme: "dark", language: "en" },
  { look: "right to left", theme: "light", language: "ar" },
] as const;

// A look in each worker: axe takes its time.
test.describe.configure({ mode: "parallel", timeout: 120_000 });

for (const { look, theme, language } of LOOKS) {
  test(`no accessibility violations on the main screens: ${look}`, async ({ server, account, browser, strict }) => {
    const [a, b] = [await account("alice"), await account("bob")];
    await server.befriend(a, b);
    strict.expect(/status of 401/);
    const socket = await Socket.open(server, b);
    const room = await socket.create("group", [a], "Design", "What we show");
    const direct = await socket.create("direct", [a]);
    await socket.say(direct, ["hello"]);
    await socket.say(room, ["**bold**, `code`, https://example.com", "> a quote\n- a list", "```\ncode\n```", `@${a.name} look`, "last"], { under: 1 });
    await socket.once("react", { room, seq: 2, emoji: "👍", on: true });
    await socket.once("pin", { room, seq: 2, on: true });
    await socket.once("send", { room, text: "in a thread", thread: 2 });

    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, reducedMotion: "reduce" });
    await context.addInitScript((looks) => localStorage.setItem("hubbub.looks", JSON.stringify(looks)), { theme, language });
    const page = strict.watch(await context.newPage());
    await page.goto(server.url);
    await expect(page.locator(".door-form input").first()).toBeVisible();
    await expect(page.locator("html")).toHaveAttribute("dir", language === "ar" ? "rtl" : "ltr");
    await clean(page, "sign in");
    await page.locator("input[name=name]").fill(a.name);
    await page.locator("input[name=password]").fill("wrong one");
    await page.locator(".door-form button[type=submit]").click();
    await expect(page.locator(".notice.bad")).toBeVisible();
    await clean(page, "sign in, refused");
    await page.locator("input[name=password]").fill("correct horse battery");
    await page.locator(".door-form button[type=submit]").click();
    await expect(page.locator(".side .room")).toHaveCount(2);
    await clean(page, "home");

    await page.locator(".side .room", { hasText: "Design" }).click();
    await expect(page.locator("article").last()).toBeVisible();
    await page.locator("article", { hasText: "last" }).hover();
    await clean(page, "conversation");
    const last = page.locator("article", { hasText: "last" });
    await last.locator(".actions [aria-haspopup=dialog]").click();
    await expect(page.locator(".picker-cells button").first()).toBeVisible();
    await clean(page, "emoji");
    await page.keyboard.press("Escape");
    await last.hover();
    await last.locator(".actions [aria-haspopup=menu]").click();
    await clean(page, "a message's menu");
    await page.locator(".menu-item").last().click();
    await expect(page.locator("dialog .excerpt")).toBeVisible();
    await clean(page, "report");
    await page.keyboard.press("Escape");
    await page.locator(".side-head [aria-haspopup=menu]").click();
    await page.locator(".menu-item").nth(1).click();
    await expect(page.locator("dialog .choice")).toBeVisible();
    await clean(page, "new room");
    await page.keyboard.press("Escape");
    await page.locator("article .author button").last().click();
    await expect(page.locator("dialog .card-head")).toBeVisible();
    await clean(page, "a person");
    await page.keyboard.press("Escape");
    await page.locator(".thread-link").first().click();
    await expect(page.locator(".panel article")).toHaveCount(2);
    await clean(page, "thread");
    await page.locator(".head .icon-button").nth(1).click();
    await clean(page, "pins");
    await page.locator(".head .icon-button").nth(2).click();
    await expect(page.locator(".panel .line")).not.toHaveCount(0);
    await clean(page, "about the room");

    await page.keyboard.press("Control+k");
    await expect(page.locator("dialog [role=option]").first()).toBeVisible();
    await clean(page, "switcher");
    await page.keyboard.press("Escape");
    await page.locator(".oneself").click();
    const tabs = page.locator(".settings-tabs button");
    for (let i = 0; i < (await tabs.count()); i++) {
      await tabs.nth(i).click();
      await expect(page.locator(".settings-main .busy-line")).toHaveCount(0);
      await clean(page, `settings ${i}`);
    }
    await page.keyboard.press("Escape");
    for (const place of ["/people", "/channels"]) {
      await page.goto(server.url + place);
      await expect(page.locator(".page h1")).toBeVisible();
      await expect(page.locator(".busy-line")).toHaveCount(0);
      await clean(page, place);
    }
    await page.setViewportSize({ width: 390, height: 844 });
    await page.goto(`${server.url}/r/${room}`);
    await expect(page.locator("article").last()).toBeVisible();
    await clean(page, "conversation on a phone");
    await context.close();
    socket.close();
  });
}

