/** What stands around a message in the list, decided from its neighbour: pure, and worked out for the rows that are drawn only. */
import type { Item, Message } from "../../chat/types";
import { sameDay } from "../../i18n/dates";

/** Messages of one author within this stand together under one name. */
const TOGETHER_MS = 5 * 60_000;

export type Around = {
  /** A new day begins here. */
  day: boolean;
  /** What one has not read begins here. */
  unread: boolean;
  /** It shows its author; the others follow one that does. */
  head: boolean;
  /** It belongs to a thread, and the one before to another or none. */
  thread: boolean;
};

export function around(before: Item | undefined, item: Item, unreadFrom: number | undefined): Around {
  const day = !before || !sameDay(before.at, item.at);
  const unread = unreadFrom !== undefined && item.kind === "message" && item.seq !== undefined && item.seq >= unreadFrom && !(before?.seq !== undefined && before.seq >= unreadFrom);
  const follows = before?.kind === "message" && item.kind === "message" && before.by === item.by && item.at - before.at < TOGETHER_MS && item.replyTo === undefined && item.thread === before.thread && !before.deleted;
  const message = item.kind === "message";
  const inThread = message && item.thread !== undefined && (day || unread || before?.kind !== "message" || before.thread !== item.thread);
  return { day, unread, head: message && (day || unread || !follows), thread: inThread };
}

/** The first message after one's read cursor that another wrote; `undefined` when all is read. */
export function firstUnread(items: readonly Item[], read: number, me: string): number | undefined {
  return items.find((i): i is Message => i.kind === "message" && i.seq !== undefined && i.seq > read && i.by !== me)?.seq;
}

/** How far a message of one's own has come with the others. */
export type Reached = "pending" | "failed" | "sent" | "delivered" | "read";
export type Receipts = Readonly<Record<string, { read: number; delivered: number }>>;

export function reached(message: Message, receipts: Receipts, me: string): Reached {
  if (message.state !== "sent" || message.seq === undefined) return message.state === "failed" ? "failed" : "pending";
  const { seq } = message;
  const others = Object.entries(receipts).filter(([user]) => user !== me);
  if (others.some(([, r]) => r.read >= seq)) return "read";
  return others.some(([, r]) => r.delivered >= seq) ? "delivered" : "sent";
}

/**
 * Where a list's first item stands among all that were ever shown of it, so that what is put before it moves nothing.
 * The window was replaced (`fresh`) when the item that was first is no longer there.
 */
export type Window = { first: number; firstKey: string; fresh: number };

/** Far enough from 0 for any number of items to be put before. */
const MIDDLE = 10_000_000;

export function slide(before: Window | undefined, items: readonly Item[]): Window {
  const firstKey = items[0]?.key ?? "";
  if (!before) return { first: MIDDLE, firstKey, fresh: 0 };
  if (before.firstKey === firstKey || before.firstKey === "") return { ...before, firstKey };
  const at = items.findIndex((i) => i.key === before.firstKey);
  if (at >= 0) return { ...before, first: before.first - at, firstKey };
  return { first: MIDDLE, firstKey, fresh: before.fresh + 1 };
}

