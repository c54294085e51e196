import { expect, test } from "./support/app";
import { Socket } from "./support/socket";

const PHONE = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };

test("on a phone there is one thing at a time, and everything is within reach of a finger", async ({ server, account, person }) => {
  const [a, b] = [await account("alice"), await account("bob")];
  const socket = await Socket.open(server, b);
  const room = await socket.create("group", [a], "Pocket");
  await socket.say(room, ["hello phone"]);
  const alice = await person(a, PHONE);
  const { page } = alice;
  await expect(page.locator(".middle")).toBeHidden();
  await page.locator(".side .room").tap();
  await expect(page.locator(".side")).toBeHidden();
  await alice.message("hello phone").tap();
  const like = alice.message("hello phone").getByRole("button", { name: "React with 👍" });
  await like.tap();
  await expect(page.locator(".reaction")).toHaveText(/👍\s*1/);
  await page.getByRole("button", { name: "About this room" }).tap();
  await expect(page.getByRole("complementary")).toHaveCSS("width", "390px");
  await page.getByRole("button", { name: "Close" }).tap();
  await alice.composer.fill("from a phone");
  await page.getByRole("button", { name: "Send", exact: true }).tap();
  await expect(alice.message("from a phone")).toBeInViewport();

  // Nothing is wider than the screen, and what is touched has the size that WCAG 2.2 asks for (24 px).
  expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(390);
  const small = await page.evaluate(() =>
    [...document.querySelectorAll<HTMLElement>("button, a, input, textarea, select")]
      .map((x) => ({ box: x.getBoundingClientRect(), name: x.getAttribute("aria-label") ?? x.className }))
      .filter(({ box }) => box.width > 1 && (box.width < 24 || box.height < 24))
      .map(({ box, name }) => `${name}: ${box.width}×${box.height}`),
  );
  expect(small).toEqual([]);

  await page.getByRole("button", { name: "Back to the rooms" }).tap();
  await expect(page.locator(".side")).toBeVisible();
  socket.close();
});

test("the app can be installed, and stands still for who wants less motion", async ({ account, person }) => {
  const a = await account("alice");
  const { page } = await person(a, { reducedMotion: "reduce" });
  await page.evaluate(async () => {
    await navigator.serviceWorker.ready;
  });
  const cdp = await page.context().newCDPSession(page);
  const { installabilityErrors } = (await cdp.send("Page.getInstallabilityErrors")) as { installabilityErrors: { errorId: string }[] };
  // A test's browser context counts as a private window, and those install nothing: all else must be as it should.
  expect(installabilityErrors.map((e) => e.errorId).filter((e) => e !== "in-incognito")).toEqual([]);
  const { errors } = (await cdp.send("Page.getAppManifest")) as { errors: unknown[] };
  expect(errors).toEqual([]);

  const moving = await page.evaluate(() => document.getAnimations().filter((x) => Number(x.effect?.getComputedTiming().duration) > 1).length);
  expect(moving).toBe(0);
  const quick = await page.locator(".oneself").evaluate((x) => getComputedStyle(x).transitionDuration.split(",").map(Number.parseFloat));
  expect(Math.max(...quick)).toBeLessThanOrEqual(0.001);
});
