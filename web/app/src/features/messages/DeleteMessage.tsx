/** Asks before a message is deleted: that cannot be taken back. */
import { announced } from "../../app/ui";
import { useSay } from "../../app/errors";
import { useAppDispatch } from "../../app/store";
import { useChat } from "../../chat/context";
import { Button } from "../../design/controls";
import { Dialog } from "../../design/Dialog";
import { useT } from "../../i18n";
import { Excerpt } from "./Excerpt";

export default function DeleteMessage({ room, seq, onClose }: { room: string; seq: number; onClose: () => void }) {
  const t = useT();
  const chat = useChat();
  const say = useSay();
  const dispatch = useAppDispatch();
  const remove = () => {
    onClose();
    chat.remove(room, seq).then(() => dispatch(announced(t("message.deleted"))), say);
  };
  return (
    <Dialog title={t("delete.title")} onClose={onClose}>
      <Excerpt room={room} seq={seq} />
      <p className="note">{t("delete.hint")}</p>
      <div className="button-row">
        <Button kind="danger" data-first onClick={remove}>{t("action.delete")}</Button>
        <Button onClick={onClose}>{t("cancel")}</Button>
      </div>
    </Dialog>
  );
}
