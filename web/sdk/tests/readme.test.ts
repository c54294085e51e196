/** Every example of the README compiles, and runs against the real server. */
import "fake-indexeddb/auto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { Client } from "../src/index.js";
import { Rest, Tokens } from "../src/rest.js";
import { examples } from "./support/examples.js";
import { PASSWORD, Server } from "./support/server.js";
import { until } from "./support/until.js";

const made: Client[] = [];
afterAll(() => made.forEach((c) => c.close()));

test("the examples of the README compile and run", async () => {
  const server = await Server.start();
  const globals = `
    import type { Client } from "@hubbub/client";
    import type { Tokens } from "@hubbub/client/rest";
    declare global { const client: Client; const tokens: Tokens; const room: string; const seq: number; const other: string; }`;
  const dir = join(import.meta.dirname, ".generated-readme");
  const { files, compile, remove } = examples(join(import.meta.dirname, "../README.md"), "ts", dir, globals, (code) => code.replaceAll("https://chat.example", server.url));
  try {
    compile();
    const [alice, bob] = await Promise.all(["alice", "bob"].map((name) => server.post<{ user: string }>("/v1/auth/register", { name, password: PASSWORD })));
    vi.stubGlobal("WebSocket", WebSocket);
    const said = vi.spyOn(console, "log").mockImplementation(() => {});
    expect(files.length).toBeGreaterThanOrEqual(9);
    // The quick start stands alone; what it makes is not reached from here.
    await import(/* @vite-ignore */ files[0] as string);
    await until("the quick start heard itself", () => said.mock.calls.some((c) => c[0] === alice?.user && c[1] === "hello, world"));
    const rest = new Rest({ url: server.url });
    const tokens = new Tokens(rest, { session: await rest.login({ name: "alice", password: PASSWORD }) });
    const client = new Client({ url: server.url, token: tokens.token });
    made.push(client);
    client.connect();
    await server.post(`/v1/contacts/${bob?.user}`, {}, await tokens.token({ fresh: false }), "PUT");
    const theirs = await new Rest({ url: server.url }).login({ name: "bob", password: PASSWORD });
    await server.post(`/v1/contacts/${alice?.user}`, {}, theirs.access_token, "PUT");
    const { room } = await client.create({ kind: "group", name: "Lunch", members: [bob?.user as string] });
    const { seq } = await client.send(room, "hello");
    for (const [name, value] of Object.entries({ client, tokens, room, seq, other: bob?.user })) vi.stubGlobal(name, value);
    for (const file of files.slice(1)) {
      // Who is to be invited must not be there.
      if (readFileSync(file, "utf8").includes('"invite"')) await client.submit("kick", { room, user: bob?.user as string });
      await import(/* @vite-ignore */ file);
    }
    await until("nothing waits", () => client.pending(room).length === 0);
  } finally {
    remove();
    vi.unstubAllGlobals();
    vi.restoreAllMocks();
    await server.stop();
  }
});
