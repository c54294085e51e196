import { expect, test } from "./support/app";
import { Socket } from "./support/socket";

/** Where a row stands on the screen. */
const top = (text: string) => `[...document.querySelectorAll(".list article")].find((a) => a.querySelector(".text")?.textContent === ${JSON.stringify(text)})?.getBoundingClientRect().top`;

test("what one reads does not move: not by new messages, not by older ones; and one's own message is seen after sending", async ({ server, account, person }) => {
  const [a, b] = [await account("alice"), await account("bob")];
  const socket = await Socket.open(server, b);
  const room = await socket.create("group", [a], "Long");
  await socket.say(room, Array.from({ length: 600 }, (_, i) => `line ${i + 1}${i % 7 === 0 ? `\n${"and more ".repeat((i % 5) * 12)}` : ""}`.trim()), { under: 1 });
  const alice = await person(a);
  const { page } = alice;
  await alice.open("Long");
  await page.getByRole("button", { name: /Jump to the latest/ }).click();
  await expect(alice.message("line 600")).toBeVisible();
  expect(await page.locator(".list article").count()).toBeLessThanOrEqual(40);

  // Up through three pages, with the wheel.
  await page.mouse.move(700, 400);
  for (let i = 0; i < 30; i++) {
    await page.mouse.wheel(0, -400);
    await page.evaluate(() => new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r))));
    expect(await page.locator(".list article").count()).toBeLessThanOrEqual(40);
  }
  // Still: nothing is being loaded or measured any more.
  const rows = () => page.evaluate(() => [...document.querySelectorAll<HTMLElement>(".list article")].map((x) => `${x.dataset.seq}@${Math.round(x.getBoundingClientRect().top)}`).join());
  let last = "";
  await expect.poll(async () => { const now = await rows(); const same = now === last; last = now; return same; }, { intervals: [300] }).toBe(true);
  const read = await page.evaluate(() => [...document.querySelectorAll<HTMLElement>(".list article")].find((x) => x.getBoundingClientRect().top > 200)?.querySelector(".text")?.textContent ?? "");
  const before = Number(await page.evaluate(top(read)));
  await socket.say(room, Array.from({ length: 20 }, (_, i) => `news ${i + 1}`), { under: 1 });
  await expect(page.getByRole("button", { name: /20 new messages/ })).toBeVisible();
  expect(Math.abs(Number(await page.evaluate(top(read))) - before)).toBeLessThanOrEqual(1);

  await alice.say("mine");
  await expect(alice.message("mine")).toBeInViewport();
  await socket.say(room, ["followed"]);
  await expect(alice.message("followed")).toBeInViewport();
  socket.close();
});

test("a room opens at what is unread, a link leads to its message, and one gets back to the end", async ({ server, account, person }) => {
  const [a, b] = [await account("alice"), await account("bob")];
  const socket = await Socket.open(server, b);
  const room = await socket.create("group", [a], "Far");
  await socket.say(room, Array.from({ length: 400 }, (_, i) => `far ${i + 1}`), { under: 1 });
  const alice = await person(a);
  await alice.open("Far");
  await expect(alice.page.locator(".divider.unread")).toBeVisible();
  await alice.page.getByRole("button", { name: /Jump to the latest/ }).click();
  await expect(alice.message("far 400")).toBeInViewport();

  // The room's first entry says that it was made: message n has seq n + 1.
  await alice.goTo(`/r/${room}/51`);
  await expect(alice.message("far 50")).toBeInViewport();
  await expect(alice.message("far 50")).toHaveClass(/marked/);
  // Two-sided: down from there reaches what follows.
  await alice.page.mouse.move(700, 400);
  await expect(async () => {
    await alice.page.mouse.wheel(0, 600);
    expect(Number((await alice.texts()).at(-1)?.split(" ")[1])).toBeGreaterThan(150);
  }).toPass();
  await alice.page.getByRole("button", { name: /Jump to the latest/ }).click();
  await expect(alice.message("far 400")).toBeInViewport();

  await alice.open("Far");
  await socket.say(room, ["while away"]);
  await expect(alice.message("while away")).toBeInViewport();
  socket.close();
});
