import { expect, newContext, Person, test } from "./support/app";
import { Socket } from "./support/socket";

test("people become contacts, see each other online, and write; who is blocked is gone", async ({ account, person }) => {
  const [a, b] = [await account("alice"), await account("bob")];
  const [alice, bob] = await Promise.all([person(a), person(b)]);
  await alice.page.getByRole("button", { name: "People" }).click();
  await alice.page.getByLabel("Add a contact by user name").fill(b.name);
  await alice.page.getByRole("button", { name: "Ask to be contacts" }).click();
  await expect(alice.page.getByText("You asked", { exact: true })).toBeVisible();

  await bob.page.getByRole("button", { name: /People/ }).click();
  await bob.page.getByRole("button", { name: "Accept" }).click();
  await expect(bob.page.getByRole("heading", { name: "Contacts" })).toBeVisible();
  await expect(alice.page.locator(".page .dot.online")).toBeVisible();

  await alice.page.getByRole("button", { name: `Write to ${b.name}` }).click();
  await alice.say("hello contact");
  await expect(bob.page.locator(".side .room")).toContainText("hello contact");

  await bob.page.getByRole("button", { name: new RegExp(a.name) }).first().click();
  await bob.page.getByRole("button", { name: "Block" }).click();
  await expect(bob.page.getByRole("button", { name: "Unblock" })).toBeVisible();
  await bob.page.keyboard.press("Escape");
  await bob.page.locator(".oneself").click();
  await bob.page.getByRole("button", { name: "Blocked people" }).click();
  await expect(bob.page.locator(".settings-main .line")).toContainText(a.name);
  await bob.page.getByRole("button", { name: "Unblock" }).click();
  await expect(bob.page.getByText("You have blocked nobody")).toBeVisible();
});

test("a channel is made, found in the directory and joined; roles are given; notifications are chosen", async ({ account, person, name }) => {
  const [a, b] = [await account("alice"), await account("bob")];
  const [alice, bob] = await Promise.all([person(a), person(b)]);
  const channel = name("gardening");
  await alice.page.getByRole("button", { name: "New", exact: true }).click();
  await alice.page.getByRole("menuitem", { name: "New group or channel" }).click();
  await alice.page.getByRole("radio", { name: /Channel/ }).check();
  await alice.page.getByLabel("Name").fill(channel);
  await alice.page.getByLabel("Topic").fill("What grows");
  await alice.page.getByRole("button", { name: "Create" }).click();
  await expect(alice.page.locator(".head h1")).toHaveText(channel);

  await bob.page.getByRole("button", { name: "Channels", exact: true }).click();
  await bob.page.getByRole("searchbox", { name: "Search channels" }).fill(channel);
  await bob.page.getByRole("button", { name: `Join ${channel}` }).click();
  await expect(bob.page.locator(".head h1")).toHaveText(channel);
  await bob.say("tomatoes");
  await expect(alice.message("tomatoes")).toBeVisible();

  await bob.page.getByRole("button", { name: "About this room" }).click();
  await bob.page.getByLabel("Notify me about").selectOption("none");
  await expect(bob.page.locator(".side .room.muted")).toHaveCount(1);

  await alice.page.getByRole("button", { name: "About this room" }).click();
  await alice.page.getByRole("button", { name: `What to do with ${b.name}` }).click();
  await alice.page.getByRole("menuitem", { name: "Make Moderator" }).click();
  await expect(alice.page.locator(".panel .line", { hasText: b.name })).toContainText("Moderator");
  await bob.page.locator(".panel").getByRole("button", { name: "Leave room" }).click();
  await bob.page.locator(".notice").getByRole("button", { name: "Leave room" }).click();
  await expect(bob.page.getByText("No conversations yet")).toBeVisible();
});

test("an invitation's link brings somebody in, also somebody who has to sign in first", async ({ server, account, person, browser, strict }) => {
  const [a, b] = [await account("alice"), await account("bob")];
  const socket = await Socket.open(server, a);
  await socket.create("group", [], "By invitation");
  const alice = await person(a, { permissions: ["clipboard-read", "clipboard-write"] });
  await alice.open("By invitation");
  await alice.page.getByRole("button", { name: "About this room" }).click();
  await alice.page.getByRole("button", { name: "Copy a new invitation link" }).click();
  await expect(alice.page.getByText("Invitation link copied")).toBeVisible();
  const link = await alice.page.evaluate(() => navigator.clipboard.readText());

  const context = await newContext(browser);
  const bob = new Person(strict.watch(await context.newPage()), b, link);
  await bob.page.goto(link);
  await expect(bob.page.getByText("You have been invited to a room.")).toBeVisible();
  await bob.signIn();
  await expect(bob.page.getByRole("heading", { name: "By invitation" })).toBeVisible();
  await bob.page.getByRole("button", { name: "Join" }).click();
  await expect(bob.composer).toBeVisible();
  await bob.say("here I am");
  await expect(alice.message("here I am")).toBeVisible();
  await context.close();
  socket.close();
});
