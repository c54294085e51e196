/** Whom one has blocked. */
import { useSay } from "../../app/errors";
import { useLoad } from "../../app/load";
import { Loading } from "../../app/Loading";
import { useChat } from "../../chat/context";
import { Avatar } from "../../design/Avatar";
import { Button, Empty } from "../../design/controls";
import { useT } from "../../i18n";
import { called } from "../people/slice";

export function Blocked() {
  const t = useT();
  const chat = useChat();
  const say = useSay();
  const [blocks, again] = useLoad(() => chat.rest.all((page) => chat.rest.blocks(page)), [chat]);
  return (
    <Loading of={blocks} again={again}>
      {(all) =>
        all.length === 0 ? (
          <Empty icon="ban" title={t("blocked.none")}><p>{t("blocked.noneHint")}</p></Empty>
        ) : (
          <ul className="lines">
            {all.map((p) => (
              <li key={p.user} className="line">
                <Avatar id={p.user} name={called(p, "…")} size="sm" />
                <bdi className="line-words line-name">{called(p, "…")}</bdi>
                <Button onClick={() => void chat.rest.unblock(p.user).then(again, say)}>{t("people.unblock")}</Button>
              </li>
            ))}
          </ul>
        )
      }
    </Loading>
  );
}
