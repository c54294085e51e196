/** The service worker: started once, and what it says followed: a notification was clicked, so go to its room. */
import { go } from "../../app/navigate";
import { parse } from "../../app/routes";

/** Begins it. Without one (not https, or shut off) everything works but opening offline and notifications. */
export function startWorker() {
  if (!("serviceWorker" in navigator) || import.meta.env.DEV) return;
  navigator.serviceWorker.register("/sw.js", { scope: "/" }).catch(() => undefined);
}

export function followWorker(): () => void {
  if (!("serviceWorker" in navigator)) return () => undefined;
  const heard = ({ data }: MessageEvent<{ go?: string }>) => {
    if (typeof data?.go === "string") go(parse(data.go));
  };
  navigator.serviceWorker.addEventListener("message", heard);
  return () => navigator.serviceWorker.removeEventListener("message", heard);
}
