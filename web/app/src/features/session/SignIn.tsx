/** Signing in and up, the second factor, a forgotten password: what one sees before anything else, and so kept small. */
import { type FormEvent, type ReactNode, useState } from "react";
import { HubbubError, MfaRequired } from "@hubbub/client/rest";
import { type Account, deviceName } from "../../api/auth";
import { explain } from "../../app/errors";
import { go } from "../../app/navigate";
import { useAppSelector } from "../../app/store";
import { Button, Field, Notice } from "../../design/controls";
import { type Key, useT } from "../../i18n";

type Step = { at: "in" } | { at: "up" } | { at: "mfa"; token: string } | { at: "forgot" } | { at: "reset"; token: string } | { at: "verify"; token: string };

/** Shortest password that the server takes. */
const PASSWORD_MIN = 8;

const ENDED: Record<string, Key> = { signed_out: "ended.signedOut", token_revoked: "ended.revoked", token_expired: "ended.expired", unauthorized: "ended.expired", deleted: "ended.deleted" };

export function SignIn({ account }: { account: Account }) {
  const t = useT();
  const place = useAppSelector((s) => s.ui.place);
  const ended = useAppSelector((s) => s.session.ended);
  const [step, setStep] = useState<Step>(place.at === "reset" || place.at === "verify" ? place : { at: "in" });
  return (
    <main className="door">
      <div className="door-card">
        <header className="door-head">
          <img src="/icon.svg" alt="" width="44" height="44" />
          <h1>{t(`door.${step.at}`)}</h1>
          {place.at === "invite" && <p className="note">{t("door.invited")}</p>}
        </header>
        {ended && step.at === "in" && <Notice>{t(ENDED[ended] ?? "ended.expired")}</Notice>}
        {show()}
      </div>
    </main>
  );

  function show() {
    switch (step.at) {
      case "in":
        return <In account={account} onStep={setStep} />;
      case "up":
        return <Up account={account} onStep={setStep} />;
      case "mfa":
        return <Mfa token={step.token} account={account} onStep={setStep} />;
      case "forgot":
        return <Forgot account={account} onStep={setStep} />;
      case "reset":
        return <Reset token={step.token} account={account} onStep={setStep} />;
      case "verify":
        return <Verify token={step.token} account={account} onStep={setStep} />;
    }
  }
}

/** A form that can be sent once at a time and says what went wrong. */
function Form({ children, submit, label, onError }: { children: ReactNode; submit: (data: FormData) => Promise<void>; label: string; onError?: (e: unknown) => string | undefined }) {
  const t = useT();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const send = async (e: FormEvent<HTMLFormElement>) => {
    e.preventDefault();
    const data = new FormData(e.currentTarget);
    setBusy(true);
    setError("");
    try {
      await submit(data);
    } catch (failure) {
      setError(onError?.(failure) ?? explain(failure, t));
    }
    setBusy(false);
  };
  return (
    <form className="door-form" onSubmit={(e) => void send(e)}>
      {error && <Notice kind="bad">{error}</Notice>}
      {children}
      <Button kind="primary" type="submit" className="block" busy={busy}>
        {label}
      </Button>
    </form>
  );
}

const text = (data: FormData, name: string) => String(data.get(name) ?? "").trim();
type Props = { account: Account; onStep: (step: Step) => void };

function In({ account, onStep }: Props) {
  const t = useT();
  const submit = async (data: FormData) => {
    try {
      account.begin(await account.open.login({ name: text(data, "name"), password: String(data.get("password")), device: deviceName() }));
    } catch (e) {
      if (!(e instanceof MfaRequired)) throw e;
      onStep({ at: "mfa", token: e.mfaToken });
    }
  };
  return (
    <>
      <Form submit={submit} label={t("door.signIn")}>
        <Field label={t("door.name")} name="name" autoComplete="username" autoCapitalize="none" spellCheck={false} required autoFocus />
        <Field label={t("door.password")} name="password" type="password" autoComplete="current-password" required />
      </Form>
      <p className="door-foot">
        <button type="button" onClick={() => onStep({ at: "up" })}>{t("door.toUp")}</button>
        <button type="button" onClick={() => onStep({ at: "forgot" })}>{t("door.toForgot")}</button>
      </p>
    </>
  );
}

function Up({ account, onStep }: Props) {
  const t = useT();
  const submit = async (d: FormData) => {
    const email = text(d, "email");
    account.begin(await account.open.register({ name: text(d, "name"), password: String(d.get("password")), device: deviceName(), ...(email ? { email } : {}) }));
  };
  const taken = (e: unknown) => (!(e instanceof HubbubError) ? undefined : e.code === "conflict" ? t("door.taken") : e.code === "forbidden" ? t("door.closed") : undefined);
  return (
    <>
      <Form submit={submit} label={t("door.signUp")} onError={taken}>
        <Field label={t("door.name")} name="name" hint={t("door.nameHint")} autoComplete="username" autoCapitalize="none" spellCheck={false} required autoFocus />
        <Field label={t("door.password")} name="password" type="password" hint={t("door.passwordHint", { count: PASSWORD_MIN })} autoComplete="new-password" minLength={PASSWORD_MIN} required />
        <Field label={t("door.email")} name="email" type="email" hint={t("door.emailHint")} autoComplete="email" />
      </Form>
      <Back onStep={onStep} />
    </>
  );
}

function Mfa({ token, account, onStep }: Props & { token: string }) {
  const t = useT();
  return (
    <>
      <Form submit={async (d) => account.begin(await account.open.loginMfa({ mfa_token: token, code: text(d, "code").replaceAll(" ", ""), device: deviceName() }))} label={t("door.signIn")}>
        <Field label={t("door.code")} name="code" hint={t("door.codeHint")} autoComplete="one-time-code" autoCapitalize="none" spellCheck={false} required autoFocus />
      </Form>
      <Back onStep={onStep} />
    </>
  );
}

function Forgot({ account, onStep }: Props) {
  const t = useT();
  const [sent, setSent] = useState(false);
  return (
    <>
      {sent ? (
        <Notice>{t("door.forgotSent")}</Notice>
      ) : (
        <Form submit={async (d) => account.open.forgotPassword({ name: text(d, "name") }).then(() => setSent(true))} label={t("door.sendLink")}>
          <Field label={t("door.name")} name="name" autoComplete="username" autoCapitalize="none" required autoFocus />
        </Form>
      )}
      <Back onStep={onStep} />
    </>
  );
}

function Reset({ token, account, onStep }: Props & { token: string }) {
  const t = useT();
  const submit = async (d: FormData) => {
    await account.open.resetPassword(token, String(d.get("password")));
    go({ at: "home" }, { replace: true });
    onStep({ at: "in" });
  };
  return (
    <>
      <Form submit={submit} label={t("door.setPassword")}>
        <Field label={t("door.newPassword")} name="password" type="password" hint={t("door.passwordHint", { count: PASSWORD_MIN })} autoComplete="new-password" minLength={PASSWORD_MIN} required autoFocus />
      </Form>
      <Back onStep={onStep} />
    </>
  );
}

function Verify({ token, account, onStep }: Props & { token: string }) {
  const t = useT();
  const [done, setDone] = useState(false);
  return (
    <>
      {done ? <Notice>{t("door.verified")}</Notice> : <Form submit={() => account.open.verifyEmail(token).then(() => setDone(true))} label={t("door.confirmEmail")}>{null}</Form>}
      <Back onStep={onStep} />
    </>
  );
}

function Back({ onStep }: Pick<Props, "onStep">) {
  const t = useT();
  const within = useAppSelector((s) => s.session.who !== null);
  const byMail = useAppSelector((s) => s.ui.place.at === "reset" || s.ui.place.at === "verify");
  const back = () => {
    // The link's token goes out of the address; who is signed in is inside then.
    if (byMail) go({ at: "home" }, { replace: true });
    onStep({ at: "in" });
  };
  return (
    <p className="door-foot">
      <button type="button" onClick={back}>{t(within ? "door.on" : "door.back")}</button>
    </p>
  );
}
