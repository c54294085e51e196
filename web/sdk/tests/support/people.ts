/** Rooms with people in them. */
import type { Client } from "../../src/index.js";
import { connect } from "./client.js";
import type { Account, Server } from "./server.js";
import { until } from "./until.js";

/** Accounts that are contacts of the first. */
export async function friends(server: Server, ...names: string[]): Promise<Account[]> {
  const all = await Promise.all(names.map((name) => server.account(name)));
  for (const other of all.slice(1)) await server.befriend(all[0] as Account, other);
  return all;
}

/** A group of the accounts, made by the first, which everybody has heard of. */
export async function group(server: Server, accounts: Account[], clients: Client[] = []): Promise<string> {
  const [first, ...others] = accounts as [Account, ...Account[]];
  const maker = clients[0] ?? connect(server, first);
  const { room } = await maker.create({ kind: "group", name: "Lunch", members: others.map((a) => a.user) });
  for (const client of clients) await until("the group is known", () => client.room(room)?.known);
  if (!clients[0]) maker.close();
  return room;
}

export async function settled(client: Client): Promise<void> {
  await until("the outbox is empty", () => client.outbox().length === 0);
}
