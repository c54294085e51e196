/**
 * `@hubbub/react`: a client's state as hooks. Every hook shows what the client holds, draws again only when that changes, and gives the same
 * object until then.
 */
export { HubbubProvider, useClient } from "./context.js";
export {
  useConnection, useDraft, useMembers, useMessages, useOutbox, usePresence, useRoom, useRooms, useTyping, useUnread,
  type Connection, type Messages, type Unread,
} from "./hooks.js";
