/** The channels of this server: looking for one, joining it. */
import { useDeferredValue, useState } from "react";
import type { Channel } from "../../api/rest";
import { useSay } from "../../app/errors";
import { useLoad } from "../../app/load";
import { Loading } from "../../app/Loading";
import { go } from "../../app/navigate";
import { useAppDispatch } from "../../app/store";
import { dialogSet } from "../../app/ui";
import { useChat } from "../../chat/context";
import { hue } from "../../design/Avatar";
import { Button, Empty, IconButton } from "../../design/controls";
import { Icon } from "../../design/Icon";
import { useT } from "../../i18n";

export default function Directory() {
  const t = useT();
  const chat = useChat();
  const dispatch = useAppDispatch();
  const [wanted, setWanted] = useState("");
  const asked = useDeferredValue(wanted.trim());
  const [found, again] = useLoad(() => chat.rest.channels(asked), [chat, asked]);
  return (
    <main className="page" aria-label={t("channels.title")}>
      <header className="head">
        <IconButton icon="back" label={t("room.backToList")} className="only-phone" onClick={() => go({ at: "home" })} />
        <span className="head-words"><h1>{t("channels.title")}</h1></span>
        <Button icon="plus" onClick={() => dispatch(dialogSet({ name: "newRoom" }))}>{t("new.room")}</Button>
      </header>
      <div className="page-main">
        <input className="input" type="search" aria-label={t("channels.search")} placeholder={t("channels.search")} value={wanted} onChange={(e) => setWanted(e.target.value)} />
        <Loading of={found} again={again}>
          {(page) =>
            page.items.length === 0 ? (
              <Empty icon="hash" title={t("channels.none")}><p>{t("channels.noneHint")}</p></Empty>
            ) : (
              <ul className="lines">{page.items.map((c) => <li key={c.room}><Line channel={c} /></li>)}</ul>
            )
          }
        </Loading>
      </div>
    </main>
  );
}

function Line({ channel }: { channel: Channel }) {
  const t = useT();
  const chat = useChat();
  const say = useSay();
  const [busy, setBusy] = useState(false);
  const open = () => go({ at: "room", room: channel.room });
  const join = async () => {
    setBusy(true);
    try {
      await chat.join(channel.room);
      open();
    } catch (e) {
      say(e);
      setBusy(false);
    }
  };
  return (
    <div className="line">
      <span className={`room-mark hue-${hue(channel.room)}`}><Icon name="hash" small /></span>
      <span className="line-words">
        <bdi className="line-name">{channel.name}</bdi>
        <span className="note" dir="auto">{[t("members.count", { count: channel.members }), channel.topic].filter(Boolean).join(" · ")}</span>
      </span>
      {channel.joined ? <Button onClick={open}>{t("channels.open")}</Button> : <Button kind="primary" busy={busy} onClick={() => void join()} aria-label={t("channels.joinNamed", { name: channel.name })}>{t("channels.join")}</Button>}
    </div>
  );
}
