/** `@hubbub/client/offline`: what outlives the page, and what several tabs share. Spread what `offline` gives into the client's options. */
import type { DriverFactory } from "../driver.js";
import { HubbubError } from "../errors.js";
import type { Store } from "../state.js";
import { IdbStore } from "./idb.js";
import { TabDriver, type Channel, type Locks } from "./tabs.js";

export { IdbStore, TabDriver, type Channel, type Locks };

export interface OfflineOptions {
  /** Instead of the browser's own, for tests and other platforms. */
  indexedDB?: IDBFactory | undefined;
  locks?: Locks | undefined;
  channel?: ((name: string) => Channel) | undefined;
}

/**
 * A store in IndexedDB and a connection shared among the tabs of one browser, both by this name: use one name per user. Where the browser has
 * no Web Locks (pages that are not served securely), every tab has a connection of its own and the last to write is right.
 */
export function offline(name: string, options: OfflineOptions = {}): { store: Store; driver: DriverFactory } {
  const factory = options.indexedDB ?? globalThis.indexedDB;
  if (!factory) throw new HubbubError("storage", "this platform has no IndexedDB: leave the offline store out, or give one as the option indexedDB");
  const locks = options.locks ?? globalThis.navigator?.locks;
  const channel = options.channel ?? ((channelName: string) => new BroadcastChannel(channelName) as Channel);
  return {
    store: new IdbStore(name, factory),
    driver: (host, solo) => (locks ? new TabDriver(host, solo, name, locks, channel) : solo()),
  };
}
