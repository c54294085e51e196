// @vitest-environment jsdom
/** The hooks, with the real server behind them. */
import { act, cleanup, render, renderHook, screen, waitFor } from "@testing-library/react";
import { StrictMode, type ReactNode } from "react";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { Client } from "@hubbub/client";
import { closeAll, connect } from "../../sdk/tests/support/client.js";
import { friends, group } from "../../sdk/tests/support/people.js";
import { Server, type Account } from "../../sdk/tests/support/server.js";
import {
  HubbubProvider, useClient, useConnection, useDraft, useMembers, useMessages, useOutbox, usePresence, useRoom, useRooms, useTyping, useUnread,
} from "../src/index.js";

let server: Server;
beforeAll(async () => {
  server = await Server.start();
});
afterEach(() => {
  cleanup();
  closeAll();
});
afterAll(() => server.stop());

const within = { timeout: 10_000 };
const below = (client: Client) => ({ children }: { children: ReactNode }) => (
  <StrictMode><HubbubProvider client={client}>{children}</HubbubProvider></StrictMode>
);

async function pair(): Promise<{ a: Client; b: Client; room: string; alice: Account; bob: Account }> {
  const [alice, bob] = (await friends(server, "alice", "bob")) as [Account, Account];
  const [a, b] = [connect(server, alice), connect(server, bob)];
  await Promise.all([a.caughtUp(), b.caughtUp()]);
  return { a, b, room: await group(server, [alice, bob], [a, b]), alice, bob };
}

test("a conversation: what is sent is drawn at once, then as it is in the log, and what comes is drawn when it comes", async () => {
  const { a, b, room, bob } = await pair();
  function Conversation() {
    const { messages, pending } = useMessages(room);
    const shown = useRoom(room);
    const { unread } = useUnread(room);
    return (
      <section aria-label={shown?.name}>
        <output>{unread}</output>
        <ul>{messages.map((m) => <li key={m.cid ?? m.id}>{m.text}</li>)}</ul>
        <ol>{pending.map((p) => <li key={p.cid}>{p.text} …</li>)}</ol>
      </section>
    );
  }
  render(<Conversation />, { wrapper: below(a) });
  expect(screen.getByLabelText("Lunch")).toBeTruthy();
  act(() => void a.send(room, "hello"));
  expect(screen.getByText("hello …")).toBeTruthy();
  await waitFor(() => screen.getByText("hello"), within);
  expect(screen.queryByText("hello …")).toBeNull();
  await b.send(room, "hello, alice");
  await waitFor(() => screen.getByText("hello, alice"), within);
  await waitFor(() => expect(screen.getByRole("status").textContent).toBe("1"), within);
  act(() => a.markRead(room));
  expect(screen.getByRole("status").textContent).toBe("0");
  expect(bob.user).toBe(b.me);
});

test("each hook shows its part, and draws again for that part only", async () => {
  const { a, b, room, bob } = await pair();
  let drawn = 0;
  const { result } = renderHook(() => {
    drawn++;
    return { room: useRoom(room), client: useClient() };
  }, { wrapper: below(a) });
  expect([result.current.room?.name, result.current.client]).toEqual(["Lunch", a]);
  const other = await group(server, [bob], [b]);
  await b.send(other, "elsewhere");
  const typing = renderHook(() => useTyping(room), { wrapper: below(a) });
  const before = drawn;
  b.setTyping(room);
  await waitFor(() => expect(typing.result.current[0]).toEqual([bob.user]), within);
  expect(drawn).toBe(before);

  const all = renderHook(() => ({ connection: useConnection(), rooms: useRooms(), presence: usePresence(bob.user), unread: useUnread(), outbox: useOutbox() }), { wrapper: below(a) });
  expect(all.result.current).toMatchObject({ connection: { state: "connected", caughtUp: true }, outbox: [] });
  expect(all.result.current.rooms.map((r) => r.room)).toEqual([room]);
  await waitFor(() => expect(all.result.current.presence?.state).toBe("online"), within);
  await act(() => b.setPresence({ state: "busy", status: "in a meeting" }));
  await waitFor(() => expect(all.result.current.presence).toMatchObject({ state: "busy", status: "in a meeting" }), within);
  await b.send(room, { text: "look", mentions: [a.me as string] });
  await waitFor(() => expect(all.result.current.unread).toEqual({ unread: 1, mentions: 1 }), within);

  const members = renderHook(() => useMembers(room), { wrapper: below(a) });
  await waitFor(() => expect(members.result.current.map((m) => m.user).sort()).toEqual([a.me, bob.user].sort()), within);
  const draft = renderHook(() => useDraft(room), { wrapper: below(a) });
  act(() => draft.result.current[1]("half a sen"));
  expect(draft.result.current[0]).toBe("half a sen");
  act(() => a.close());
  expect(all.result.current.connection.state).toBe("closed");
});

test("a window on messages grows at its ends, jumps, and comes back", async () => {
  const { a, b, room, bob } = await pair();
  const numbers = await Promise.all(Array.from({ length: 90 }, (_, i) => a.send(room, `message ${i}`)));
  b.close();
  const fresh = connect(server, bob);
  await fresh.caughtUp();
  const { result } = renderHook(() => useMessages(room), { wrapper: below(fresh) });
  await waitFor(() => expect(result.current.messages.length).toBeGreaterThanOrEqual(25), within);
  const first = result.current;
  await act(() => first.loadBefore(10));
  expect(result.current.messages.length).toBe(first.messages.length + 10);
  await act(() => result.current.jumpTo((numbers[2] as { seq: number }).seq));
  expect(result.current.messages[0]?.text).toBe("message 0");
  act(() => result.current.jumpToLatest());
  expect(result.current.messages.at(-1)?.text).toBe("message 89");
});

test("without a provider it says what is missing", () => {
  expect(() => renderHook(() => useConnection())).toThrow("HubbubProvider");
});
