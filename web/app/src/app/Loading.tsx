/** What is shown of something that is being read: a line that moves, the thing, or what went wrong with a way to try again. */
import type { ReactNode } from "react";
import { Button, Notice } from "../design/controls";
import { useT } from "../i18n";
import { explain } from "./errors";
import type { Loaded } from "./load";

export function Loading<V>({ of, again, children }: { of: Loaded<V>; again: () => void; children: (value: V) => ReactNode }) {
  const t = useT();
  switch (of.state) {
    case "loading":
      return <div className="busy-line" role="progressbar" aria-label={t("loading")} />;
    case "failed":
      return (
        <Notice kind="bad" action={<Button kind="quiet" icon="retry" onClick={again}>{t("retry")}</Button>}>
          {explain(of.error, t)}
        </Notice>
      );
    case "there":
      return <>{children(of.value)}</>;
  }
}
