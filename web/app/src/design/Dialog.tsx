/** A modal dialog on the browser's own `<dialog>`: focus stays inside, Escape closes it, focus returns to where it was. */
import { type ReactNode, useEffect, useId, useRef } from "react";
import { useT } from "../i18n";
import { IconButton } from "./controls";

export function Dialog({ title, onClose, children, wide, footer }: {
  title: string;
  onClose: () => void;
  children: ReactNode;
  wide?: boolean;
  footer?: ReactNode;
}) {
  const t = useT();
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const dialog = ref.current;
    const before = document.activeElement;
    if (dialog && !dialog.open) dialog.showModal();
    // The browser would take the button that closes it; whoever opens a dialog with a field wants to write, and
    // a question has its answer marked.
    dialog?.querySelector<HTMLElement>("input:not([type=checkbox], [type=radio]), [data-first]")?.focus();
    return () => {
      dialog?.close();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return (
    <dialog
      ref={ref}
      className={wide ? "dialog wide" : "dialog"}
      aria-labelledby={id}
      onCancel={(e) => {
        e.preventDefault();
        onClose();
      }}
      onMouseDown={(e) => {
        // The dialog itself is hit only on its backdrop: its content covers it.
        if (e.target === ref.current) onClose();
      }}
    >
      <div className="dialog-body">
        <header className="dialog-head">
          <h2 id={id}>{title}</h2>
          <IconButton icon="close" label={t("close")} onClick={onClose} />
        </header>
        <div className="dialog-main">{children}</div>
        {footer && <footer className="dialog-foot">{footer}</footer>}
      </div>
    </dialog>
  );
}
