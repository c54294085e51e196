/** Clients for tests, closed when the test is over. */
import { WebSocket } from "ws";
import { Client, type Options } from "../../src/index.js";
import type { Account, Server } from "./server.js";

const open: Client[] = [];

export function connect(server: Server, account: Account, options: Partial<Options> = {}): Client {
  const client = new Client({ url: server.url, token: () => account.access_token, WebSocket, backoff: { firstMs: 20, maxMs: 200 }, ...options });
  open.push(client);
  client.connect();
  return client;
}

export function closeAll(): void {
  for (const client of open.splice(0)) client.close();
}
