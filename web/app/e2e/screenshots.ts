/** Makes the pictures of docs/screenshots and the app's icons: `scripts/web screenshots`. */
import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Browser, BrowserContextOptions, Page } from "@playwright/test";
import { expect, newContext, test } from "./support/app";
import { PASSWORD, Server } from "./support/server";
import { world } from "./support/world";

const OUT = resolve(import.meta.dirname, "../../../docs/screenshots");
const PHONE = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 };
/** Of a WebP; letters stay sharp, and a picture has some tens of kB. */
const QUALITY = 0.9;

type Looks = { theme: "light" | "dark"; language: "en" | "ar" };

class Studio {
  constructor(
    private readonly browser: Browser,
    private readonly server: Server,
  ) {}

  /** The app on a screen of its own, signed in as Maya unless it is the door that is wanted. */
  async screen(looks: Looks, options: BrowserContextOptions = {}, { signIn = true } = {}): Promise<Page> {
    const context = await newContext(this.browser, { reducedMotion: "reduce", locale: looks.language === "ar" ? "ar" : "en-GB", ...options });
    await context.addInitScript((l) => localStorage.setItem("hubbub.looks", JSON.stringify(l)), looks);
    const page = await context.newPage();
    await page.goto(this.server.url);
    await expect(page.locator(".door-card")).toBeVisible();
    if (!signIn) return page;
    await page.locator("input[name=name]").fill("maya");
    await page.locator("input[name=password]").fill(PASSWORD);
    await page.locator(".door-form button[type=submit]").click();
    await expect(page.locator(".shell")).toHaveAttribute("data-connection", "live");
    return page;
  }

  async open(page: Page, room: string) {
    await page.locator(".side .room", { hasText: room }).click();
    await expect(page.locator(".conversation article").last()).toBeVisible();
    const end = page.locator(".to-end");
    if (await end.isVisible()) await end.click();
    await expect(end).toHaveCount(0);
  }

  /** Once it has settled: names known, nothing moving, nothing said about the connection. */
  async shoot(page: Page, name: string) {
    await expect(page.locator(".busy-line, .connection, .toast")).toHaveCount(0);
    await expect(page.getByText("…", { exact: true })).toHaveCount(0);
    await page.evaluate(() => document.fonts.ready);
    await page.mouse.move(0, 0);
    const png = await page.screenshot({ animations: "disabled", caret: "hide" });
    writeFileSync(join(OUT, `${name}.webp`), await this.#webp(png));
  }

  /** The browser has an encoder; no other is needed. */
  async #webp(png: Buffer): Promise<Buffer> {
    const page = await this.browser.newPage();
    const encoded = await page.evaluate(
      async ([bytes, quality]) => {
        const image = await createImageBitmap(await (await fetch(`data:image/png;base64,${bytes}`)).blob());
        const canvas = new OffscreenCanvas(image.width, image.height);
        canvas.getContext("2d")?.drawImage(image, 0, 0);
        const blob = await canvas.convertToBlob({ type: "image/webp", quality });
        return [...new Uint8Array(await blob.arrayBuffer())];
      },
      [png.toString("base64"), QUALITY] as const,
    );
    await page.close();
    return Buffer.from(encoded);
  }
}

test("pictures of the main screens", async ({ browser }) => {
  test.setTimeout(120_000);
  const server = await Server.start();
  await world(server);
  const studio = new Studio(browser, server);

  const door = await studio.screen({ theme: "light", language: "en" }, {}, { signIn: false });
  await studio.shoot(door, "sign-in-light");
  await door.context().close();

  for (const theme of ["light", "dark"] as const) {
    const page = await studio.screen({ theme, language: "en" });
    await studio.open(page, "Release");
    await studio.shoot(page, `conversation-${theme}`);
    if (theme === "light") await light(studio, page);
    else await dark(studio, page);
    await page.context().close();
  }

  const phone = await studio.screen({ theme: "light", language: "en" }, PHONE);
  await studio.shoot(phone, "phone-rooms");
  await studio.open(phone, "Release");
  await studio.shoot(phone, "phone-conversation");
  await phone.context().close();

  const arabic = await studio.screen({ theme: "light", language: "ar" });
  await studio.open(arabic, "Amira");
  await arabic.locator(".head .icon-button").last().click();
  await expect(arabic.locator(".panel select")).toBeVisible();
  await studio.shoot(arabic, "conversation-rtl");
  await arabic.context().close();
  await server.stop();
});

async function light(studio: Studio, page: Page) {
  await page.locator(".thread-link").first().click();
  await expect(page.locator(".panel article")).toHaveCount(4);
  await studio.shoot(page, "thread-light");
  await page.keyboard.press("Control+k");
  await expect(page.locator("dialog [role=option]").first()).toBeVisible();
  await studio.shoot(page, "switcher-light");
  await page.keyboard.press("Escape");
  await page.keyboard.press("Escape");
  await page.locator(".composer").first().getByRole("button", { name: "Insert emoji" }).click();
  await expect(page.locator(".picker-cells button").first()).toBeVisible();
  await studio.shoot(page, "emoji-light");
  await page.keyboard.press("Escape");
}

async function dark(studio: Studio, page: Page) {
  await page.getByRole("button", { name: "About this room" }).click();
  await expect(page.locator(".panel .line").first()).toBeVisible();
  await studio.shoot(page, "about-dark");
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByRole("button", { name: "Appearance" }).click();
  await studio.shoot(page, "settings-dark");
}

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
