/** Tells the server's moderators of a message that should not be there. */
import { type FormEvent, useState } from "react";
import { explain } from "../../app/errors";
import { useAppDispatch } from "../../app/store";
import { toasted } from "../../app/ui";
import { useChat } from "../../chat/context";
import { Button, Field, Notice } from "../../design/controls";
import { Dialog } from "../../design/Dialog";
import { useT } from "../../i18n";
import { Excerpt } from "./Excerpt";

export default function ReportMessage({ room, seq, onClose }: { room: string; seq: number; onClose: () => void }) {
  const t = useT();
  const chat = useChat();
  const dispatch = useAppDispatch();
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const report = async (e: FormEvent<HTMLFormElement>) => {
    e.preventDefault();
    const reason = String(new FormData(e.currentTarget).get("reason") ?? "").trim();
    setBusy(true);
    try {
      await chat.rest.report({ room, seq, reason });
      dispatch(toasted(t("report.done")));
      onClose();
    } catch (failure) {
      setError(explain(failure, t));
      setBusy(false);
    }
  };
  return (
    <Dialog title={t("report.title")} onClose={onClose}>
      <Excerpt room={room} seq={seq} />
      <form className="door-form" onSubmit={(e) => void report(e)}>
        {error && <Notice kind="bad">{error}</Notice>}
        <Field label={t("report.reason")} hint={t("report.hint")} name="reason" maxLength={500} required />
        <div className="button-row">
          <Button kind="danger" type="submit" busy={busy}>{t("report.send")}</Button>
          <Button onClick={onClose}>{t("cancel")}</Button>
        </div>
      </form>
    </Dialog>
  );
}
