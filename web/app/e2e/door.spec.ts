import { expect, newContext, test } from "./support/app";

test("somebody makes an account, is told what is wrong with a taken name, signs out and in again", async ({ server, browser, strict, name, account }) => {
  strict.expect(/status of 409/);
  strict.expect(/status of 401/);
  const taken = await account("taken");
  const context = await newContext(browser);
  const page = strict.watch(await context.newPage());
  await page.goto(server.url);
  await page.getByRole("button", { name: "Create an account" }).click();
  await page.getByLabel("User name").fill(taken.name);
  await page.getByLabel("Password").fill("correct horse battery");
  await page.getByRole("button", { name: "Create account" }).click();
  await expect(page.getByRole("alert")).toContainText("taken");
  const own = name("new");
  await page.getByLabel("User name").fill(own);
  await page.getByRole("button", { name: "Create account" }).click();
  await expect(page.getByText("No conversations yet")).toBeVisible();

  // A reload stays signed in: the refresh token is a cookie, and no script can read it.
  await page.reload();
  await expect(page.locator(".oneself")).toContainText(own);
  expect(await page.evaluate(() => document.cookie)).toBe("");
  const cookie = (await context.cookies()).find((c) => c.name === "hubbub_refresh");
  expect(cookie).toMatchObject({ httpOnly: true, sameSite: "Strict", path: "/v1/auth" });

  await page.locator(".oneself").click();
  await page.getByRole("button", { name: "Sign out on this device" }).click();
  await expect(page.getByText("You are signed out.")).toBeVisible();
  await page.getByLabel("User name").fill(own);
  await page.getByLabel("Password").fill("not this one");
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page.getByRole("alert")).toContainText("Wrong name or password");
  await context.close();
});

test("the page comes with a policy that lets nothing inline in, and hashed files are kept for good", async ({ server, request }) => {
  const page = await request.get(server.url);
  expect(page.headers()["content-security-policy"]).toContain("default-src 'none'");
  const html = await page.text();
  expect(html).not.toMatch(/<script>|<style|style="|onclick=/);
  const script = /src="(\/assets\/[^"]+\.js)"/.exec(html)?.[1] ?? "";
  const file = await request.get(server.url + script, { headers: { "accept-encoding": "br" } });
  expect(file.headers()["cache-control"]).toContain("immutable");
  expect(file.headers()["content-encoding"]).toBe("br");
  const again = await request.get(server.url, { headers: { "if-none-match": page.headers().etag ?? "" } });
  expect(again.status()).toBe(304);
});
