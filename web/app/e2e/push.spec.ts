import type { CDPSession, Page } from "@playwright/test";
import { expect, Server, test } from "./support/app";
import { Socket } from "./support/socket";
import { Vendor } from "./support/vendor";

type Shown = { title: string; body: string; tag: string };

/** Pushes to the page's service worker as a push service would, through the browser's own hook. */
async function pusher(page: Page, origin: string) {
  const cdp: CDPSession = await page.context().newCDPSession(page);
  const ids = new Promise<string>((resolve) => {
    cdp.on("ServiceWorker.workerRegistrationUpdated", ({ registrations }: { registrations: { registrationId: string; scopeURL: string }[] }) => {
      const own = registrations.find((r) => r.scopeURL.startsWith(origin));
      if (own) resolve(own.registrationId);
    });
  });
  await cdp.send("ServiceWorker.enable");
  const registrationId = await ids;
  return (payload: object) => cdp.send("ServiceWorker.deliverPushMessage", { origin, registrationId, data: JSON.stringify(payload) });
}

const shown = (page: Page): Promise<Shown[]> =>
  page.evaluate(async () => (await (await navigator.serviceWorker.ready).getNotifications()).map(({ title, body, tag }) => ({ title, body, tag })));

test("a push is shown, grouped by room, opened by a click, and withdrawn when the room is read elsewhere", async ({ server, account, person }) => {
  const [a, b] = [await account("alice"), await account("bob")];
  const socket = await Socket.open(server, b);
  const room = await socket.create("group", [a], "Pushed");
  const alice = await person(a, { permissions: ["notifications"] });
  const { page } = alice;
  await expect(page.locator(".side .room")).toHaveCount(1);
  await page.evaluate(async () => {
    await navigator.serviceWorker.ready;
  });
  const push = await pusher(page, server.url);
  const payload = { id: "1", room, seq: 2, title: "Pushed", body: "bob: first", n: 1, unread: 1, user: a.user };

  await push(payload);
  await expect.poll(() => shown(page)).toEqual([{ title: "Pushed", body: "bob: first", tag: room }]);
  await push({ ...payload, id: "2", seq: 3, body: "bob: second", n: 2, unread: 2 });
  await expect.poll(() => shown(page)).toEqual([{ title: "Pushed (2)", body: "bob: first\nbob: second", tag: room }]);
  // The same again, as push services do.
  await push({ ...payload, id: "2", seq: 3, body: "bob: second", n: 2, unread: 2 });
  await push({ ...payload, id: "9", room: "99", seq: 1, title: "Other", body: "bob: elsewhere" });
  await expect.poll(async () => (await shown(page)).map((n) => n.title).sort()).toEqual(["Other", "Pushed (2)"]);

  await push({ ...payload, id: "3", seq: 3, unread: 0 });
  await expect.poll(async () => (await shown(page)).map((n) => n.title)).toEqual(["Other"]);

  // A click goes to the message, in the window that is open.
  await socket.say(room, ["clicked"]);
  await push({ ...payload, id: "4", seq: 2, unread: 1 });
  await expect.poll(async () => (await shown(page)).length).toBe(2);
  const worker = page.context().serviceWorkers()[0];
  await worker?.evaluate(async (tag) => {
    // In the worker, whose globals the page's types do not know.
    const scope = self as unknown as { registration: ServiceWorkerRegistration; dispatchEvent(e: Event): void; NotificationEvent: new (type: string, init: { notification: unknown }) => Event };
    const [notification] = await scope.registration.getNotifications({ tag });
    if (notification) scope.dispatchEvent(new scope.NotificationEvent("notificationclick", { notification }));
  }, room);
  await expect(page).toHaveURL(new RegExp(`/r/${room}/2$`));
  await expect(alice.message("clicked")).toBeVisible();

  // Reading it here takes what is shown of it away.
  await push({ ...payload, id: "5", seq: 50, unread: 1 });
  await socket.say(room, ["read at once"]);
  await page.bringToFront();
  await expect(alice.message("read at once")).toBeVisible();
  await expect.poll(async () => (await shown(page)).map((n) => n.title)).toEqual(["Other"]);
  socket.close();
});

test("what is said while nobody looks comes through the server's push provider to the service worker", async ({ person, name, strict }) => {
  // A picture as a page has no icon of its own.
  strict.expect(/favicon/);
  const server = await Server.start({ "outbound.allowed_ranges": "127.0.0.0/8", "push.delay_ms": "50", "push.interval_ms": "50", "push.show_text": "true" });
  const vendor = await Vendor.open();
  const [a, b] = [await server.register(name("alice")), await server.register(name("bob"))];
  const socket = await Socket.open(server, b);
  const room = await socket.create("direct", [a]);
  const { page } = await person(a, { server, vendor, permissions: ["notifications"] });
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByRole("button", { name: "Notifications" }).click();
  await page.getByRole("button", { name: "Turn on notifications" }).click();
  await expect(page.getByRole("button", { name: "Turn off on this device" })).toBeVisible();
  const push = await pusher(page, server.url);

  // A page of the same origin without the app: nobody is connected.
  await page.goto(`${server.url}/icon.svg`);
  await socket.say(room, ["are you there?"]);
  const told = (await vendor.next()) as { room: string };
  expect(told).toMatchObject({ room, user: a.user, title: b.name, unread: 1 });
  await push(told);
  await expect.poll(() => shown(page)).toEqual([{ title: b.name, body: "are you there?", tag: room }]);
  vendor.close();
  socket.close();
  await server.stop();
});
