/** How entries change the messages they are about. Pure; a message is replaced, never changed in place. */
import type { Message } from "./state.js";
import type { Body, Entry, Id, Reaction, Seq, Shown } from "./types.js";

/** A message entry as it is shown; undefined for an entry of another kind. */
export function fresh(entry: Entry): Message | undefined {
  const { body, ...numbers } = entry;
  if (!body.message) return undefined;
  return { ...numbers, mentions: [], attachments: [], reactions: [], pinned: false, ...body.message, text: body.message.text ?? "" };
}

/** A message as history tells it. */
export function shown({ entry, edited, deleted, reactions = [], pinned = false }: Shown): Message | undefined {
  const message = fresh(entry);
  return message && { ...message, reactions, pinned, ...(edited === undefined ? {} : { edited }), ...(deleted === undefined ? {} : { deleted }) };
}

/** The message that an entry (or a request of the same fields) is about, if it is about one. */
export function target({ edit, delete: gone, react, pin }: Body): Seq | undefined {
  return (edit ?? gone ?? react ?? pin)?.seq;
}

/** The message after an entry about it: the same object if nothing changed. */
export function changed(message: Message, seq: Seq, by: Id, { edit, delete: gone, react, pin }: Body): Message {
  if (message.deleted !== undefined) return message;
  if (gone) {
    const { data: _, ...rest } = message;
    return { ...rest, deleted: seq, text: "", mentions: [], attachments: [], reactions: [], pinned: false };
  }
  if (edit) {
    // A page of history may have brought a newer edit already.
    if (message.edited !== undefined && message.edited >= seq) return message;
    return { ...message, text: edit.text, mentions: edit.mentions ?? [], edited: seq };
  }
  if (react) return { ...message, reactions: reacted(message.reactions, by, react.emoji, react.on) };
  if (pin) return message.pinned === pin.on ? message : { ...message, pinned: pin.on };
  return message;
}

function reacted(all: Message["reactions"], by: Id, emoji: string, on: boolean): Message["reactions"] {
  const before = all.find((r) => r.emoji === emoji);
  if (on === (before?.users.includes(by) ?? false)) return all;
  if (!before) return [...all, { emoji, users: [by] }];
  const after: Reaction = { emoji, users: on ? [...before.users, by] : before.users.filter((user) => user !== by) };
  return after.users.length ? all.map((r) => (r === before ? after : r)) : all.filter((r) => r !== before);
}
