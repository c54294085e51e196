/** Something read from the server for as long as it is shown: loading, there, or failed with a way to try again. */
import { useCallback, useEffect, useRef, useState } from "react";

export type Loaded<V> = { state: "loading" } | { state: "there"; value: V } | { state: "failed"; error: unknown };

/** Reads once for each set of `keys`. The old value stays until the new one is there. */
export function useLoad<V>(read: () => Promise<V>, keys: readonly unknown[]): [Loaded<V>, () => void] {
  const [loaded, setLoaded] = useState<Loaded<V>>({ state: "loading" });
  const [again, setAgain] = useState(0);
  const latest = useRef(read);
  latest.current = read;
  useEffect(() => {
    let current = true;
    setLoaded((l) => (l.state === "failed" ? { state: "loading" } : l));
    latest.current().then(
      (value) => current && setLoaded({ state: "there", value }),
      (error: unknown) => current && setLoaded({ state: "failed", error }),
    );
    return () => {
      current = false;
    };
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [...keys, again]);
  return [loaded, useCallback(() => setAgain((n) => n + 1), [])];
}
