/** Short words about what was just done or failed; they go by themselves, or by a click. */
import { useEffect } from "react";
import { useAppDispatch, useAppSelector } from "../../app/store";
import { type Toast, toastGone } from "../../app/ui";
import { Icon } from "../../design/Icon";
import { useT } from "../../i18n";

const STAYS_MS = { info: 3_500, bad: 8_000 };

export function Toasts() {
  const toasts = useAppSelector((s) => s.ui.toasts);
  return (
    <div className="toasts" role="status">
      {toasts.map((toast) => (
        <One key={toast.id} toast={toast} />
      ))}
    </div>
  );
}

function One({ toast }: { toast: Toast }) {
  const t = useT();
  const dispatch = useAppDispatch();
  useEffect(() => {
    const timer = setTimeout(() => dispatch(toastGone(toast.id)), STAYS_MS[toast.kind]);
    return () => clearTimeout(timer);
  }, [dispatch, toast]);
  return (
    <div className={`toast ${toast.kind}`}>
      <Icon name={toast.kind === "bad" ? "warn" : "check"} small />
      <span>{toast.text}</span>
      <button type="button" aria-label={t("close")} onClick={() => dispatch(toastGone(toast.id))}>
        <Icon name="close" small />
      </button>
    </div>
  );
}
