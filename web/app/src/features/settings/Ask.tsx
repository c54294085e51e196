/** A form of the settings: sent once at a time, emptied when it was taken, and it says what went wrong. */
import { type FormEvent, type ReactNode, useState } from "react";
import { explain } from "../../app/errors";
import { Button, Notice } from "../../design/controls";
import { useT } from "../../i18n";

export function Ask({ children, label, submit, kind = "primary" }: { children: ReactNode; label: string; submit: (data: FormData) => Promise<void>; kind?: "primary" | "danger" }) {
  const t = useT();
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const send = async (e: FormEvent<HTMLFormElement>) => {
    e.preventDefault();
    const form = e.currentTarget;
    setBusy(true);
    setError("");
    try {
      await submit(new FormData(form));
      form.reset();
    } catch (failure) {
      setError(explain(failure, t));
    }
    setBusy(false);
  };
  return (
    <form className="door-form" onSubmit={(e) => void send(e)}>
      {error && <Notice kind="bad">{error}</Notice>}
      {children}
      <div className="button-row"><Button kind={kind} type="submit" busy={busy}>{label}</Button></div>
    </form>
  );
}
