/** The account itself: its e-mail address, a copy of everything of one's own, and its end. */
import { useState } from "react";
import { useSay } from "../../app/errors";
import { useLoad } from "../../app/load";
import { Loading } from "../../app/Loading";
import type { Me } from "../../api/rest";
import { useChat } from "../../chat/context";
import { Button, Field, Notice } from "../../design/controls";
import { useT } from "../../i18n";
import { Ask } from "./Ask";

export function Account() {
  const t = useT();
  const chat = useChat();
  const [me, again] = useLoad(() => chat.rest.me(), [chat]);
  return (
    <>
      <h3>{t("account.email")}</h3>
      <Loading of={me} again={again}>{(mine) => <Email me={mine} onChange={again} />}</Loading>
      <hr className="rule" />
      <h3>{t("account.export")}</h3>
      <Export />
      <hr className="rule" />
      <h3>{t("account.delete")}</h3>
      <Loading of={me} again={again}>{(mine) => <Farewell totp={mine.totp} onRefused={again} />}</Loading>
    </>
  );
}

/** `onRefused`: the second step may have been turned on, or off, elsewhere since. */
export function Farewell({ totp, onRefused }: { totp: boolean; onRefused: () => void }) {
  const t = useT();
  const chat = useChat();
  const submit = async (d: FormData) => {
    try {
      await chat.account.delete(String(d.get("password")), totp ? String(d.get("code")).replaceAll(" ", "") : undefined);
    } catch (e) {
      onRefused();
      throw e;
    }
  };
  return (
    <Ask label={t("account.delete")} kind="danger" submit={submit}>
      <p className="note">{t("account.deleteHint")}</p>
      <Field label={t("door.password")} name="password" type="password" autoComplete="current-password" required />
      {totp && <Field label={t("door.code")} name="code" hint={t("door.codeHint")} autoComplete="one-time-code" autoCapitalize="none" spellCheck={false} required />}
    </Ask>
  );
}

function Email({ me, onChange }: { me: Me; onChange: () => void }) {
  const t = useT();
  const chat = useChat();
  const [sent, setSent] = useState(false);
  return (
    <>
      {me.email && <p dir="auto">{me.email} <span className="note">{t(me.email_verified ? "account.confirmed" : "account.unconfirmed")}</span></p>}
      {sent && <Notice>{t("account.linkSent")}</Notice>}
      <Ask
        label={t(me.email ? "account.changeEmail" : "account.addEmail")}
        submit={async (d) => {
          await chat.rest.setEmail(String(d.get("email")).trim(), String(d.get("password")));
          setSent(true);
          onChange();
        }}
      >
        <Field label={t("account.address")} name="email" type="email" autoComplete="email" required hint={t("door.emailHint")} />
        <Field label={t("door.password")} name="password" type="password" autoComplete="current-password" required />
      </Ask>
      {me.email && (
        <Ask label={t("account.removeEmail")} kind="danger" submit={(d) => chat.rest.removeEmail(String(d.get("password"))).then(onChange)}>
          <Field label={t("door.password")} name="password" type="password" autoComplete="current-password" required />
        </Ask>
      )}
    </>
  );
}

function Export() {
  const t = useT();
  const chat = useChat();
  const say = useSay();
  const [busy, setBusy] = useState(false);
  const save = async () => {
    setBusy(true);
    try {
      const all = await chat.rest.exportMe();
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([JSON.stringify(all, null, 2)], { type: "application/json" }));
      link.download = `hubbub-${chat.me.name}.json`;
      link.click();
      URL.revokeObjectURL(link.href);
    } catch (e) {
      say(e);
    }
    setBusy(false);
  };
  return (
    <>
      <p className="note">{t("account.exportHint")}</p>
      <div className="button-row"><Button icon="archive" busy={busy} onClick={() => void save()}>{t("account.exportNow")}</Button></div>
    </>
  );
}
