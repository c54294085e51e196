import { expect, Person, test } from "./support/app";
import { Socket } from "./support/socket";

test("two tabs show the same, whichever one writes, and go on when one is closed", async ({ server, account, person, strict }) => {
  const [a, b] = [await account("alice"), await account("bob")];
  const socket = await Socket.open(server, b);
  const room = await socket.create("group", [a], "Tabs");
  const one = await person(a);
  await one.open("Tabs");
  const two = new Person(strict.watch(await one.page.context().newPage()), a, one.url);
  await two.goTo(`/r/${room}`);
  await expect(two.composer).toBeVisible();

  await one.say("from one");
  await expect(two.message("from one").locator(".tick.sent, .tick.delivered")).toBeVisible();
  await two.say("from two");
  await expect(one.message("from two").locator(".tick.sent, .tick.delivered")).toBeVisible();
  await one.composer.fill("a draft of both");
  await expect(two.composer).toHaveValue("a draft of both");
  await socket.say(room, ["to both"]);
  await expect(one.message("to both")).toBeVisible();
  await expect(two.message("to both")).toBeVisible();

  await one.page.close();
  await two.say("alone now");
  await expect(two.message("alone now").locator(".tick.sent, .tick.delivered")).toBeVisible();
  await expect.poll(() => two.texts()).toEqual(["from one", "from two", "to both", "alone now"]);
  socket.close();
});

test("signing out in one tab signs the other out and leaves nothing behind", async ({ account, person, strict }) => {
  const a = await account("alice");
  const one = await person(a);
  const two = new Person(strict.watch(await one.page.context().newPage()), a, one.url);
  await two.goTo("/");
  await one.page.getByRole("button", { name: "Settings" }).click();
  await one.page.getByRole("button", { name: "Sign out on this device" }).click();
  for (const tab of [one, two]) await expect(tab.page.getByText("You are signed out.")).toBeVisible();
  expect(await one.page.evaluate(() => Object.keys(localStorage).filter((k) => k !== "hubbub.looks"))).toEqual([]);
});

test("a full outbox survives a reload, opens offline, and is sent once in order", async ({ cable, server, account, person }) => {
  const [a, b] = [await account("alice"), await account("bob")];
  const socket = await Socket.open(server, b);
  const room = await socket.create("group", [a], "Outbox");
  await socket.say(room, ["read me offline"]);
  const alice = await person(a, { cable });
  await alice.open("Outbox");
  await expect(alice.message("read me offline")).toBeVisible();
  // The service worker has the app's files.
  await alice.page.evaluate(async () => {
    await navigator.serviceWorker.ready;
  });
  await expect.poll(() => alice.page.evaluate(async () => (await caches.match("/")) !== undefined)).toBe(true);

  cable.cut();
  const texts = Array.from({ length: 30 }, (_, i) => `waiting ${i + 1}`);
  for (const text of texts) await alice.say(text);
  await expect(alice.message("waiting 30").locator(".tick.pending")).toBeVisible();

  await alice.page.reload();
  await expect(alice.composer).toBeVisible();
  await expect(alice.message("waiting 30").locator(".tick.pending")).toBeVisible();
  await alice.say("after the reload");

  cable.mend();
  await expect(alice.message("after the reload").locator(".tick.sent, .tick.delivered")).toBeVisible({ timeout: 30_000 });
  const stored = await socket.ask("history", { room, limit: 200 });
  const said = (stored.messages as { entry: { body: { message: { text: string } } } }[]).map((m) => m.entry.body.message.text);
  expect(said).toEqual(["read me offline", ...texts, "after the reload"]);
  socket.close();
});
