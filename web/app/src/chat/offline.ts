/** Where the client keeps what must be there without a network, shared by all tabs of one account. */
import { type DriverFactory, MemoryStore, type Store } from "@hubbub/client";

export type Offline = { store: Store; driver: DriverFactory | undefined };

export function offline(_user: string): Offline {
  return { store: new MemoryStore(), driver: undefined };
}
