/** The head of every panel: what it is, and the way out. */
import { IconButton } from "../design/controls";
import { useT } from "../i18n";
import { useAppDispatch } from "./store";
import { panelSet } from "./ui";

export function PanelHead({ title }: { title: string }) {
  const t = useT();
  const dispatch = useAppDispatch();
  return (
    <header className="head panel-head">
      <h2>{title}</h2>
      <IconButton icon="close" label={t("close")} keys="Esc" onClick={() => dispatch(panelSet(null))} />
    </header>
  );
}
