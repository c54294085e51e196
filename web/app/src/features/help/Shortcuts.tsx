/** The sheet of keys. */
import { Fragment } from "react";
import { MAC } from "../../app/keys";
import { Dialog } from "../../design/Dialog";
import { type Key, useT } from "../../i18n";

const MOD = MAC ? "⌘" : "Ctrl";
const ALT = MAC ? "⌥" : "Alt";

const SHEET: { title: Key; keys: [string[], Key][] }[] = [
  {
    title: "shortcuts.everywhere",
    keys: [
      [[MOD, "K"], "shortcuts.switcher"],
      [[ALT, "↑ ↓"], "shortcuts.rooms"],
      [[ALT, "Shift", "↑ ↓"], "shortcuts.unread"],
      [["Esc"], "shortcuts.back"],
      [["?"], "shortcuts.sheet"],
    ],
  },
  {
    title: "shortcuts.writing",
    keys: [
      [["Enter"], "shortcuts.send"],
      [["Shift", "Enter"], "shortcuts.line"],
      [["↑"], "shortcuts.editLast"],
      [["@"], "shortcuts.mention"],
      [["Shift", "Tab"], "shortcuts.toMessages"],
    ],
  },
  {
    title: "shortcuts.message",
    keys: [
      [["↑ ↓"], "shortcuts.move"],
      [["R"], "action.reply"],
      [["T"], "action.thread"],
      [["+"], "action.react"],
      [["E"], "action.edit"],
      [["C"], "action.copyLink"],
      [["Delete"], "action.delete"],
      [["Enter"], "action.more"],
    ],
  },
];

export default function Shortcuts({ onClose }: { onClose: () => void }) {
  const t = useT();
  return (
    <Dialog title={t("shortcuts.title")} onClose={onClose} wide>
      <div className="sheet">
        {SHEET.map(({ title, keys }) => (
          <section key={title}>
            <h3>{t(title)}</h3>
            <dl>
              {keys.map(([combination, what]) => (
                <Fragment key={what}>
                  <dt>{t(what)}</dt>
                  <dd dir="ltr">{combination.map((k) => <kbd key={k}>{k}</kbd>)}</dd>
                </Fragment>
              ))}
            </dl>
          </section>
        ))}
      </div>
    </Dialog>
  );
}
