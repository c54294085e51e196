/** What is pinned in a room; each leads to where it was said. */
import { useLoad } from "../../app/load";
import { Loading } from "../../app/Loading";
import { go } from "../../app/navigate";
import { PanelHead } from "../../app/PanelHead";
import { useChat, useName, useTimeline } from "../../chat/context";
import type { Message } from "../../chat/types";
import { Empty } from "../../design/controls";
import { useT } from "../../i18n";
import { useDates } from "../../i18n/dates";
import { plain } from "./markdown/parse";

export default function PinsPanel({ room }: { room: string }) {
  const t = useT();
  const chat = useChat();
  const [view] = useTimeline(room);
  // Read anew when a pin in sight changes.
  const pinned = view.items.filter((i) => i.kind === "message" && i.pinned).map((i) => i.key).join();
  const [pins, again] = useLoad(() => chat.pins(room), [chat, room, pinned]);
  return (
    <aside className="panel" aria-label={t("pins.title")}>
      <PanelHead title={t("pins.title")} />
      <div className="panel-main">
        <Loading of={pins} again={again}>
          {(all) =>
            all.length === 0 ? (
              <Empty icon="pin" title={t("pins.none")}><p>{t("pins.noneHint")}</p></Empty>
            ) : (
              <ul className="lines">{all.map((m) => <li key={m.key}><Pin room={room} message={m} /></li>)}</ul>
            )
          }
        </Loading>
      </div>
    </aside>
  );
}

function Pin({ room, message }: { room: string; message: Message }) {
  const dates = useDates();
  const name = useName(message.by);
  return (
    <button type="button" className="pin-line" onClick={() => message.seq !== undefined && go({ at: "room", room, seq: message.seq })}>
      <span className="author"><bdi>{name}</bdi> <time>{dates.brief(message.at)}</time></span>
      <span className="pin-text" dir="auto">{plain(message.text)}</span>
    </button>
  );
}
