/** People in the middle of a day's work, for pictures: who they are, what they are called, what they have said. */
import type { Account, Server } from "./server";
import { Socket } from "./socket";

type Talk = { who: Account; text: string; reply_to?: number; thread?: number; mentions?: string[] }[];

export async function world(server: Server) {
  const names = ["maya", "jonas", "amira", "tomek", "ines"] as const;
  const people = Object.fromEntries(await Promise.all(names.map(async (n) => [n, await server.register(n)] as const))) as Record<(typeof names)[number], Account>;
  const shown = { maya: "Maya Lindqvist", jonas: "Jonas Weber", amira: "Amira Haddad", tomek: "Tomek Nowak", ines: "Inês Duarte" };
  for (const n of names) await server.api("PATCH", "/v1/me", { display_name: shown[n] }, people[n].token).catch(() => undefined);
  const { maya, jonas, amira, tomek, ines } = people;
  for (const other of [jonas, amira, tomek]) await server.befriend(maya, other);
  const sockets = new Map<string, Socket>();
  for (const n of names) sockets.set(people[n].user, await Socket.open(server, people[n]));
  const of = (who: Account) => sockets.get(who.user) as Socket;
  const say = async (room: string, talk: Talk) => {
    for (const { who, ...m } of talk) {
      const { seq } = await of(who).once("send", { room, ...m });
      // Who writes has read what was there.
      await of(who).ask("cursor", { room, read: seq, delivered: seq });
    }
  };

  const release = await of(maya).create("group", [jonas, amira, tomek], "Release 2.4", "Ship on Thursday. Notes in the pinned message");
  const design = await of(maya).create("channel", [], "design", "What we show, and why");
  for (const who of [jonas, amira, ines]) await of(who).once("join", { room: design });
  const lunch = await of(tomek).create("group", [maya, jonas, ines], "Lunch");
  const withAmira = await of(amira).create("direct", [maya]);
  const withJonas = await of(jonas).create("direct", [maya]);

  await say(design, [
    { who: ines, text: "New spacing scale is in the file: `4 · 8 · 12 · 16 · 24`" },
    { who: amira, text: "Looks much calmer already" },
  ]);
  await say(lunch, [{ who: tomek, text: "Ramen or the new place by the canal?" }, { who: ines, text: "Canal! It is sunny" }]);
  await say(withJonas, [{ who: jonas, text: "Did the migration finish?" }, { who: maya, text: "Yes, 41 minutes, no errors 🎉" }]);
  await say(release, [
    { who: jonas, text: "Morning! Release checklist, please add what is missing:\n1. Migration dry run on a copy\n2. **Rollback** tested, not only written down\n3. Changelog reviewed" },
    { who: amira, text: "Dry run is done. The copy took 41 minutes, the index build is most of it." },
    { who: amira, text: "Numbers:\n```\nrows        18,204,113\ncopy            38m 12s\nindex            2m 49s\n```" },
    { who: maya, text: "That fits into the window. I will do the rollback test this afternoon." },
    { who: tomek, text: "> Changelog reviewed\nDone for the API part, two entries were missing. Rest is yours @maya", mentions: [maya.user] },
    { who: jonas, text: "Perfect. Who watches the dashboards on Thursday?", reply_to: 3 },
    { who: maya, text: "I do, and Amira from six on" },
    { who: amira, text: "Confirmed 👍" },
  ]);
  await of(tomek).once("react", { room: release, seq: 5, emoji: "👍", on: true });
  await of(jonas).once("react", { room: release, seq: 5, emoji: "👍", on: true });
  await of(amira).once("react", { room: release, seq: 5, emoji: "🙏", on: true });
  await of(jonas).once("react", { room: release, seq: 3, emoji: "🚀", on: true });
  await of(maya).once("react", { room: release, seq: 3, emoji: "🚀", on: true });
  await of(maya).once("pin", { room: release, seq: 2, on: true });
  await say(release, [
    { who: jonas, text: "Which rollback do we test, schema or binary?", thread: 5 },
    { who: maya, text: "Both. Schema first, it is the slow one.", thread: 5 },
    { who: jonas, text: "Good. Ping me when you start, I want to watch." , thread: 5 },
  ]);
  await say(withAmira, [{ who: amira, text: "هل أنتِ متفرغة غدًا صباحًا؟" }, { who: maya, text: "نعم، بعد العاشرة" }, { who: amira, text: "ممتاز، نراجع معًا خطة الإصدار **2.4**" }, { who: maya, text: "سأحضر الأرقام 📊" }]);
  await say(lunch, [{ who: tomek, text: "Table for four at 12:30, done" }]);
  await say(design, [{ who: ines, text: "Can you look at the empty states, @maya?", mentions: [maya.user] }]);
  return { people, rooms: { release, design, lunch, withAmira, withJonas } };
}
