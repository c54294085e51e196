/** `@hubbub/client`: the client, its types and its errors. Offline storage, tab sharing and the REST client are entries of their own. */
export { Client, type Options, type Ticket } from "./client.js";
export { Timeline, type TimelineView } from "./timeline.js";
export { HubbubError, type ErrorCode, type LocalCode, type PlainError, type ServerCode } from "./errors.js";
export { MemoryStore } from "./memory.js";
export { afterClose } from "./backoff.js";
export { shown } from "./fold.js";
export type { Events, Topic } from "./replica.js";
export type { Driver, DriverFactory, Host, Settings, TokenProvider } from "./driver.js";
export type { Format } from "./codec.js";
export type { Change, ConnectionState, Item, Message, Pending, Room, Saved, SavedRoom, Status, Store, Transient, Write } from "./state.js";
export type * from "./types.js";
