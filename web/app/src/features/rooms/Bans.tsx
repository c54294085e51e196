/** Who may not come back, and letting them. Not there while there is nobody. */
import { useSay } from "../../app/errors";
import { useLoad } from "../../app/load";
import { useChat } from "../../chat/context";
import { Avatar } from "../../design/Avatar";
import { Button } from "../../design/controls";
import { useT } from "../../i18n";
import { useHappenings } from "./members";

export function Bans({ room }: { room: string }) {
  const t = useT();
  const chat = useChat();
  const say = useSay();
  const version = useHappenings(room);
  const [bans, again] = useLoad(() => chat.rest.all((page) => chat.rest.bans(room, page)), [chat, room, version]);
  if (bans.state !== "there" || bans.value.length === 0) return null;
  return (
    <section>
      <h3 className="section">{t("bans.title")}</h3>
      <ul className="lines">
        {bans.value.map(({ user, name }) => (
          <li key={user} className="line">
            <Avatar id={user} name={name} size="sm" />
            <bdi className="line-words line-name">{name}</bdi>
            <Button onClick={() => void chat.unban(room, user).then(again, say)} aria-label={t("bans.endNamed", { name })}>{t("bans.end")}</Button>
          </li>
        ))}
      </ul>
    </section>
  );
}
