/** How one is shown to others, and signing out. */
import { type FormEvent, useState } from "react";
import { explain, useSay } from "../../app/errors";
import { useLoad } from "../../app/load";
import { Loading } from "../../app/Loading";
import { useAppDispatch, useAppSelector } from "../../app/store";
import { toasted } from "../../app/ui";
import { useChat } from "../../chat/context";
import { Button, Field, Notice, Select } from "../../design/controls";
import { useT } from "../../i18n";
import { profilesLearnt } from "../people/slice";

const STATES = ["online", "away", "busy"] as const;

export function ProfileForm() {
  const t = useT();
  const chat = useChat();
  const dispatch = useAppDispatch();
  const [me, again] = useLoad(() => chat.rest.me(), [chat]);
  const say = useSay();
  const told = useAppSelector((s) => s.people.presence[chat.me.user]?.state);
  const presence = told === "away" || told === "busy" ? told : "online";
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const save = async (e: FormEvent<HTMLFormElement>) => {
    e.preventDefault();
    const data = new FormData(e.currentTarget);
    const text = (name: string) => String(data.get(name) ?? "").trim();
    setBusy(true);
    setError("");
    try {
      dispatch(profilesLearnt([await chat.rest.updateMe({ display_name: text("display_name"), status: text("status") })]));
      dispatch(toasted(t("saved")));
    } catch (failure) {
      setError(explain(failure, t));
    }
    setBusy(false);
  };
  return (
    <>
      <Loading of={me} again={again}>
        {(mine) => (
          <form className="door-form" onSubmit={(e) => void save(e)}>
            {error && <Notice kind="bad">{error}</Notice>}
            <p className="note">{t("profile.account", { name: mine.name })}</p>
            <Field label={t("profile.shown")} hint={t("profile.shownHint")} name="display_name" defaultValue={mine.display_name ?? ""} maxLength={100} />
            <Field label={t("profile.status")} hint={t("profile.statusHint")} name="status" defaultValue={mine.status ?? ""} maxLength={140} />
            <div className="button-row"><Button kind="primary" type="submit" busy={busy}>{t("save")}</Button></div>
          </form>
        )}
      </Loading>
      <Select label={t("profile.presence")} value={presence} options={STATES.map((value) => ({ value, label: t(`presence.${value}`) }))} onChange={(to) => void chat.presence(to).catch(say)} />
      <hr className="rule" />
      <div className="button-row">
        <Button kind="danger" icon="leave" onClick={() => void chat.account.signOut()}>{t("profile.signOut")}</Button>
      </div>
    </>
  );
}
