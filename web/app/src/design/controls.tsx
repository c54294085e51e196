/** Buttons, fields and switches: the only form controls of the app. */
import { type ButtonHTMLAttributes, type InputHTMLAttributes, type ReactNode, type Ref, useId } from "react";
import { Icon, type IconName } from "./Icon";

type ButtonProps = ButtonHTMLAttributes<HTMLButtonElement> & {
  kind?: "primary" | "plain" | "danger" | "quiet";
  icon?: IconName;
  /** While it works: disabled for the pointer, said to screen readers. */
  busy?: boolean;
};

export function Button({ kind = "plain", icon, busy, children, className, type = "button", ...rest }: ButtonProps) {
  const classes = ["button", kind, className].filter(Boolean).join(" ");
  return (
    <button type={type} className={classes} aria-busy={busy || undefined} disabled={busy || rest.disabled} {...rest}>
      {icon && <Icon name={icon} small />}
      {children}
    </button>
  );
}

type IconButtonProps = ButtonHTMLAttributes<HTMLButtonElement> & {
  icon: IconName;
  label: string;
  /** Keys that do the same, shown beside the label. */
  keys?: string;
  ref?: Ref<HTMLButtonElement>;
};

export function IconButton({ icon, label, keys, className, type = "button", ...rest }: IconButtonProps) {
  const title = keys ? `${label} (${keys})` : label;
  return (
    <button type={type} className={["icon-button", className].filter(Boolean).join(" ")} aria-label={label} title={title} {...rest}>
      <Icon name={icon} />
    </button>
  );
}

type FieldProps = InputHTMLAttributes<HTMLInputElement> & {
  label: string;
  hint?: string | undefined;
  error?: string | undefined;
  ref?: Ref<HTMLInputElement>;
};

export function Field({ label, hint, error, ...rest }: FieldProps) {
  const id = useId();
  const note = error ?? hint;
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <input id={id} className="input" aria-invalid={error ? true : undefined} aria-describedby={note ? `${id}n` : undefined} {...rest} />
      {note && (
        <p id={`${id}n`} className={error ? "note bad" : "note"}>
          {note}
        </p>
      )}
    </div>
  );
}

export function Select<T extends string>({ label, value, options, onChange }: {
  label: string;
  value: T;
  options: readonly { value: T; label: string }[];
  onChange: (value: T) => void;
}) {
  const id = useId();
  return (
    <div className="field row">
      <label htmlFor={id}>{label}</label>
      <select id={id} className="input" value={value} onChange={(e) => onChange(e.target.value as T)}>
        {options.map((o) => (
          <option key={o.value} value={o.value}>
            {o.label}
          </option>
        ))}
      </select>
    </div>
  );
}

export function Check({ label, hint, checked, onChange }: { label: string; hint?: string; checked: boolean; onChange: (on: boolean) => void }) {
  const id = useId();
  return (
    <div className="check">
      <input id={id} type="checkbox" checked={checked} onChange={(e) => onChange(e.target.checked)} aria-describedby={hint ? `${id}n` : undefined} />
      <label htmlFor={id}>{label}</label>
      {hint && <p id={`${id}n`} className="note">{hint}</p>}
    </div>
  );
}

/** One sentence about what went wrong, with what to do about it beside it. */
export function Notice({ kind = "info", children, action }: { kind?: "info" | "bad"; children: ReactNode; action?: ReactNode }) {
  return (
    <div className={`notice ${kind}`} role={kind === "bad" ? "alert" : undefined}>
      <Icon name={kind === "bad" ? "warn" : "info"} small />
      <p>{children}</p>
      {action}
    </div>
  );
}

/** A list that is empty, and what to do then. */
export function Empty({ icon, title, children }: { icon: IconName; title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <Icon name={icon} />
      <p className="empty-title">{title}</p>
      {children}
    </div>
  );
}
