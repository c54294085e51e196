import { readFileSync } from "node:fs";
import { expect, newContext, test } from "./support/app";
import { PASSWORD } from "./support/server";

test("an e-mail address is added and confirmed, and its link sets a forgotten password anew", async ({ server, account, person, browser, strict }) => {
  const a = await account("alice");
  const address = `${a.name}@example.com`;
  const { page } = await person(a);
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByRole("button", { name: "Account", exact: true }).click();
  await page.getByLabel("E-mail address").fill(address);
  await page.locator("form", { has: page.getByLabel("E-mail address") }).getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Add" }).click();
  await expect(page.getByText("A link to confirm the address is on its way.")).toBeVisible();

  // In the same browser, where one is signed in.
  await page.goto(await server.mailedLink(address));
  await page.getByRole("button", { name: "Confirm this address" }).click();
  await expect(page.getByText("The address is confirmed.")).toBeVisible();
  await page.getByRole("button", { name: "Go to Hubbub" }).click();
  await expect(page.locator(".side")).toBeVisible();
  expect(page.url()).not.toContain("token");
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByRole("button", { name: "Account", exact: true }).click();
  await expect(page.locator(".settings-main")).toContainText(`${address} confirmed`);

  const context = await newContext(browser);
  const other = strict.watch(await context.newPage());
  await other.goto(server.url);
  await other.getByRole("button", { name: "Forgot your password?" }).click();
  await other.getByLabel("User name").fill(a.name);
  await other.getByRole("button", { name: "Send a link" }).click();
  await expect(other.getByText("a link to set a new password is on its way")).toBeVisible();
  await expect.poll(() => server.mailedLink(address)).toContain("/reset#");
  await other.goto(await server.mailedLink(address));
  await other.getByLabel("New password").fill("another horse battery");
  await other.getByRole("button", { name: "Set password" }).click();
  await other.getByLabel("User name").fill(a.name);
  await other.getByLabel("Password").fill("another horse battery");
  await other.getByRole("button", { name: "Sign in" }).click();
  await expect(other.locator(".side")).toBeVisible();
  // The device that was signed in with the old one is not any more.
  strict.expect(/status of 401/);
  strict.expectUnreachable();
  await expect(page.getByRole("heading", { name: "Sign in" })).toBeVisible();
  await context.close();
});

test("a new password leaves this page signed in and connected, also after a reload, and signs every other device out", async ({ account, person, strict }) => {
  const a = await account("alice");
  const here = await person(a);
  const other = await person(a);
  const { page } = here;
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByRole("button", { name: "Signing in" }).click();
  await page.getByLabel("Present password").fill(PASSWORD);
  await page.getByLabel("New password").fill("another horse battery");
  // The other device asks once more with what it has, and is refused.
  strict.expect(/status of 401/);
  strict.expectUnreachable();
  await page.getByRole("button", { name: "Change password" }).click();
  await expect(page.getByText("Password changed.")).toBeVisible();
  await expect(other.page.getByRole("heading", { name: "Sign in" })).toBeVisible();
  await here.inside();
  await page.goto(here.url);
  await here.inside();
});

test("everything of one's own is downloaded, then the account deleted: signed out, and the name signs in no more", async ({ account, person, strict }) => {
  const a = await account("alice");
  const { page } = await person(a);
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByRole("button", { name: "Account", exact: true }).click();
  const saving = page.waitForEvent("download");
  await page.getByRole("button", { name: "Download" }).click();
  const saved = await saving;
  expect(saved.suggestedFilename()).toBe(`hubbub-${a.name}.json`);
  expect(readFileSync(await saved.path(), "utf8")).toContain(a.name);

  const form = page.locator("form", { hasText: "There is no way back" });
  await form.getByLabel("Password").fill(PASSWORD);
  await form.getByRole("button", { name: "Delete account" }).click();
  await expect(page.getByText("The account was deleted.")).toBeVisible();
  strict.expect(/status of 401/);
  await page.getByLabel("User name").fill(a.name);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page.getByRole("alert")).toContainText("Wrong name or password");
});
