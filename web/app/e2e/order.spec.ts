import { expect, test } from "./support/app";
import { Socket } from "./support/socket";

test("who keeps order mutes and unmutes, bans and lets back in, slows down and archives; the others are told", async ({ server, account, person }) => {
  const [a, b] = [await account("alice"), await account("bob")];
  const socket = await Socket.open(server, a);
  await socket.create("group", [b], "Order");
  const [alice, bob] = await Promise.all([person(a), person(b)]);
  await alice.open("Order");
  await bob.open("Order");
  const panel = alice.page.getByRole("complementary", { name: "About this room" });
  const deal = async (item: string) => {
    await panel.getByRole("button", { name: `What to do with ${b.name}` }).click();
    await alice.page.getByRole("menuitem", { name: item, exact: true }).click();
  };
  await alice.page.getByRole("button", { name: "About this room" }).click();

  await deal("Mute for 1 hour");
  await expect(bob.page.getByText(/You are muted here until \d/)).toBeVisible();
  await expect(bob.composer).toHaveCount(0);
  await expect(panel.locator(".line", { hasText: b.name })).toContainText("Muted");
  await deal("Unmute");
  await expect(bob.composer).toBeVisible();

  await panel.getByRole("button", { name: "Change this room" }).click();
  await panel.getByLabel("Slow mode").selectOption({ label: "One message in 10 seconds" });
  await panel.getByLabel("Topic").fill("slowly");
  await panel.getByRole("button", { name: "Save" }).click();
  await expect(bob.page.getByText("Slow mode: one message in 10 seconds")).toBeVisible();
  await expect(bob.page.locator(".head-topic")).toHaveText("slowly");
  await panel.getByRole("button", { name: "Change this room" }).click();
  await panel.getByRole("checkbox", { name: "Archived" }).check();
  await panel.getByRole("button", { name: "Save" }).click();
  await expect(bob.page.getByText("This room is archived")).toBeVisible();
  await expect(bob.page.locator(".happening").last()).toContainText("archived this room");
  await panel.getByRole("button", { name: "Change this room" }).click();
  await panel.getByRole("checkbox", { name: "Archived" }).uncheck();
  await panel.getByRole("button", { name: "Save" }).click();
  await expect(bob.composer).toBeVisible();

  await deal("Ban from room");
  await expect(bob.page.locator(".side .room")).toHaveCount(0);
  await expect(bob.page.getByText("This room is not there")).toBeVisible();
  await panel.getByRole("button", { name: `Let ${b.name} back in` }).click();
  await expect(panel.getByRole("heading", { name: "Banned" })).toHaveCount(0);
  await panel.getByLabel("Add by user name").fill(b.name);
  await panel.getByRole("button", { name: "Add", exact: true }).click();
  await expect(bob.page.locator(".side .room")).toHaveCount(1);

  await deal("Make owner in your place");
  await alice.page.getByRole("dialog").getByRole("button", { name: "Make owner in your place" }).click();
  await expect(panel.locator(".line", { hasText: b.name })).toContainText("Owner");
  socket.close();
});

test("a message is reported to the server's moderators", async ({ server, account, person }) => {
  const [a, b] = [await account("alice"), await account("bob")];
  const socket = await Socket.open(server, b);
  const room = await socket.create("group", [a], "Market");
  await socket.say(room, ["cheap watches"]);
  const alice = await person(a);
  await alice.open("Market");
  await alice.choose("cheap watches", "Report");
  const dialog = alice.page.getByRole("dialog", { name: "Report this message" });
  await expect(dialog).toContainText("cheap watches");
  await dialog.getByLabel("What is wrong with it?").fill("spam");
  await dialog.getByRole("button", { name: "Report" }).click();
  await expect(alice.page.getByText("The moderators have been told")).toBeVisible();
  socket.close();
});

test("who has read a message is shown, also after everything was loaded anew", async ({ server, account, person }) => {
  const [a, b, c] = [await account("alice"), await account("bob"), await account("carol")];
  const [bob, carol] = [await Socket.open(server, b), await Socket.open(server, c)];
  const room = await bob.create("group", [a, c], "Read");
  const alice = await person(a);
  await alice.open("Read");
  await alice.say("who sees this?");
  const row = alice.message("who sees this?");
  await expect(row.locator(".tick.sent, .tick.delivered")).toBeVisible();
  const seq = Number(await row.getAttribute("data-seq"));
  await bob.ask("cursor", { room, read: seq, delivered: seq });
  await carol.ask("cursor", { room, delivered: seq });
  await expect(row.locator(".tick.read")).toBeVisible();
  await alice.page.reload();
  await row.getByRole("button", { name: "Read", exact: true }).click();
  const dialog = alice.page.getByRole("dialog", { name: "Who has seen it" });
  await expect(dialog).toContainText("Read by 1 person");
  await expect(dialog).toContainText(b.name);
  await expect(dialog).toContainText("Delivered to 1 more");
  bob.close();
  carol.close();
});
