/** Makes a group or a channel. */
import { type FormEvent, useState } from "react";
import { explain } from "../../app/errors";
import { go } from "../../app/navigate";
import { useAppSelector } from "../../app/store";
import { useChat } from "../../chat/context";
import { Button, Check, Field, Notice } from "../../design/controls";
import { Dialog } from "../../design/Dialog";
import { useT } from "../../i18n";
import { called } from "../people/slice";

export default function NewRoom({ onClose }: { onClose: () => void }) {
  const t = useT();
  const chat = useChat();
  const contacts = useAppSelector((s) => s.people.contacts);
  const byId = useAppSelector((s) => s.people.byId);
  const [kind, setKind] = useState<"group" | "channel">("group");
  const [members, setMembers] = useState<ReadonlySet<string>>(new Set());
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const submit = async (e: FormEvent<HTMLFormElement>) => {
    e.preventDefault();
    const data = new FormData(e.currentTarget);
    const text = (name: string) => String(data.get(name) ?? "").trim();
    setBusy(true);
    try {
      const room = await chat.create(kind, text("name"), [...members], text("topic") || undefined);
      onClose();
      go({ at: "room", room });
    } catch (failure) {
      setError(explain(failure, t));
      setBusy(false);
    }
  };
  const toggle = (user: string, on: boolean) => {
    const next = new Set(members);
    if (on) next.add(user);
    else next.delete(user);
    setMembers(next);
  };
  const known = Object.keys(contacts).filter((u) => contacts[u] === "accepted");
  return (
    <Dialog title={t("new.room")} onClose={onClose}>
      <form className="door-form" onSubmit={(e) => void submit(e)}>
        {error && <Notice kind="bad">{error}</Notice>}
        <div className="choice" role="radiogroup" aria-label={t("new.kind")}>
          {(["group", "channel"] as const).map((k) => (
            <label key={k} className={kind === k ? "choice-one chosen" : "choice-one"}>
              <input type="radio" name="kind" value={k} checked={kind === k} onChange={() => setKind(k)} />
              <strong>{t(`kind.${k}`)}</strong>
              <span className="note">{t(`kind.${k}Hint`)}</span>
            </label>
          ))}
        </div>
        <Field label={t("new.name")} name="name" maxLength={100} required autoFocus />
        <Field label={t("new.topic")} name="topic" maxLength={1000} />
        {known.length > 0 && (
          <fieldset className="fieldset">
            <legend>{t("new.members")}</legend>
            {known.map((u) => <Check key={u} label={called(byId[u], "…")} checked={members.has(u)} onChange={(on) => toggle(u, on)} />)}
          </fieldset>
        )}
        <Button kind="primary" type="submit" busy={busy}>{t("new.create")}</Button>
      </form>
    </Dialog>
  );
}
