/** Errors in the words of the app: by code where there are better words than the server's, and always with a way out. */
import { useCallback } from "react";
import { type Key, type T, useT } from "../i18n";
import { useAppDispatch } from "./store";
import { toasted } from "./ui";

const WORDS: Partial<Record<string, Key>> = {
  unreachable: "error.offline",
  not_connected: "error.offline",
  bad_credentials: "error.badCredentials",
  rate_limited: "error.rateLimited",
  busy: "error.busy",
  unavailable: "error.busy",
  timeout: "error.busy",
  draining: "error.busy",
  forbidden: "error.forbidden",
  not_found: "error.notFound",
  log_unavailable: "error.readOnly",
  quota_exceeded: "error.readOnly",
  too_large: "error.tooLarge",
};

/** What to tell people about a failure. The server's own message is used where it says more than we could. */
export function explain(error: unknown, t: T): string {
  const code = hasCode(error) ? error.code : "";
  const key = WORDS[code];
  if (key) return t(key);
  return error instanceof Error && error.message ? error.message : t("error.unknown");
}

function hasCode(e: unknown): e is Error & { code: string } {
  return e instanceof Error && "code" in e && typeof e.code === "string";
}

/** Tells a failure in a toast; for what is done in passing. */
export function useSay() {
  const t = useT();
  const dispatch = useAppDispatch();
  return useCallback((error: unknown) => void dispatch(toasted(explain(error, t), "bad")), [t, dispatch]);
}
