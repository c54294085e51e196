/** From what the client library holds to what the app shows. Pure, and the same object for the same one, so that rows are not drawn anew. */
import type { Entry, Message as Held, Pending, Room as HeldRoom } from "@hubbub/client";
import type { Happening, Item, Message, Room } from "./types";

const messages = new WeakMap<Held | Pending, Message>();

/** Rows keep their key from pending to sent: both have the client id. */
export function messageKey(m: { cid?: string; room: string; seq?: number }): string {
  return m.cid ?? `${m.room}.${m.seq}`;
}

function some<K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } {
  return value === undefined ? {} : ({ [key]: value } as { [P in K]: V });
}

export function message(m: Held): Message {
  let made = messages.get(m);
  if (!made) {
    made = {
      kind: "message", key: messageKey(m), seq: m.seq, n: m.n, at: m.at, by: m.by, text: m.text, mentions: m.mentions, attachments: m.attachments,
      edited: m.edited !== undefined, deleted: m.deleted !== undefined, reactions: m.reactions, pinned: m.pinned, state: "sent",
      ...some("cid", m.cid), ...some("replyTo", m.reply_to), ...some("thread", m.thread),
    };
    messages.set(m, made);
  }
  return made;
}

export function pending(p: Pending, me: string): Message {
  let made = messages.get(p);
  if (!made) {
    made = {
      kind: "message", key: p.cid, cid: p.cid, at: p.at, by: me, text: p.text, mentions: p.mentions, attachments: p.attachments,
      edited: false, deleted: false, reactions: [], pinned: false, state: p.state,
      ...some("replyTo", p.reply_to), ...some("thread", p.thread), ...some("error", p.error?.message),
    };
    messages.set(p, made);
  }
  return made;
}

const happenings = new WeakMap<Entry, Happening | null>();

export function happening(e: Entry): Happening | null {
  let made = happenings.get(e);
  if (made === undefined) {
    const { member, room } = e.body;
    // That a direct conversation was begun says nothing that its first message does not.
    const what = member
      ? { member: { user: member.user, change: member.change, ...some("role", member.role) } }
      : room && room.kind !== "direct"
        ? { room: { created: room.kind !== undefined, ...some("name", room.name), ...some("topic", room.topic), ...some("archived", room.archived) } }
        : undefined;
    made = what ? { kind: "happening", key: `${e.room}.${e.seq}`, seq: e.seq, at: e.at, by: e.by, what } : null;
    happenings.set(e, made);
  }
  return made;
}

/** Messages with what happened between them, in the order of the log, and what is on its way at the end. */
export function weave(held: readonly Held[], entries: readonly Entry[], waiting: readonly Pending[], me: string, atEnd: boolean, atStart: boolean): Item[] {
  const out: Item[] = [];
  const first = held[0]?.seq ?? 0;
  const last = held[held.length - 1]?.seq ?? 0;
  const between = entries.filter((e) => (e.seq > first || atStart) && (e.seq < last || atEnd)).map(happening).filter((h) => h !== null);
  let at = 0;
  for (const m of held) {
    for (let h = between[at]; h && h.seq < m.seq; h = between[++at]) out.push(h);
    out.push(message(m));
  }
  out.push(...between.slice(at));
  if (atEnd) {
    // What has just come back as an entry may still wait for its answer: one row for both.
    const there = new Set(held.slice(-100).map((m) => m.cid));
    out.push(...waiting.filter((p) => !there.has(p.cid)).map((p) => pending(p, me)));
  }
  return out;
}

const rooms = new WeakMap<HeldRoom, Room>();

export function room(r: HeldRoom): Room {
  let made = rooms.get(r);
  if (!made) {
    made = {
      room: r.room, kind: r.kind, name: r.name, topic: r.topic, role: r.role, head: r.head, n: r.n, at: r.at, read: r.read, unread: r.unread, mentions: r.mentions,
      archived: r.archived, unlisted: r.unlisted, slowModeS: r.slowModeS, ...some("mutedUntil", r.mutedUntil),
      ...some("peer", r.peer),
      ...some("last", r.last && { by: r.last.by, text: r.last.text, at: r.last.at, deleted: r.last.deleted !== undefined }),
    };
    rooms.set(r, made);
  }
  return made;
}
