import { expect, test } from "./support/app";
import { Socket } from "./support/socket";

test("everything is done without a mouse: sign in, find a room, write, walk through the messages, act on one, settings, the sheet", async ({ server, account, page, strict }) => {
  strict.watch(page);
  const [a, b] = [await account("alice"), await account("bob")];
  const socket = await Socket.open(server, b);
  const quiet = await socket.create("group", [a], "Quiet");
  const loud = await socket.create("group", [a], "Loud");
  await socket.say(quiet, ["one", "two", "three"], { under: 1 });
  const keys = page.keyboard;
  const focused = () => page.evaluate(() => document.activeElement?.getAttribute("aria-label") ?? document.activeElement?.textContent ?? "");

  await page.goto(server.url);
  await expect(page.getByLabel("User name")).toBeFocused();
  await keys.type(a.name);
  await keys.press("Tab");
  await keys.type("correct horse battery");
  await keys.press("Enter");
  await expect(page.locator(".side .room")).toHaveCount(2);

  await keys.press("Tab");
  await expect(page.getByRole("link", { name: "Skip to the conversation" })).toBeFocused();

  await keys.press("Control+k");
  await keys.type("qui");
  await expect(page.getByRole("option", { name: /Quiet/ })).toHaveAttribute("aria-selected", "true");
  await keys.press("Enter");
  const composer = page.locator(".conversation .composer textarea");
  await expect(composer).toBeFocused();
  await expect(page).toHaveTitle(/Quiet · Hubbub/);
  await keys.type("typed");
  await keys.press("Enter");
  await expect(page.locator("article", { hasText: "typed" }).locator(".tick.sent, .tick.delivered, .tick.read")).toBeVisible();

  // Back to the messages, up to one of bob's, and a reply.
  await keys.press("Shift+Tab");
  await expect.poll(focused).toContain("typed");
  await keys.press("ArrowUp");
  await keys.press("ArrowUp");
  await expect.poll(focused).toContain("two");
  await keys.press("r");
  await expect(page.locator(".composer-context")).toContainText("two");
  await expect(composer).toBeFocused();
  await keys.type("answered");
  await keys.press("Enter");
  await expect(page.locator("article", { hasText: "answered" }).locator(".quote")).toContainText("two");
  await expect(page.locator("article", { hasText: "answered" }).locator(".tick.sent, .tick.delivered, .tick.read")).toBeVisible();

  // A reaction by the picker, and a menu, both from the keyboard.
  await keys.press("Shift+Tab");
  await expect.poll(focused).toContain("answered");
  await keys.press("+");
  await expect(page.getByRole("searchbox", { name: "Search emoji" })).toBeFocused();
  await keys.type("heart");
  await keys.press("Enter");
  await expect(page.locator(".reaction")).toBeVisible();
  await keys.press("Enter");
  await expect(page.getByRole("menuitem", { name: "Copy link" })).toBeFocused();
  await keys.press("Escape");
  await keys.press("Escape");
  await expect(composer).toBeFocused();

  // The next unread room.
  await socket.say(loud, ["over here"]);
  await expect(page.locator(".side .room.unread")).toHaveCount(1);
  await keys.press("Alt+Shift+ArrowDown");
  await expect(page.locator(".head h1")).toHaveText("Loud");
  await expect(composer).toBeFocused();
  await keys.press("Alt+ArrowDown");
  await expect(page.locator(".head h1")).toHaveText("Quiet");

  await keys.press("Escape");
  await keys.press("Shift+Tab");
  await keys.press("?");
  await expect(page.getByRole("dialog", { name: "Keyboard shortcuts" })).toBeVisible();
  await keys.press("Escape");
  await expect(page.getByRole("dialog")).toHaveCount(0);
  socket.close();
});

test("what arrives in the open room is announced in the live region, and not by the list", async ({ server, account, person }) => {
  const [a, b] = [await account("alice"), await account("bob")];
  const socket = await Socket.open(server, b);
  const room = await socket.create("group", [a], "Spoken");
  const alice = await person(a);
  await alice.open("Spoken");
  await socket.say(room, ["**hear** this"]);
  await expect(alice.page.getByRole("log")).toContainText("hear this");
  expect(await alice.page.locator(".list [aria-live], .list[aria-live]").count()).toBe(0);
  socket.close();
});
