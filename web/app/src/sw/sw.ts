/**
 * The service worker: the app's files without a network, and notifications of a closed page.
 *
 * It keeps the app's files and nothing else: no answer of the API, no message. Those are the client's, in its own storage. The page itself is
 * asked for from the network first, so that a new version is there with the next load; its files have hashed names and come from the cache.
 */
import { decide, type Kept, read } from "./notes";

declare const self: ServiceWorkerGlobalScope;

/** The files of this build, put in by `scripts/pack.mjs`. */
const FILES: string[] = JSON.parse("__FILES__");
const VERSION = "__VERSION__";
const PREFIX = "hubbub-";
const CACHE = PREFIX + VERSION;
/** Longest wait for the page from the network. */
const PAGE_MS = 3_000;

self.addEventListener("install", (e) => {
  e.waitUntil(
    (async () => {
      await (await caches.open(CACHE)).addAll(FILES.map((f) => new Request(f, { cache: f === "/" ? "no-cache" : "default" })));
      await self.skipWaiting();
    })(),
  );
});

self.addEventListener("activate", (e) => {
  e.waitUntil(
    (async () => {
      // The build before stays: tabs that were opened with it still load its files.
      const others = (await caches.keys()).filter((k) => k.startsWith(PREFIX) && k !== CACHE);
      await Promise.all(others.slice(0, -1).map((k) => caches.delete(k)));
      await self.clients.claim();
    })(),
  );
});

self.addEventListener("fetch", (e) => {
  const { request } = e;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== self.location.origin || url.pathname.startsWith("/v1/")) return;
  if (request.mode === "navigate") e.respondWith(page(request));
  else if (FILES.includes(url.pathname) || url.pathname.startsWith("/assets/")) e.respondWith(file(request));
});

async function page(request: Request): Promise<Response> {
  try {
    const response = await fetch(request, { signal: AbortSignal.timeout(PAGE_MS) });
    if (response.status < 500) return response;
  } catch {
    // Offline, or as good as.
  }
  return (await caches.match("/", { cacheName: CACHE })) ?? Response.error();
}

async function file(request: Request): Promise<Response> {
  return (await caches.match(request)) ?? fetch(request);
}

self.addEventListener("push", (e) => {
  let payload: ReturnType<typeof read>;
  try {
    payload = read(e.data?.json());
  } catch {
    payload = undefined; // Not ours.
  }
  if (payload) e.waitUntil(pushed(payload));
});

async function pushed(payload: NonNullable<ReturnType<typeof read>>) {
  const { room } = payload;
  const shown = await self.registration.getNotifications({ tag: room });
  const windows = await self.clients.matchAll({ type: "window" });
  const looking = windows.some((w) => w.focused && new URL(w.url).pathname.split("/")[2] === room);
  const deed = decide(payload, shown[0]?.data as Kept | undefined, looking);
  if (deed.do === "withdraw") return shown.forEach((n) => n.close());
  if (deed.do === "nothing") return;
  // `renotify` is not in every type library yet.
  const options = { body: deed.body || withoutText(), tag: room, renotify: true, icon: "/icon-192.png", badge: "/icon-192.png", data: deed.kept, dir: "auto" } as NotificationOptions;
  await self.registration.showNotification(deed.count > 1 ? `${deed.title} (${deed.count})` : deed.title, options);
}

/** Said where the server gives no text; the app's own words are not loaded here. */
function withoutText(): string {
  return self.navigator.language.startsWith("ar") ? "رسالة جديدة" : "New message";
}

self.addEventListener("notificationclick", (e) => {
  e.notification.close();
  const { room, seq } = e.notification.data as Kept;
  e.waitUntil(open(`/r/${room}/${seq}`));
});

/** Goes there in a window of the app that is open, else in a new one. */
async function open(path: string) {
  const windows = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  const window = windows.find((w) => w.focused) ?? windows[0];
  if (!window) return void (await self.clients.openWindow(path));
  window.postMessage({ go: path });
  await window.focus();
}
