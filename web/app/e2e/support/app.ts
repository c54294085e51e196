/** The app as a person uses it, in words of the app; and what every page must keep to: no console errors, no CSP violations. */
import { type Browser, type BrowserContext, type BrowserContextOptions, expect, type Locator, type Page, test as base } from "@playwright/test";
import { Cable } from "./cable";
import { type Account, type Api, PASSWORD, Server } from "./server";
import type { Vendor } from "./vendor";

export class Person {
  constructor(
    readonly page: Page,
    readonly account: Account,
    readonly url: string,
  ) {}

  async signIn(): Promise<this> {
    await this.page.goto(this.url);
    await this.page.getByLabel("User name").fill(this.account.name);
    await this.page.getByLabel("Password").fill(PASSWORD);
    await this.page.getByRole("button", { name: "Sign in" }).click();
    await this.inside();
    return this;
  }

  /** Signed in, connected, nothing missed. */
  async inside(): Promise<void> {
    await expect(this.page.locator(".side")).toBeVisible();
    await expect(this.page.locator(".shell")).toHaveAttribute("data-connection", "live");
  }

  async open(room: string): Promise<void> {
    await this.page.locator(".side .room", { hasText: room }).first().click();
    await expect(this.composer).toBeVisible();
  }

  async goTo(path: string): Promise<void> {
    await this.page.goto(this.url + path);
    await this.inside();
  }

  get composer(): Locator {
    return this.page.locator(".conversation .composer textarea");
  }

  async say(text: string): Promise<void> {
    await this.composer.fill(text);
    await this.composer.press("Enter");
  }

  /** The row of a message, by the whole of its text. */
  message(text: string): Locator {
    return this.page.locator(".conversation .list article").filter({ has: this.page.locator(".text").getByText(text, { exact: true }) });
  }

  /** The texts of the messages that are drawn, in order. */
  texts(): Promise<string[]> {
    return this.page.locator(".conversation .list article .text").allInnerTexts();
  }

  /** Does something with a message by its toolbar. */
  async act(text: string, button: string): Promise<void> {
    const row = this.message(text);
    await row.hover();
    await row.getByRole("button", { name: button, exact: true }).click();
  }

  async choose(text: string, item: string): Promise<void> {
    await this.act(text, "More");
    await this.page.getByRole("menuitem", { name: item }).click();
  }
}

/** What the browser says by itself when there is no server. */
const UNREACHABLE = /net::ERR_|WebSocket connection to .* failed/;

/** Watches pages: what they say on the console, what their policy refused, what they did not catch. */
export class Strict {
  #seen: string[] = [];
  #expected: RegExp[] = [];

  /** What was seen that the test did not say it brings about. */
  get faults(): string[] {
    return this.#seen.filter((fault) => !this.#expected.some((e) => e.test(fault)));
  }

  /** Something that this test brings about on purpose. */
  expect(what: RegExp) {
    this.#expected.push(what);
  }

  /** The test takes the server away. */
  expectUnreachable() {
    this.expect(UNREACHABLE);
  }

  watch(page: Page): Page {
    page.on("console", (m) => {
      if (/Content Security Policy/i.test(m.text())) this.#seen.push(`policy: ${m.text()}`);
      else if (m.type() === "error") this.#seen.push(`console: ${m.text()} (${m.location().url})`);
    });
    page.on("pageerror", (e) => this.#seen.push(`uncaught: ${e.stack ?? e.message}`));
    return page;
  }
}

export type Setup = BrowserContextOptions & { /** Through a cable that can be cut. */ cable?: Cable; server?: Api; /** The push service that it is subscribed at. */ vendor?: Vendor };

type Fixtures = {
  strict: Strict;
  /** A name that no other test has. */
  name: (name: string) => string;
  /** Makes an account. */
  account: (name: string) => Promise<Account>;
  /** The network to the server, to be cut. */
  cable: Cable;
  /** A browser of its own for somebody, signed in. */
  person: (who: Account, setup?: Setup) => Promise<Person>;
};

let count = 0;

export const test = base.extend<Fixtures, { server: Server }>({
  server: [
    // Playwright wants the braces to know that nothing is needed.
    async ({}, use) => {
      const server = await Server.start();
      await use(server);
      await server.stop();
    },
    { scope: "worker" },
  ],
  strict: async ({}, use) => {
    const strict = new Strict();
    await use(strict);
    expect(strict.faults).toEqual([]);
  },
  name: async ({}, use) => {
    await use((name) => `${name}${process.pid.toString(36)}${(count++).toString(36)}`);
  },
  account: async ({ server, name }, use) => {
    await use((n) => server.register(name(n)));
  },
  cable: async ({ server, strict }, use) => {
    const cable = await Cable.lay(server.port);
    strict.expectUnreachable();
    await use(cable);
    cable.remove();
  },
  person: async ({ browser, server, strict }, use) => {
    const contexts: BrowserContext[] = [];
    await use(async (who, { cable, server: other, vendor, ...options } = {}) => {
      const context = await newContext(browser, options);
      contexts.push(context);
      await vendor?.standFor(context);
      return new Person(strict.watch(await context.newPage()), who, cable?.url ?? (other ?? server).url).signIn();
    });
    await Promise.all(contexts.map((c) => c.close()));
  },
});

export function newContext(browser: Browser, options: BrowserContextOptions = {}): Promise<BrowserContext> {
  return browser.newContext({ viewport: { width: 1280, height: 800 }, locale: "en-GB", timezoneId: "UTC", ...options });
}

export { Cable, expect, Server };
