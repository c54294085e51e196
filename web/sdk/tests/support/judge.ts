/** What the server's log says, read by a socket that shares no code with the client. */
import { WebSocket } from "ws";
import type { Entry, Message } from "../../src/index.js";
import { RoomState } from "../../src/room.js";
import type { Account, Server } from "./server.js";

/** All entries of a room, from the first. */
export function log(server: Server, account: Account, room: string): Promise<Entry[]> {
  return new Promise((resolve, reject) => {
    const ws = new WebSocket(`${server.url.replace("http", "ws")}/v1/socket`, ["hubbub.v1.json"]);
    const all: Entry[] = [];
    ws.on("error", reject);
    ws.on("open", () => ws.send(JSON.stringify({ op: "auth", ref: 1, token: account.access_token })));
    ws.on("message", (data) => {
      const frame = JSON.parse(String(data)) as { op: string; ref?: number; room?: string; entries: Entry[] };
      if (frame.op === "error") reject(new Error(String(data)));
      if (frame.op === "hello") ws.send(JSON.stringify({ op: "resume", ref: 2, rooms: [{ room, have: 0 }], last: true }));
      if (frame.op === "entries" && frame.room === room) all.push(...frame.entries);
      if (frame.op === "resumed") {
        ws.close(1000);
        resolve(all);
      }
    });
  });
}

/** What a room's log shows, folded anew. */
export function folded(room: string, entries: Entry[], me: string): Message[] {
  const state = new RoomState(room, 0);
  for (const entry of entries) if (!state.apply(entry, me, true)) throw new Error(`the log has a hole before ${entry.seq}`);
  return state.list({ from: 0, to: state.view.head });
}
