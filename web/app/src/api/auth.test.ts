import { afterEach, expect, test, vi } from "vitest";
import { Account, type Session, type Who } from "./auth";

const session = (n: number): Session => ({ user: "1", name: "alice", device: "d", access_token: `access${n}`, expires: Date.now() + 900_000, refresh_expires: Date.now() + 9_000_000 });

type Asked = { path: string; authorization: string | undefined; body: unknown };

/** An account that is signed in, at a server that answers with `answer`. */
function signedIn(answer: (asked: Asked) => Response | Promise<Response>) {
  const asked: Asked[] = [];
  vi.stubGlobal("fetch", async (input: string, init: RequestInit) => {
    const one = { path: `${init.method} ${input}`, authorization: (init.headers as Record<string, string>).authorization, body: JSON.parse(String(init.body ?? "null")) };
    asked.push(one);
    return answer(one);
  });
  const told: (Who | string)[] = [];
  const account = new Account((who) => told.push(who.device), (why) => told.push(why));
  account.begin(session(1));
  return { account, asked, told };
}

const json = (body: unknown, status = 200) => new Response(JSON.stringify(body), { status });

afterEach(() => vi.unstubAllGlobals());

test("a new password brings new tokens, and whoever asks for one meanwhile gets the new one, without a renewal", async () => {
  let meanwhile: string | Promise<string> = "";
  const { account, asked, told } = signedIn(() => {
    // As the socket does, which the server closes before its answer is here.
    meanwhile = account.tokens.token({ fresh: true });
    return json(session(2));
  });
  await account.changePassword("old", "the new one");
  expect(await meanwhile).toBe("access2");
  expect(await account.tokens.token({ fresh: false })).toBe("access2");
  expect(asked).toEqual([{ path: "PUT /v1/me/password", authorization: "Bearer access1", body: { old: "old", new: "the new one", cookie: true } }]);
  expect(told).toEqual(["d", "d"]);
});

test("a new password that is refused leaves the session as it was", async () => {
  const { account } = signedIn(() => json({ code: "bad_credentials", detail: "no", retry: "never" }, 401));
  await expect(account.changePassword("wrong", "the new one")).rejects.toMatchObject({ code: "bad_credentials" });
  expect(await account.tokens.token({ fresh: false })).toBe("access1");
});

test("a farewell carries the code of the second step where there is one, and ends the session only when it was taken", async () => {
  const { account, asked, told } = signedIn(({ body }) =>
    (body as { code?: string }).code === "123456" ? new Response(null, { status: 204 }) : json({ code: "bad_credentials", detail: "a code is needed", retry: "never" }, 401),
  );
  await expect(account.delete("the password")).rejects.toMatchObject({ code: "bad_credentials" });
  expect(told).toEqual(["d"]);
  await account.delete("the password", "123456");
  expect(asked.map((a) => [a.path, a.body])).toEqual([
    ["DELETE /v1/me", { password: "the password" }],
    ["DELETE /v1/me", { password: "the password", code: "123456" }],
  ]);
  expect(told).toEqual(["d", "deleted"]);
});
