/** Links that bring people in: made, copied, ended. For moderators and above. */
import { useLoad } from "../../app/load";
import { Loading } from "../../app/Loading";
import { address } from "../../app/routes";
import { useSay } from "../../app/errors";
import { useAppDispatch } from "../../app/store";
import { toasted } from "../../app/ui";
import { useChat } from "../../chat/context";
import { Button, IconButton } from "../../design/controls";
import { useT } from "../../i18n";

/** How long a link works. */
const VALID_S = 7 * 86_400;

export function Invites({ room }: { room: string }) {
  const t = useT();
  const chat = useChat();
  const say = useSay();
  const dispatch = useAppDispatch();
  const [invites, again] = useLoad(() => chat.rest.all((page) => chat.rest.invites(room, page)), [chat, room]);
  const copy = async (code: string) => {
    await navigator.clipboard.writeText(location.origin + address({ at: "invite", code }));
    dispatch(toasted(t("invite.copied")));
  };
  const make = async () => {
    const made = await chat.rest.createInvite(room, { expires_s: VALID_S });
    again();
    await copy(made.code);
  };
  const end = (code: string) => chat.rest.endInvite(room, code).then(again);
  return (
    <section>
      <h3 className="section">{t("invite.title")}</h3>
      <Button icon="link" onClick={() => void make().catch(say)}>{t("invite.make")}</Button>
      <Loading of={invites} again={again}>
        {(all) => (
          <ul className="lines">
            {all.map((i) => (
              <li key={i.code} className="line">
                <span className="line-words"><code className="line-name">{i.code}</code><span className="note">{t("invite.uses", { count: i.uses })}</span></span>
                <IconButton icon="copy" label={t("action.copyLink")} onClick={() => void copy(i.code).catch(say)} />
                <IconButton icon="trash" label={t("invite.end")} onClick={() => void end(i.code).catch(say)} />
              </li>
            ))}
          </ul>
        )}
      </Loading>
    </section>
  );
}
