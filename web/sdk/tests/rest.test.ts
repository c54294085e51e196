/** The REST client and the tokens, against the real server. */
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { HubbubError, MfaRequired, Rest, Tokens, type Session } from "../src/rest.js";
import { PASSWORD, Server } from "./support/server.js";

let server: Server;
beforeAll(async () => {
  server = await Server.start();
});
afterAll(() => server.stop());

test("an account is made, signed in, renewed and signed out", async () => {
  const open = new Rest({ url: server.url });
  const made = await open.register({ name: "alice", password: PASSWORD, device: "test" });
  expect(made).toMatchObject({ name: "alice", user: expect.stringMatching(/^\d+$/) });
  await expect(open.login({ name: "alice", password: "wrong" })).rejects.toMatchObject({ code: "bad_credentials", retry: "never" });
  const kept: Session[] = [];
  const ended: string[] = [];
  const tokens = new Tokens(open, { session: made, changed: (s) => kept.push(s), ended: (e) => ended.push(e.code) });
  const rest = new Rest({ url: server.url, token: tokens.token });
  expect(await rest.userByName("alice")).toMatchObject({ user: made.user });
  // Asked at once by many, it is renewed once: a refresh token is good for one use.
  const fresh = await Promise.all(Array.from({ length: 5 }, () => tokens.token({ fresh: true })));
  expect([new Set(fresh).size, kept.length, ended]).toEqual([1, 1, []]);
  expect(kept[0]?.refresh_token).not.toBe(made.refresh_token);
  await rest.logout();
  await expect(tokens.token({ fresh: true })).rejects.toMatchObject({ retry: "never" });
  expect(ended.length).toBe(1);
});

test("what the server refuses is its code; what does not answer is unreachable", async () => {
  const { access_token } = await new Rest({ url: server.url }).register({ name: "bob", password: PASSWORD });
  const rest = new Rest({ url: server.url, token: () => access_token });
  await expect(rest.userByName("nobody")).rejects.toMatchObject({ code: "not_found", retry: "never" });
  await expect(new Rest({ url: server.url, token: () => "nonsense" }).userByName("bob")).rejects.toMatchObject({ code: "unauthorized" });
  await expect(new Rest({ url: "http://127.0.0.1:1" }).vapid()).rejects.toMatchObject({ code: "unreachable", retry: "later" });
});

test("a new password keeps this page signed in, whoever asks for a token meanwhile, and nobody else", async () => {
  let asked: (string | Promise<string>)[] = [];
  const open = new Rest({
    url: server.url,
    fetch: (input, init) => {
      // As a socket does that is closed while the answer is on its way.
      if (String(input).endsWith("/me/password")) asked = Array.from({ length: 3 }, () => tokens.token({ fresh: true }));
      return fetch(input, init);
    },
  });
  const session = await open.register({ name: "carol", password: PASSWORD });
  const other = await open.login({ name: "carol", password: PASSWORD });
  const ended: string[] = [];
  const tokens = new Tokens(open, { session, ended: (e) => ended.push(e.code) });
  const rest = new Rest({ url: server.url, token: tokens.token });
  const changed = await tokens.replace((api) => api.changePassword(PASSWORD, "another horse altogether"));
  expect([changed.device, asked.length]).toEqual([session.device, 3]);
  expect([...new Set(await Promise.all(asked))]).toEqual([changed.access_token]);
  expect((await rest.devices()).items.map((d) => [d.device, d.current])).toEqual([[session.device, true]]);
  await expect(open.refresh(other.refresh_token)).rejects.toMatchObject({ retry: "never" });
  expect(ended).toEqual([]);
});

test("one's account: devices, an export, a farewell", async () => {
  const open = new Rest({ url: server.url });
  const tokens = new Tokens(open, { session: await open.register({ name: "dave", password: PASSWORD, device: "phone" }) });
  const rest = new Rest({ url: server.url, token: tokens.token });
  const tablet = await open.login({ name: "dave", password: PASSWORD, device: "tablet" });
  await rest.revokeDevice(tablet.device);
  expect((await rest.devices()).items).toMatchObject([{ name: "phone", current: true }]);
  expect(await rest.exportMe()).toMatchObject({ account: { name: "dave" }, complete: true });
  await expect(rest.deleteMe("not the password")).rejects.toMatchObject({ code: "bad_credentials" });
  await rest.deleteMe(PASSWORD);
  await expect(open.login({ name: "dave", password: PASSWORD })).rejects.toMatchObject({ code: "bad_credentials" });
});

const answers = (...all: [number, string][]) => {
  const asked: [string, RequestInit][] = [];
  const fetch = vi.fn(async (url: string, init: RequestInit) => {
    asked.push([url, init]);
    const [status, body] = all.shift() as [number, string];
    return new Response(status === 204 ? null : body, { status });
  });
  return { asked, fetch: fetch as unknown as typeof globalThis.fetch };
};

test("a token that ended is renewed and the call made again, once", async () => {
  const expired: [number, string] = [401, '{"code":"token_expired","detail":"over","retry":"never"}'];
  const { fetch, asked } = answers(expired, [200, '{"user":"1"}'], expired, expired);
  const rest = new Rest({ fetch, token: ({ fresh }) => (fresh ? "new" : "old") });
  await rest.me();
  expect(asked.map(([, init]) => (init.headers as Record<string, string>)["authorization"])).toEqual(["Bearer old", "Bearer new"]);
  await expect(rest.me()).rejects.toMatchObject({ code: "token_expired" });
});

test("problems, other pages and empty answers are read for what they are", async () => {
  const { fetch } = answers(
    [401, '{"code":"mfa_required","detail":"a code too","mfa_token":"m"}'],
    [429, '{"code":"rate_limited","title":"too fast","retry":"later","retry_after_ms":40}'],
    [502, "<html>"], [404, "<html>"], [204, ""],
  );
  const rest = new Rest({ fetch });
  const mfa = await rest.login({ name: "a", password: "b" }).catch((e: unknown) => e);
  expect(mfa).toBeInstanceOf(MfaRequired);
  expect(mfa).toMatchObject({ code: "mfa_required", mfaToken: "m", message: "a code too" });
  await expect(rest.me()).rejects.toMatchObject({ code: "rate_limited", message: "too fast", retryAfterMs: 40 });
  await expect(rest.me()).rejects.toMatchObject({ code: "unavailable", retry: "later" });
  await expect(rest.me()).rejects.toBeInstanceOf(HubbubError);
  expect(await rest.removeContact("1")).toBeUndefined();
});

test("cookies, queries, names and lists travel as the server wants them", async () => {
  const { fetch, asked } = answers([200, "{}"], [200, '{"items":[1,2],"next":"c d"}'], [200, '{"items":[3]}'], [200, "{}"]);
  const rest = new Rest({ url: "https://chat.example/", cookie: true, fetch });
  await rest.refresh();
  expect(asked[0]).toMatchObject(["https://chat.example/v1/auth/refresh", { credentials: "include", headers: { "hubbub-csrf": "1" }, body: '{"cookie":true}' }]);
  expect(await rest.all((page) => rest.channels("ü", page))).toEqual([1, 2, 3]);
  expect(asked.slice(1, 3).map(([url]) => url)).toEqual(["https://chat.example/v1/channels?q=%C3%BC", "https://chat.example/v1/channels?q=%C3%BC&cursor=c+d"]);
  await rest.userByName("a/b");
  expect(asked[3]?.[0]).toBe("https://chat.example/v1/users/by-name/a%2Fb");
});
