import { createHmac } from "node:crypto";
import { expect, newContext, test } from "./support/app";
import { PASSWORD } from "./support/server";

/** The code of a time-based one-time password (RFC 6238), as an authenticator app shows it. */
function totp(secret: string, at = Date.now()): string {
  const bits = [...secret.replace(/=+$/, "")].map((c) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(c).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from(bits.match(/.{8}/g)?.map((b) => Number.parseInt(b, 2)) ?? []);
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(at / 30_000)));
  const mac = createHmac("sha1", key).update(counter).digest();
  const from = (mac[19] ?? 0) & 15;
  return String((mac.readUInt32BE(from) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}

test("the second step is set up in the settings, asked for at the next sign-in, and a recovery code does as well", async ({ account, person, browser, server, strict }) => {
  const a = await account("alice");
  // The first answer asks for the code, the second refuses a wrong one.
  strict.expect(/status of 401/);
  const alice = await person(a);
  const { page } = alice;
  await page.locator(".oneself").click();
  await page.getByRole("button", { name: "Signing in" }).click();
  await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await page.getByRole("button", { name: "Set up" }).click();
  const secret = (await page.locator(".codes").innerText()).trim();
  await page.getByLabel("Code").fill(totp(secret));
  await page.getByRole("button", { name: "Confirm" }).click();
  await expect(page.getByText("Keep these recovery codes")).toBeVisible();
  const recovery = (await page.locator(".codes").innerText()).trim().split("\n")[0] ?? "";
  await page.getByRole("button", { name: "I have kept them" }).click();
  await expect(page.getByText("The second step is on.")).toBeVisible();

  const context = await newContext(browser);
  const other = strict.watch(await context.newPage());
  await other.goto(server.url);
  await other.getByLabel("User name").fill(a.name);
  await other.getByLabel("Password").fill(PASSWORD);
  await other.getByRole("button", { name: "Sign in" }).click();
  await expect(other.getByRole("heading", { name: "One more step" })).toBeVisible();
  await other.getByLabel("Code").fill("000000");
  await other.getByRole("button", { name: "Sign in" }).click();
  await expect(other.getByRole("alert")).toBeVisible();
  await other.getByLabel("Code").fill(recovery);
  await other.getByRole("button", { name: "Sign in" }).click();
  await expect(other.locator(".side")).toBeVisible();

  // The new device is listed at the first one, which signs it out.
  await page.getByRole("button", { name: "Devices" }).click();
  await expect(page.locator(".settings-main .line")).toHaveCount(3);
  await page.locator(".settings-main .line", { hasText: "Chrome" }).filter({ hasNotText: "This device" }).getByRole("button", { name: "Sign out" }).click();
  await expect(other.getByText("This device was signed out.")).toBeVisible();
  await context.close();
});

test("who has the second step on is asked for a code before the account is deleted", async ({ account, person, server, strict }) => {
  const a = await account("alice");
  const { page } = await person(a);
  const { secret } = await server.api<{ secret: string }>("POST", "/v1/me/totp", { password: PASSWORD }, a.token);
  const { recovery_codes } = await server.api<{ recovery_codes: string[] }>("POST", "/v1/me/totp/confirm", { code: totp(secret) }, a.token);
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByRole("button", { name: "Account", exact: true }).click();
  const form = page.locator("form", { hasText: "There is no way back" });
  await form.getByLabel("Password").fill(PASSWORD);
  await form.getByLabel("Code").fill("000000");
  strict.expect(/status of 401/);
  await form.getByRole("button", { name: "Delete account" }).click();
  await expect(form.getByRole("alert")).toBeVisible();
  await form.getByLabel("Code").fill(recovery_codes[0] ?? "");
  await form.getByRole("button", { name: "Delete account" }).click();
  await expect(page.getByText("The account was deleted.")).toBeVisible();
});
