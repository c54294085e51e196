/**
 * What a client knows of one room: pure, no I/O, no clock.
 *
 * `view.head` is the last entry applied, strictly in order: a double changes nothing, a gap is reported and changes nothing, so it is always
 * the truth that a resume may build on. Messages are known in ranges of the log without holes; the last range ends at the head. Pages of
 * history add to ranges and never move the head. A room that nobody looks at keeps its newest `KEPT` messages, one that is open `OPEN_MAX`.
 */
import { changed, fresh, shown, target } from "./fold.js";
import type { Message, Room, SavedRoom } from "./state.js";
import type { Body, Entry, Id, Member, Replies, Requests, RoomPush, RoomSummary, Seq } from "./types.js";

export const KEPT = 500;
export const OPEN_MAX = 200_000;
/** Messages of a room that are stored. */
export const STORED = 200;
/** The end of a mute that has none, as the server tells it. */
const FOREVER = 253_402_300_799_999;
const HAPPENINGS_MAX = 100;
const RECENT_MAX = 1_000;

/** All messages after `from` up to and including `to` are held. */
export interface Range {
  readonly from: Seq;
  readonly to: Seq;
}

const BLANK: Omit<Room, "room"> = {
  kind: "group", name: "", topic: "", role: "member", head: 0, n: 0, at: 0, read: 0, unread: 0, mentions: 0,
  archived: false, unlisted: false, slowModeS: 0, receipts: {}, happenings: [], known: false,
};

export class RoomState {
  view: Room;
  delivered: Seq = 0;
  acked = { read: 0, delivered: 0 };
  readN = 0;
  mentionsTo: Seq = 0;
  /** In order, apart from each other; the last one ends at the head. */
  ranges: Range[];
  members: Map<Id, Member> | undefined;
  readonly messages = new Map<Seq, Message>();
  /** Seqs of `messages` in order; undefined when it must be made anew. */
  #order: Seq[] | undefined = [];
  /** The newest entries about messages: a page of history may be older than they are. */
  #recent: Entry[] = [];

  constructor(room: Id, head: Seq) {
    this.view = { ...BLANK, room, head };
    this.ranges = [{ from: head, to: head }];
  }

  static restore(saved: SavedRoom): RoomState {
    const { view, delivered, acked, readN, mentionsTo, from } = saved;
    const room = new RoomState(view.room, view.head);
    Object.assign(room, { view, delivered, acked: { ...acked }, readN, mentionsTo });
    room.ranges = [{ from: Math.min(from, view.head), to: view.head }];
    return room;
  }

  /** As it is stored, with its messages after `from`. */
  saved(from: Seq): SavedRoom {
    const { view, delivered, acked, readN, mentionsTo } = this;
    return { view, delivered, acked: { ...acked }, readN, mentionsTo, from };
  }

  /** Messages after this seq belong into a store. */
  storedFrom(): Seq {
    const { from } = this.live();
    const held = this.seqs();
    return Math.max(from, held[held.length - 1 - STORED] ?? 0);
  }

  live(): Range {
    return this.ranges[this.ranges.length - 1] as Range;
  }

  set(change: Partial<Room>): void {
    this.view = { ...this.view, ...change };
  }

  /** Applies the next entry; false for a double or a gap. Holds more of a room that is `open`. */
  apply(entry: Entry, me: Id | undefined, open = false): boolean {
    const { view } = this;
    if (entry.seq !== view.head + 1) return false;
    const { from } = this.live();
    this.ranges[this.ranges.length - 1] = { from, to: entry.seq };
    this.set({ head: entry.seq, n: Math.max(view.n, entry.n), at: Math.max(view.at, entry.at) });
    const message = fresh(entry);
    if (message) this.#arrived(message, me, open);
    else this.#happened(entry, me);
    this.#count(me);
    return true;
  }

  #arrived(message: Message, me: Id | undefined, open: boolean): void {
    this.hold(message);
    this.set({ last: message });
    if (message.by === me) this.moveRead(message.seq);
    else if (this.view.kind !== "channel") this.delivered = message.seq;
    if (this.messages.size > (open ? OPEN_MAX : 2 * KEPT)) this.trim(open ? OPEN_MAX : KEPT);
  }

  #happened(entry: Entry, me: Id | undefined): void {
    const { member, room } = entry.body;
    const seq = target(entry.body);
    if (seq !== undefined) {
      if (this.#recent.push(entry) > RECENT_MAX) this.#recent = this.#recent.slice(-RECENT_MAX / 2);
      this.#change(seq, (m) => changed(m, entry.seq, entry.by, entry.body));
    }
    if (member || room) this.set({ happenings: [...this.view.happenings.slice(1 - HAPPENINGS_MAX), entry] });
    if (room) {
      const { kind, name, topic, archived, unlisted, slow_mode_s: slowModeS } = room;
      this.set(given({ kind, name, topic, archived, unlisted, slowModeS }));
    }
    if (!member) return;
    this.#membership(member, me);
    // Who gives a room away is an admin from then on.
    if (member.change === "transfer") this.#membership({ user: entry.by, change: "role", role: "admin" }, me);
  }

  #membership({ user, change, role, until }: NonNullable<Body["member"]>, me: Id | undefined): void {
    // A mute without an end, and one that a new role has ended, are told by the server's next summary.
    const muted = change === "mute" ? { muted_until: until ?? FOREVER } : {};
    if (user === me) {
      const { mutedUntil, ...rest } = this.view;
      const stays = change !== "unmute" && mutedUntil !== undefined ? { mutedUntil } : {};
      this.view = { ...rest, ...stays, ...given({ role, mutedUntil: muted.muted_until }) };
    }
    if (!this.members) return;
    this.members = new Map(this.members);
    if (change === "leave" || change === "kick" || change === "ban") this.members.delete(user);
    else if (change !== "unban") {
      const { muted_until: before, ...known } = this.members.get(user) ?? { user, name: "", role: "member" as const };
      const stays = change !== "unmute" && before !== undefined ? { muted_until: before } : {};
      this.members.set(user, { ...known, ...stays, ...muted, ...given({ role }) });
    }
  }

  #change(seq: Seq, change: (message: Message) => Message): void {
    const { last } = this.view;
    const before = this.messages.get(seq);
    const after = before && change(before);
    if (after && after !== before) this.messages.set(seq, after);
    // Its seq says whether the newest message is meant, held or not.
    if (last?.seq === seq) this.set({ last: after ?? change(last) });
  }

  /** Takes in how the room stands in a resume; the messages are dropped where continuity is not proven. */
  standing(told: RoomPush): void {
    const base = told.standing === "resync" ? told.head : told.standing === "joined" ? told.from : 0;
    if (told.standing === "resync" || this.view.head < base) {
      this.messages.clear();
      this.#order = undefined;
      this.ranges = [{ from: base, to: base }];
      const { last: _, ...rest } = this.view;
      this.view = { ...rest, head: base };
    }
    if (told.summary) this.summary(told.summary);
  }

  /** Takes in the server's summary: what the room is called and what is unread, not what is in it. */
  summary(told: RoomSummary): void {
    const { kind, name, topic = "", peer, role, n, at, read, unread, mentions, last, members, archived = false, unlisted = false } = told;
    const { slow_mode_s: slowModeS = 0, muted_until: mutedUntil } = told;
    // What is older than what is held says nothing new; a read cursor of one's own may be ahead of the server's.
    if (told.head < this.view.head) return this.set({ known: true, kind, role, ...given({ peer }) });
    const ahead = this.view.read > read;
    const { mutedUntil: _, ...rest } = this.view;
    this.view = { ...rest, kind, name, topic, role, n: Math.max(n, rest.n), at, archived, unlisted, slowModeS, known: true, ...given({ peer, members, mutedUntil }) };
    const newest = last && shown(last);
    if (newest) this.set({ last: newest });
    if (ahead) return;
    this.readN = n - unread;
    this.mentionsTo = told.head;
    this.set({ read, unread, mentions });
  }

  #count(me: Id | undefined): void {
    const { view } = this;
    let { mentions } = view;
    if (view.head > this.mentionsTo) {
      const message = this.messages.get(view.head);
      if (me && message && message.by !== me && message.seq > view.read && message.mentions.includes(me)) mentions++;
      this.mentionsTo = view.head;
    }
    this.set({ mentions, unread: Math.max(0, view.n - this.readN) });
  }

  /** Moves one's read cursor forward; false if it is there already. */
  moveRead(seq: Seq, me?: Id): boolean {
    const read = Math.min(seq, this.view.head);
    if (read <= this.view.read) return false;
    const held = this.seqs();
    const at = upper(held, read) - 1;
    const before = at >= 0 ? this.messages.get(held[at] as Seq) : undefined;
    // Of a message that is not held nothing can be said but that it does not count less than before.
    this.readN = read >= (this.view.last?.seq ?? this.view.head) ? this.view.n : Math.max(this.readN, before?.n ?? 0);
    const left = held.slice(at + 1).filter((s) => me && this.messages.get(s)?.mentions.includes(me)).length;
    this.delivered = Math.max(this.delivered, read);
    this.set({ read, unread: Math.max(0, this.view.n - this.readN), mentions: Math.min(this.view.mentions, left) });
    return true;
  }

  receipt(user: Id, read: Seq, delivered: Seq): void {
    this.set({ receipts: { ...this.view.receipts, [user]: { read, delivered } } });
  }

  /** Takes in a page of history. */
  history(ask: Requests["history"], { messages, head, more }: Replies["history"]): void {
    const { view } = this;
    const first = messages[0]?.entry.seq ?? 0;
    const last = messages[messages.length - 1]?.entry.seq ?? 0;
    const from = ask.after ?? (more ? first - 1 : 0);
    const to = ask.after !== undefined ? (more ? last : head) : ask.around !== undefined ? Math.max(last, Math.min(ask.around, head)) : (ask.before ?? head + 1) - 1;
    for (const told of messages) {
      const message = shown(told);
      // What is after the head comes as entries; what is held may be newer than the page.
      if (!message || message.seq > view.head || (head < view.head && this.messages.has(message.seq))) continue;
      const later = this.#recent.filter((e) => e.seq > head && target(e.body) === message.seq);
      this.hold(later.reduce((m, e) => changed(m, e.seq, e.by, e.body), message));
    }
    this.#known({ from: Math.max(0, from), to: Math.min(to, view.head) });
  }

  #known(range: Range): void {
    if (range.to <= range.from) return;
    const all = [...this.ranges, range].sort((a, b) => a.from - b.from || a.to - b.to);
    const joined: Range[] = [];
    for (const next of all) {
      const before = joined[joined.length - 1];
      if (before && next.from <= before.to) joined[joined.length - 1] = { from: before.from, to: Math.max(before.to, next.to) };
      else joined.push(next);
    }
    this.ranges = joined;
  }

  /** The range that a message at `seq` is or would be in. */
  range(seq: Seq): Range | undefined {
    return this.ranges.find((r) => seq > r.from && seq <= r.to);
  }

  /** The messages of a range, oldest first. */
  list({ from, to }: Range): Message[] {
    const held = this.seqs();
    return held.slice(upper(held, from), upper(held, to)).map((seq) => this.messages.get(seq) as Message);
  }

  seqs(): readonly Seq[] {
    return (this.#order ??= [...this.messages.keys()].sort((a, b) => a - b));
  }

  hold(message: Message): void {
    if (!this.messages.has(message.seq)) {
      const last = this.#order?.[this.#order.length - 1] ?? 0;
      if (message.seq > last) this.#order?.push(message.seq);
      else this.#order = undefined;
    }
    this.messages.set(message.seq, message);
  }

  /** Lets go of all but the newest `keep` messages. */
  trim(keep: number): void {
    const held = this.seqs();
    const live = this.live();
    const from = Math.max(live.from, held[held.length - 1 - keep] ?? 0);
    for (const seq of held) if (seq <= from) this.messages.delete(seq);
    this.#order = undefined;
    this.ranges = [{ from, to: live.to }];
  }
}

/** The fields that are there. */
function given<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, v]) => v !== undefined)) as { [K in keyof T]?: Exclude<T[K], undefined> };
}

/** How many of the sorted numbers are at most `max`. */
function upper(sorted: readonly number[], max: number): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] as number) <= max) low = middle + 1;
    else high = middle;
  }
  return low;
}
