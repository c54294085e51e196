/** Password and the second factor. */
import { useState } from "react";
import { useLoad } from "../../app/load";
import { Loading } from "../../app/Loading";
import { useAppDispatch } from "../../app/store";
import { toasted } from "../../app/ui";
import { useChat } from "../../chat/context";
import { Button, Field, Notice } from "../../design/controls";
import { useT } from "../../i18n";
import { Ask } from "./Ask";

export function Security() {
  const t = useT();
  const chat = useChat();
  const dispatch = useAppDispatch();
  const [me, again] = useLoad(() => chat.rest.me(), [chat]);
  return (
    <>
      <h3>{t("security.password")}</h3>
      <Ask
        label={t("security.change")}
        submit={async (d) => {
          await chat.account.changePassword(String(d.get("old")), String(d.get("new")));
          dispatch(toasted(t("security.changed")));
        }}
      >
        <Field label={t("security.old")} name="old" type="password" autoComplete="current-password" required />
        <Field label={t("door.newPassword")} name="new" type="password" autoComplete="new-password" minLength={8} required hint={t("security.othersOut")} />
      </Ask>
      <hr className="rule" />
      <h3>{t("security.totp")}</h3>
      <Loading of={me} again={again}>{(mine) => (mine.totp ? <TotpOff onDone={again} /> : <TotpOn onDone={again} />)}</Loading>
    </>
  );
}

function TotpOn({ onDone }: { onDone: () => void }) {
  const t = useT();
  const chat = useChat();
  const [begun, setBegun] = useState<{ secret: string; uri: string } | null>(null);
  const [codes, setCodes] = useState<string[] | null>(null);
  if (codes) {
    return (
      <>
        <Notice>{t("security.keepCodes")}</Notice>
        <pre className="codes" tabIndex={0} dir="ltr">{codes.join("\n")}</pre>
        <div className="button-row"><Button kind="primary" onClick={onDone}>{t("security.kept")}</Button></div>
      </>
    );
  }
  if (begun) {
    return (
      <Ask label={t("security.confirm")} submit={async (d) => setCodes((await chat.rest.confirmTotp(String(d.get("code")).trim())).recovery_codes)}>
        <p className="note">{t("security.totpHow")}</p>
        <p><a href={begun.uri}>{t("security.openApp")}</a></p>
        <pre className="codes" tabIndex={0} dir="ltr">{begun.secret}</pre>
        <Field label={t("door.code")} name="code" autoComplete="one-time-code" required autoFocus />
      </Ask>
    );
  }
  return (
    <Ask label={t("security.totpOn")} submit={async (d) => setBegun(await chat.rest.totp(String(d.get("password"))))}>
      <p className="note">{t("security.totpWhat")}</p>
      <Field label={t("door.password")} name="password" type="password" autoComplete="current-password" required />
    </Ask>
  );
}

function TotpOff({ onDone }: { onDone: () => void }) {
  const t = useT();
  const chat = useChat();
  return (
    <Ask label={t("security.totpOff")} kind="danger" submit={async (d) => chat.rest.removeTotp(String(d.get("password")), String(d.get("code")).trim()).then(onDone)}>
      <Notice>{t("security.totpIsOn")}</Notice>
      <Field label={t("door.password")} name="password" type="password" autoComplete="current-password" required />
      <Field label={t("door.code")} name="code" autoComplete="one-time-code" required />
    </Ask>
  );
}
