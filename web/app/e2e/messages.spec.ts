import { expect, test } from "./support/app";
import { Socket } from "./support/socket";

test("a message is edited, reacted to, answered, threaded, pinned, deleted, and the other sees all of it", async ({ server, account, person }) => {
  const [a, b] = [await account("alice"), await account("bob")];
  const socket = await Socket.open(server, b);
  await socket.create("direct", [a]);
  const [alice, bob] = await Promise.all([person(a), person(b)]);
  await alice.page.locator(".side .room").first().click();
  await bob.page.locator(".side .room").first().click();

  await alice.say("frist");
  await expect(alice.message("frist").locator(".tick.sent, .tick.delivered, .tick.read")).toBeVisible();
  await alice.composer.press("ArrowUp");
  await expect(alice.composer).toHaveValue("frist");
  await alice.say("first");
  const edited = bob.page.locator("article", { hasText: "first" });
  await expect(edited).toContainText("edited");

  await edited.hover();
  await edited.getByRole("button", { name: "React with 👍" }).click();
  await expect(alice.page.locator(".reaction")).toHaveText(/👍\s*1/);
  await alice.page.locator(".reaction").click();
  await expect(bob.page.locator(".reaction")).toHaveText(/👍\s*2/);
  await edited.hover();
  await edited.getByRole("button", { name: "React", exact: true }).click();
  await bob.page.getByRole("searchbox", { name: "Search emoji" }).fill("rocket");
  await bob.page.getByRole("searchbox", { name: "Search emoji" }).press("Enter");
  await expect(alice.page.locator(".reaction", { hasText: "🚀" })).toBeVisible();

  await edited.hover();
  await edited.getByRole("button", { name: "Reply", exact: true }).click();
  await bob.say("an answer");
  await expect(alice.message("an answer").locator(".quote")).toContainText("first");

  await alice.act("an answer", "Open thread");
  const thread = alice.page.getByRole("complementary", { name: "Thread" });
  await thread.getByRole("textbox").fill("in the thread");
  await thread.getByRole("textbox").press("Enter");
  await expect(thread.locator("article", { hasText: "in the thread" })).toBeVisible();
  await expect(bob.message("an answer").locator(".thread-link")).toHaveText("1 reply");
  await alice.page.keyboard.press("Escape");
  await expect(thread).toHaveCount(0);

  await bob.choose("an answer", "Pin");
  await expect(alice.message("an answer").locator(".pinned")).toBeVisible();

  await bob.choose("an answer", "Delete");
  await bob.page.getByRole("dialog", { name: "Delete this message?" }).getByRole("button", { name: "Delete" }).click();
  await expect(alice.page.getByText("This message was deleted").first()).toBeVisible();
  socket.close();
});

test("markdown is drawn, markup is not, and a mention is completed, marked and counted", async ({ server, account, person }) => {
  const [a, b] = [await account("alice"), await account("bob")];
  const socket = await Socket.open(server, b);
  await socket.create("group", [a], "Words");
  await socket.create("group", [a], "Elsewhere");
  const [alice, bob] = await Promise.all([person(a), person(b)]);
  await alice.open("Elsewhere");
  await bob.open("Words");
  await bob.say("**bold** `code` <img src=x onerror=alert(1)> https://example.com");
  const row = bob.page.locator("article", { hasText: "bold" });
  await expect(row.locator("strong")).toHaveText("bold");
  await expect(row.locator("img")).toHaveCount(0);
  await expect(row.locator("a")).toHaveAttribute("href", "https://example.com/");

  await bob.composer.pressSequentially(`look @${a.name.slice(0, 3)}`);
  await expect(bob.page.getByRole("listbox")).toBeVisible();
  await bob.composer.press("Tab");
  await expect(bob.composer).toHaveValue(`look @${a.name} `);
  await bob.composer.press("Enter");
  await expect(alice.page.locator(".side .room", { hasText: "Words" }).getByTitle("You are mentioned once")).toBeVisible();
  await alice.open("Words");
  await expect(alice.page.locator(".message.mentioned")).toContainText("look");
  socket.close();
});

test("drafts stay with their rooms, also over a reload", async ({ server, account, person }) => {
  const [a, b] = [await account("alice"), await account("bob")];
  const socket = await Socket.open(server, b);
  await socket.create("group", [a], "North");
  await socket.create("group", [a], "South");
  const alice = await person(a);
  await alice.open("North");
  await alice.composer.fill("for the north");
  await alice.open("South");
  await expect(alice.composer).toHaveValue("");
  await alice.composer.fill("for the south");
  await expect(alice.page.locator(".side .room", { hasText: "North" })).toContainText("Draft: for the north");
  await alice.page.reload();
  await expect(alice.composer).toHaveValue("for the south");
  await alice.open("North");
  await expect(alice.composer).toHaveValue("for the north");
  socket.close();
});

test("a message that the server refuses says so, and can be discarded; who may only read is told so", async ({ cable, server, account, person }) => {
  const [a, b] = [await account("alice"), await account("bob")];
  const socket = await Socket.open(server, b);
  const room = await socket.create("group", [a], "Strict");
  const alice = await person(a, { cable });
  await alice.open("Strict");
  cable.cut();
  await alice.say("written too late");
  await socket.once("role", { room, user: a.user, role: "reader" });
  cable.mend();
  await expect(alice.page.getByText("You may read here, but not write.")).toBeVisible();
  const failed = alice.page.locator("article.failed");
  await expect(failed).toContainText("written too late");
  await failed.getByRole("button", { name: "Try again" }).click();
  await expect(failed).toContainText("written too late");
  await failed.getByRole("button", { name: "Discard" }).click();
  await expect(failed).toHaveCount(0);
  socket.close();
});
