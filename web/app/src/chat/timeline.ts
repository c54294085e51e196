/** A room's messages for the list: the client's window, woven together with what happened and what is on its way. */
import type { Client, Timeline as Held } from "@hubbub/client";
import type { Rest } from "../api/rest";
import type { Timeline, TimelineView } from "./chat";
import { paced } from "./paced";
import { weave } from "./view";

const NOTHING: TimelineView = { items: [], atStart: false, atEnd: true, loading: true, error: null, receipts: {} };

/** Longest wait for the first messages before it is said that there are none to be had. */
const FIRST_MS = 10_000;

/** Opens when somebody looks, closes when nobody does. */
export function timeline(client: Client, rest: Rest, room: string, me: string): Timeline {
  const listeners = new Set<() => void>();
  let held: Held | undefined;
  let stops: (() => void)[] = [];
  let view: TimelineView | undefined;
  let late = false;
  const receipts = merged();
  let asked: Receipts = {};
  // What moved while one was away is not told afterwards: it is asked for, whenever one has come back.
  const askReceipts = () =>
    rest.receipts(room).then(
      ({ items }) => {
        asked = Object.fromEntries(items.map(({ user, read, delivered }) => [user, { read, delivered }]));
        changed();
      },
      () => undefined, // Ticks say less until the next time.
    );

  const make = (): TimelineView => {
    if (!held) return NOTHING;
    const { messages, pending, hasBefore, hasAfter, loading, error } = held.get();
    const about = client.room(room);
    const items = weave(messages, about?.happenings ?? [], pending, me, !hasAfter, !hasBefore);
    const waits = items.length === 0 && hasBefore && !error && !late;
    return {
      items,
      atStart: !hasBefore,
      atEnd: !hasAfter,
      loading: loading !== undefined || waits,
      error: error ? error.message : waits || items.length > 0 || !hasBefore ? null : offline,
      receipts: receipts(asked, about?.receipts ?? NOTHING.receipts),
    };
  };
  const offline = "offline";
  const changed = () => {
    view = undefined;
    for (const l of [...listeners]) l();
  };
  const idle = () =>
    new Promise<void>((resolve) => {
      const look = () => {
        if (held?.get().loading) return;
        listeners.delete(look);
        resolve();
      };
      listeners.add(look);
      look();
    });
  const open = () => {
    held = client.timeline(room);
    const timer = setTimeout(() => {
      late = true;
      changed();
    }, FIRST_MS);
    const soon = paced(changed);
    stops = [held.subscribe(soon), client.watch(`room:${room}`, soon), client.on("caughtup", () => void askReceipts()), () => clearTimeout(timer)];
    if (client.status.caughtUp) void askReceipts();
    view = undefined;
  };
  return {
    subscribe(listener) {
      if (listeners.size === 0 && !held) open();
      listeners.add(listener);
      return () => {
        listeners.delete(listener);
        // React unsubscribes and subscribes again in one go: only who stays away is gone.
        queueMicrotask(() => {
          if (listeners.size > 0 || !held) return;
          for (const stop of stops) stop();
          held.close();
          held = undefined;
          view = undefined;
        });
      };
    },
    view: () => (view ??= make()),
    async show(around) {
      if (!held) open();
      if (around === undefined) return held?.jumpToLatest();
      // A timeline reads one page at a time, and begins with the newest one by itself.
      await idle();
      await held?.jumpTo(around);
    },
    async older() {
      const before = held?.get();
      if (before?.hasBefore && !before.loading) await held?.loadBefore(PAGE);
    },
    async newer() {
      const before = held?.get();
      if (before?.hasAfter && !before.loading) await held?.loadAfter(PAGE);
    },
  };
}

type Receipts = TimelineView["receipts"];

/** The farther of what was asked for and what was told since; the same object for the same two. */
function merged(): (asked: Receipts, told: Receipts) => Receipts {
  let last: { asked: Receipts; told: Receipts; both: Receipts } | undefined;
  return (asked, told) => {
    if (last?.asked === asked && last.told === told) return last.both;
    const both = { ...asked };
    for (const [user, { read, delivered }] of Object.entries(told)) {
      const before = asked[user] ?? { read: 0, delivered: 0 };
      both[user] = { read: Math.max(read, before.read), delivered: Math.max(delivered, before.delivered) };
    }
    last = { asked, told, both };
    return both;
  };
}

/** Messages that are read at once while one scrolls. */
const PAGE = 100;
