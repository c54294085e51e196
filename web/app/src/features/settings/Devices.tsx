/** Where one is signed in; each place can be signed out from here. */
import { useSay } from "../../app/errors";
import { useLoad } from "../../app/load";
import { Loading } from "../../app/Loading";
import { useChat } from "../../chat/context";
import { Button } from "../../design/controls";
import { useT } from "../../i18n";
import { useDates } from "../../i18n/dates";

export function Devices() {
  const t = useT();
  const chat = useChat();
  const say = useSay();
  const dates = useDates();
  const [devices, again] = useLoad(() => chat.rest.all((page) => chat.rest.devices(page)), [chat]);
  return (
    <Loading of={devices} again={again}>
      {(all) => (
        <ul className="lines">
          {all.map((d) => (
            <li key={d.device} className="line">
              <span className="line-words">
                <bdi className="line-name">{d.name || t("devices.unnamed")}</bdi>
                <span className="note">{d.current ? t("devices.current") : t("devices.used", { when: dates.seen(d.used) })}</span>
              </span>
              {!d.current && <Button kind="danger" onClick={() => void chat.rest.revokeDevice(d.device).then(again, say)}>{t("devices.revoke")}</Button>}
            </li>
          ))}
        </ul>
      )}
    </Loading>
  );
}
