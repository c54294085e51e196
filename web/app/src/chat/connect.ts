/** Makes the conversation from the client library, and feeds the store from it. The only file that knows both. */
import { Client, type Shown, shown as fold } from "@hubbub/client";
import { offline } from "@hubbub/client/offline";
import type { Account, Who } from "../api/auth";
import type { Rest } from "../api/rest";
import type { Store } from "../app/store";
import { announced } from "../app/ui";
import { connectionChanged, waitingChanged } from "../features/connection/slice";
import { plain } from "../features/messages/markdown/parse";
import { called, contactsLearnt, presenceTold, presenceUnknown } from "../features/people/slice";
import { withdraw } from "../features/push/push";
import { levelsLearnt, roomsChanged } from "../features/rooms/slice";
import type { Chat, Timeline } from "./chat";
import { paced } from "./paced";
import { profiles } from "./profiles";
import { timeline } from "./timeline";
import { message, room as roomView } from "./view";
import type { T } from "../i18n";
import type { Message } from "./types";

/** Begins the conversation of who is signed in. */
export function connect(who: Who, account: Account, store: Store, say: () => T): Chat {
  const { rest } = account;
  const client = new Client({ url: location.origin, token: account.tokens.token, ...offline(`hubbub.${who.user}`) });
  const people = profiles(rest, store, who.user);
  const stop = feed(client, store, who, account, say);
  const open = new Map<string, Timeline>();
  client.connect();
  return {
    me: who,
    rest,
    account,
    timeline(room) {
      const known = open.get(room) ?? timeline(client, rest, room, who.user);
      open.set(room, known);
      return known;
    },
    async send(room, m) {
      const { text, replyTo, thread, mentions } = m;
      await client.send(room, { text, ...(replyTo === undefined ? {} : { reply_to: replyTo }), ...(thread === undefined ? {} : { thread }), ...(mentions ? { mentions } : {}) }).catch(shownAsFailed);
    },
    edit: async (room, seq, text, mentions) => void (await client.edit(room, seq, text, mentions)),
    remove: async (room, seq) => void (await client.delete(room, seq)),
    react: async (room, seq, emoji, on) => void (await client.react(room, seq, emoji, on)),
    pin: async (room, seq, on) => void (await client.pin(room, seq, on)),
    retry: async (_, key) => void (await client.retry(key).catch(shownAsFailed)),
    discard: async (_, key) => void client.discard(key),
    typing: (room, on) => client.setTyping(room, on),
    typists: (room) => ({ subscribe: (changed) => client.watch(`typing:${room}`, changed), get: () => client.typing(room) }),
    happened: (room) => ({ subscribe: (changed) => client.watch(`room:${room}`, changed), get: () => client.room(room)?.happenings.at(-1)?.seq ?? 0 }),
    read(room, seq) {
      client.markRead(room, seq);
      if (client.room(room)?.unread === 0) void withdraw(new Set([room]));
    },
    async thread(room, root) {
      const [first, answers] = await Promise.all([rest.message(room, root), rest.all((page) => rest.thread(room, root, page))]);
      return [first, ...answers].flatMap(messageOf);
    },
    pins: async (room) => (await rest.all((page) => rest.pins(room, page))).flatMap(messageOf),
    // Over HTTP: there, who was told of a change reads it.
    members: (room) => rest.all((page) => rest.members(room, { ...page, limit: MEMBERS_PAGE }), MEMBERS_MAX),
    async create(kind, name, members, topic) {
      const { room } = await client.create({ kind, members, ...(name === undefined ? {} : { name }), ...(topic === undefined ? {} : { topic }) });
      await until(client, room);
      return room;
    },
    async join(room) {
      await client.join(room);
      await arrive(client, room);
    },
    async accept(code) {
      const { room } = await rest.acceptInvite(code);
      await arrive(client, room);
      return room;
    },
    leave: async (room) => void (await client.leave(room)),
    invite: async (room, user) => void (await client.submit("invite", { room, user })),
    kick: async (room, user) => void (await client.submit("kick", { room, user })),
    ban: async (room, user) => void (await client.submit("ban", { room, user })),
    unban: async (room, user) => void (await client.submit("unban", { room, user })),
    mute: async (room, user, until) => void (await (until === null ? client.submit("unmute", { room, user }) : client.submit("mute", { room, user, ...(until === undefined ? {} : { until }) }))),
    transfer: async (room, user) => void (await client.submit("transfer", { room, user })),
    role: async (room, user, role) => void (await client.submit("role", { room, user, role })),
    update: async (room, change) => void (await client.submit("update", { room, ...change })),
    presence: (state, status) => client.setPresence({ state, ...(status === undefined ? {} : { status }) }),
    needProfiles: people.need,
    reconnect: () => client.nudge(),
    async close(forget = false) {
      stop();
      if (forget) await client.forget();
      else client.close();
    },
  };
}

/** Members that are listed at most; a channel may have any number. */
const MEMBERS_MAX = 3_000;
const MEMBERS_PAGE = 200;

function messageOf(shown: Shown): Message[] {
  const folded = fold(shown);
  return folded ? [message(folded)] : [];
}

/** A message that was refused is shown as such in its row; nothing more is to be said. */
function shownAsFailed(): void {}

/** Longest wait for a room that was just made or joined to be told of. */
const ROOM_MS = 5_000;

function until(client: Client, room: string): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      stop();
      clearTimeout(timer);
      resolve();
    };
    const stop = client.watch("rooms", () => client.room(room) && done());
    const timer = setTimeout(done, ROOM_MS);
    if (client.room(room)) done();
  });
}

/** One comes into a room that others have talked in: what was said before is history, and nothing that one has missed. */
async function arrive(client: Client, room: string): Promise<void> {
  await until(client, room);
  const head = client.room(room)?.head;
  if (head !== undefined) client.markRead(room, head);
}

/** Why the server takes a device no longer. */
const OVER: ReadonlySet<string> = new Set(["unauthorized", "token_revoked", "token_expired"]);

/** Tells the store what the client learns. Bursts become one dispatch: a frame's worth at most. */
function feed(client: Client, store: Store, who: Who, account: Account, say: () => T): () => void {
  const { dispatch } = store;
  const rest: Rest = account.rest;
  const unread = new Map<string, boolean>();
  const rooms = paced(() => {
    const all = client.rooms();
    const read = new Set(all.filter((r) => r.unread === 0 && unread.get(r.room) !== false).map((r) => r.room));
    for (const r of all) unread.set(r.room, r.unread > 0);
    if (read.size > 0) void withdraw(read);
    dispatch(roomsChanged(all.map(roomView)));
  });
  const presence = soon(() => {
    const users = [who.user, ...Object.keys(store.getState().people.contacts)];
    dispatch(presenceTold(users.flatMap((u) => client.presence(u) ?? [])));
  });
  const status = () => {
    const { state, caughtUp, error } = client.status;
    // Closed for good by the server: the token is no longer taken, and another is not to be had.
    if (state === "closed" && error && OVER.has(error.code)) return account.over(error.code);
    dispatch(connectionChanged({ state: state === "disconnected" ? "offline" : state, caughtUp }));
    if (state !== "connected") dispatch(presenceUnknown());
  };
  const outbox = paced(() => dispatch(waitingChanged(client.outbox().filter((item) => item.op === "send" && !item.error).length)));
  const contacts = () =>
    rest.all((page) => rest.contacts(page)).then(
      (all) => {
        dispatch(contactsLearnt(all));
        presence();
      },
      () => undefined, // The page of contacts says so when it is opened; elsewhere nothing is missing.
    );
  const levels = () =>
    rest.all((page) => rest.rooms(page)).then(
      (all) => void dispatch(levelsLearnt(all.map(({ room, notify }) => ({ room, level: notify.level })))),
      () => undefined, // Rooms are shown as if none were muted; each one's panel asks for itself.
    );
  let asked = 0;
  const returned = () => {
    // Somebody may have asked to be a contact: that is not told over the socket.
    if (document.visibilityState !== "visible" || Date.now() - asked < CONTACTS_EVERY_MS) return;
    asked = Date.now();
    void contacts();
  };
  document.addEventListener("visibilitychange", returned);
  addEventListener("focus", returned);
  const stops = [
    () => document.removeEventListener("visibilitychange", returned),
    () => removeEventListener("focus", returned),
    // One is told only of contacts: who is told of first has just become one.
    client.on("presence", ({ user }) => {
      if (user !== who.user && store.getState().people.contacts[user] !== "accepted") void contacts();
    }),
    client.watch("rooms", rooms),
    client.watch("presence", presence),
    client.watch("status", status),
    client.watch("outbox", outbox),
    client.on("caughtup", () => {
      void contacts();
      void levels();
    }),
    client.on("entry", ({ entry, live }) => {
      if (live) arrived(store, who, entry, say());
    }),
  ];
  void client.ready.then(() => {
    rooms();
    outbox();
    status();
  });
  return () => stops.forEach((stop) => stop());
}

/** Contacts are read again when one comes back to the page, at most so often. */
const CONTACTS_EVERY_MS = 30_000;

/** Says a message of another in the open room to screen readers, when somebody is there to hear it. */
function arrived(store: Store, who: Who, entry: { room: string; by: string; body: { message?: { text: string } } }, t: T) {
  const { place } = store.getState().ui;
  const { message } = entry.body;
  if (!message || entry.by === who.user || place.at !== "room" || place.room !== entry.room) return;
  const name = called(store.getState().people.byId[entry.by], "");
  store.dispatch(announced(t("announce.message", { name, text: plain(message.text) })));
}

/** Runs at most once until the page has a moment, however often it is called. */
function soon(run: () => void): () => void {
  let waits = false;
  return () => {
    if (waits) return;
    waits = true;
    queueMicrotask(() => {
      waits = false;
      run();
    });
  };
}

