import { expect, test } from "./support/app";
import { Socket } from "./support/socket";

/** All that is said in a test is drawn at once. */
const TALL = { viewport: { width: 1280, height: 1800 } };

test("two people chat; one goes offline, both write, and after it is back both have the same messages in the same order", async ({ cable, server, account, person }) => {
  const [a, b] = [await account("alice"), await account("bob")];
  const socket = await Socket.open(server, b);
  await socket.create("group", [a], "Lunch");
  const [alice, bob] = await Promise.all([person(a, { cable, ...TALL }), person(b, TALL)]);
  await Promise.all([alice.open("Lunch"), bob.open("Lunch")]);

  await alice.say("hello bob");
  await expect(bob.message("hello bob")).toBeVisible();
  await bob.composer.pressSequentially("typing");
  await expect(alice.page.locator(".typing")).toContainText("is typing");
  await bob.say("hello alice");
  await expect(alice.message("hello alice")).toBeVisible();
  await expect(bob.message("hello alice").locator(".tick.read")).toBeVisible();

  cable.cut();
  await expect(alice.page.locator(".connection")).toContainText("Reconnecting");
  for (let i = 1; i <= 4; i++) {
    await alice.say(`from the train ${i}`);
    await bob.say(`from the office ${i}`);
  }
  await expect(alice.message("from the train 4").locator(".tick.pending")).toBeVisible();
  await expect(alice.page.locator(".connection")).toContainText("4 messages wait to be sent");
  await expect(bob.message("from the office 4").locator(".tick.delivered, .tick.sent, .tick.read")).toBeVisible();
  expect(await bob.texts()).not.toContain("from the train 1");

  cable.mend();
  await expect(alice.page.locator(".connection.good")).toBeVisible();
  const all = ["hello bob", "hello alice", ...[1, 2, 3, 4].map((i) => `from the office ${i}`), ...[1, 2, 3, 4].map((i) => `from the train ${i}`)];
  await expect.poll(() => alice.texts()).toEqual(all);
  await expect.poll(() => bob.texts()).toEqual(all);
  await expect(alice.page.locator(".tick.pending")).toHaveCount(0);
  socket.close();
});

test("the server is killed while people type and send: nothing is lost, nothing comes twice, and it is said what goes on", async ({ strict, person, name }) => {
  strict.expectUnreachable();
  const { Server } = await import("./support/server");
  const server = await Server.start();
  const [a, b] = [await server.register(name("alice")), await server.register(name("bob"))];
  const socket = await Socket.open(server, a);
  await socket.create("group", [b], "Stormy");
  const [alice, bob] = await Promise.all([person(a, { server, ...TALL }), person(b, { server, ...TALL })]);
  await Promise.all([alice.open("Stormy"), bob.open("Stormy")]);
  await alice.say("calm");
  await expect(bob.message("calm")).toBeVisible();

  const saying = (async () => {
    for (let i = 1; i <= 12; i++) {
      await Promise.all([alice.say(`a${i}`), bob.say(`b${i}`)]);
      if (i === 4) await server.kill();
    }
    await alice.composer.fill("a draft");
  })();
  await saying;
  await expect(alice.page.locator(".connection")).toContainText("Reconnecting");
  await server.begin();
  const wanted = ["calm", ...Array.from({ length: 12 }, (_, i) => [`a${i + 1}`, `b${i + 1}`]).flat()].sort();
  await expect.poll(async () => (await alice.texts()).sort(), { timeout: 30_000 }).toEqual(wanted);
  await expect.poll(() => bob.texts()).toEqual(await alice.texts());
  await expect(alice.page.locator(".tick.pending, .tick.failed")).toHaveCount(0);
  await expect(alice.composer).toHaveValue("a draft");
  const own = (await alice.texts()).filter((t) => t.startsWith("a"));
  expect(own, "one's own messages keep their order").toEqual(Array.from({ length: 12 }, (_, i) => `a${i + 1}`));
  await server.stop();
});

test("ten thousand missed entries arrive, and the room opens at the first unread one", async ({ cable, server, account, person }) => {
  const [a, b] = [await account("alice"), await account("bob")];
  const socket = await Socket.open(server, b);
  const room = await socket.create("group", [a], "Busy");
  await socket.say(room, ["before the holiday"]);
  const alice = await person(a, { cable });
  await alice.open("Busy");
  await expect(alice.message("before the holiday")).toBeVisible();
  await alice.page.goto("about:blank");
  cable.cut();

  await socket.say(room, Array.from({ length: 10_000 }, (_, i) => `missed ${i + 1}`), { under: 60 });
  cable.mend();
  await alice.goTo("/");
  const line = alice.page.locator(".side .room", { hasText: "Busy" });
  await expect(line).toContainText("99+", { timeout: 30_000 });
  await expect(line).toContainText("missed");
  await line.click();
  await expect(alice.page.locator(".divider.unread")).toBeVisible();
  await expect(alice.page.locator(".conversation .list article").first()).toBeVisible();
  expect(await alice.page.locator(".conversation .list article").count()).toBeLessThanOrEqual(40);
  await alice.page.getByRole("button", { name: /Jump to the latest/ }).click();
  await expect.poll(async () => (await alice.texts()).at(-1)).toMatch(/^missed \d+$/);
  await alice.say("I am back");
  await expect(alice.message("I am back").locator(".tick.sent, .tick.delivered, .tick.read")).toBeVisible();
  socket.close();
});
