/** Notifications of this browser: asking for them, and giving them up. */
import { useEffect, useState } from "react";
import { explain } from "../../app/errors";
import { useChat } from "../../chat/context";
import { Button, Notice } from "../../design/controls";
import { useT } from "../../i18n";
import { pushState, type PushState, subscribe, unsubscribe } from "../push/push";

export function Notifications() {
  const t = useT();
  const chat = useChat();
  const [state, setState] = useState<PushState | null>(null);
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    void pushState().then(setState);
  }, []);
  const set = async (on: boolean) => {
    setBusy(true);
    setError("");
    try {
      await (on ? subscribe(chat.rest) : unsubscribe(chat.rest));
    } catch (e) {
      setError(explain(e, t));
    }
    setState(await pushState());
    setBusy(false);
  };
  return (
    <>
      <p className="note">{t("push.what")}</p>
      {error && <Notice kind="bad">{error}</Notice>}
      {state === "unsupported" && <Notice>{t("push.unsupported")}</Notice>}
      {state === "denied" && <Notice>{t("push.denied")}</Notice>}
      {state === "off" && <div className="button-row"><Button kind="primary" icon="bell" busy={busy} onClick={() => void set(true)}>{t("push.on")}</Button></div>}
      {state === "on" && <div className="button-row"><Button icon="bellOff" busy={busy} onClick={() => void set(false)}>{t("push.off")}</Button></div>}
      <p className="note">{t("push.levels")}</p>
    </>
  );
}
