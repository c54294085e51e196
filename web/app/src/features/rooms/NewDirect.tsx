/** Begins a direct room: with a contact, or with whoever has a name. */
import { type FormEvent, useState } from "react";
import { explain } from "../../app/errors";
import { go } from "../../app/navigate";
import { useAppDispatch, useAppSelector } from "../../app/store";
import { useChat } from "../../chat/context";
import { Avatar } from "../../design/Avatar";
import { Button, Field } from "../../design/controls";
import { Dialog } from "../../design/Dialog";
import { useT } from "../../i18n";
import { called, profilesLearnt } from "../people/slice";

export default function NewDirect({ onClose }: { onClose: () => void }) {
  const t = useT();
  const chat = useChat();
  const dispatch = useAppDispatch();
  const contacts = useAppSelector((s) => s.people.contacts);
  const byId = useAppSelector((s) => s.people.byId);
  const presence = useAppSelector((s) => s.people.presence);
  const [name, setName] = useState("");
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const wanted = name.trim().replace(/^@/, "").toLocaleLowerCase();
  const fits = Object.keys(contacts).filter((u) => contacts[u] === "accepted" && `${byId[u]?.name} ${byId[u]?.display_name ?? ""}`.toLocaleLowerCase().includes(wanted));
  const open = async (find: () => Promise<string>) => {
    setBusy(true);
    setError("");
    try {
      const room = await chat.create("direct", undefined, [await find()]);
      onClose();
      go({ at: "room", room });
    } catch (e) {
      setError(explain(e, t));
      setBusy(false);
    }
  };
  const submit = (e: FormEvent) => {
    e.preventDefault();
    void open(async () => {
      const found = await chat.rest.userByName(wanted);
      dispatch(profilesLearnt([found]));
      return found.user;
    });
  };
  return (
    <Dialog title={t("new.direct")} onClose={onClose}>
      <form className="door-form" onSubmit={submit}>
        <Field label={t("new.who")} hint={t("new.whoHint")} error={error || undefined} value={name} onChange={(e) => setName(e.target.value)} autoFocus autoCapitalize="none" spellCheck={false} required />
        <Button kind="primary" type="submit" busy={busy}>{t("new.open")}</Button>
      </form>
      {fits.length > 0 && (
        <section>
          <h3 className="section">{t("people.contacts")}</h3>
          <ul className="lines">
            {fits.slice(0, 20).map((user) => {
              const shown = called(byId[user], "…");
              return (
                <li key={user}>
                  <button type="button" className="line line-main" onClick={() => void open(() => Promise.resolve(user))}>
                    <Avatar id={user} name={shown} picture={byId[user]?.avatar_url} presence={presence[user]?.state ?? "offline"} />
                    <bdi className="line-name">{shown}</bdi>
                  </button>
                </li>
              );
            })}
          </ul>
        </section>
      )}
    </Dialog>
  );
}
