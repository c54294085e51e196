/** Web Push of this browser: whether it can, is allowed, is on; and turning it on and off. What arrives is the service worker's. */
import type { Rest } from "../../api/rest";

export type PushState = "unsupported" | "denied" | "off" | "on";

/** Longest wait for the service worker to be ready. */
const READY_MS = 5_000;

async function worker(): Promise<ServiceWorkerRegistration | undefined> {
  if (!("serviceWorker" in navigator)) return undefined;
  const late = new Promise<undefined>((resolve) => setTimeout(resolve, READY_MS));
  return Promise.race([navigator.serviceWorker.ready, late]);
}

export async function pushState(): Promise<PushState> {
  if (!("PushManager" in window) || !("Notification" in window)) return "unsupported";
  if (Notification.permission === "denied") return "denied";
  const registration = await worker();
  if (!registration) return "unsupported";
  return (await registration.pushManager.getSubscription()) ? "on" : "off";
}

/** Asks the browser, then tells the server where to. */
export async function subscribe(rest: Rest): Promise<void> {
  const { public_key } = await rest.vapid();
  if ((await Notification.requestPermission()) !== "granted") return;
  const registration = await worker();
  const made = await registration?.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: bytes(public_key) });
  const { endpoint, keys } = made?.toJSON() ?? {};
  if (!endpoint || !keys?.p256dh || !keys.auth) throw new Error("the browser gave no subscription");
  await rest.subscribePush({ endpoint, keys: { p256dh: keys.p256dh, auth: keys.auth } });
}

export async function unsubscribe(rest: Rest): Promise<void> {
  const registration = await worker();
  await (await registration?.pushManager.getSubscription())?.unsubscribe();
  await rest.unsubscribePush();
}

function bytes(base64url: string): Uint8Array<ArrayBuffer> {
  const text = atob(base64url.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(text, (c) => c.charCodeAt(0));
}

/** Takes the notifications of rooms away, or all: they were read, here or on another device. */
export async function withdraw(rooms?: ReadonlySet<string>): Promise<void> {
  const registration = await navigator.serviceWorker?.getRegistration();
  for (const shown of (await registration?.getNotifications()) ?? []) if (!rooms || rooms.has(shown.tag)) shown.close();
}

/** Signed out: nothing more is to arrive here, and nothing stays on the screen. */
export async function forgetPush(): Promise<void> {
  const registration = await navigator.serviceWorker?.getRegistration();
  await (await registration?.pushManager?.getSubscription())?.unsubscribe();
  await withdraw();
}
