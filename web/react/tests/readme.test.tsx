// @vitest-environment jsdom
/** The README's example compiles, and is a conversation when it is drawn. */
import { act, cleanup, fireEvent, render, screen, waitFor } from "@testing-library/react";
import type { Client } from "@hubbub/client";
import { join } from "node:path";
import type { ComponentType } from "react";
import { afterAll, expect, test } from "vitest";
import { closeAll, connect } from "../../sdk/tests/support/client.js";
import { examples } from "../../sdk/tests/support/examples.js";
import { friends, group } from "../../sdk/tests/support/people.js";
import { Server, type Account } from "../../sdk/tests/support/server.js";

afterAll(() => {
  cleanup();
  closeAll();
});

test("the example of the README compiles and works", async () => {
  const server = await Server.start();
  const { files, compile, remove } = examples(join(import.meta.dirname, "../README.md"), "tsx", join(import.meta.dirname, ".generated-readme"), "export {};", (code) => code);
  try {
    compile();
    expect(files.length).toBe(1);
    const { App } = (await import(/* @vite-ignore */ files[0] as string)) as { App: ComponentType<{ client: Client; room: string }> };
    const [alice, bob] = (await friends(server, "alice", "bob")) as [Account, Account];
    const [a, b] = [connect(server, alice), connect(server, bob)];
    await Promise.all([a.caughtUp(), b.caughtUp()]);
    const room = await group(server, [alice, bob], [a, b]);
    render(<App client={a} room={room} />);
    const field = screen.getByLabelText("Message");
    fireEvent.change(field, { target: { value: "hello" } });
    await waitFor(() => expect(b.typing(room)).toEqual([alice.user]));
    act(() => (field.closest("form") as HTMLFormElement).requestSubmit());
    await waitFor(() => screen.getByText("hello"), { timeout: 10_000 });
    await act(async () => {
      await b.send(room, "hello, alice");
    });
    await waitFor(() => screen.getByText("hello, alice"), { timeout: 10_000 });
    act(() => a.close());
    screen.getByRole("button", { name: "closed" });
  } finally {
    remove();
    await server.stop();
  }
});
