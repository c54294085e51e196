/** Where an invitation's link leads: to what, by whom, and in. */
import { useState } from "react";
import { useSay } from "../../app/errors";
import { useLoad } from "../../app/load";
import { Loading } from "../../app/Loading";
import { go } from "../../app/navigate";
import { useChat, useName } from "../../chat/context";
import { Button } from "../../design/controls";
import { Icon } from "../../design/Icon";
import { useT } from "../../i18n";

export default function InvitePage({ code }: { code: string }) {
  const t = useT();
  const chat = useChat();
  const say = useSay();
  const [invite, again] = useLoad(() => chat.rest.invite(code), [chat, code]);
  const [busy, setBusy] = useState(false);
  const by = useName(invite.state === "there" ? invite.value.by : chat.me.user);
  const accept = async () => {
    setBusy(true);
    try {
      go({ at: "room", room: await chat.accept(code) }, { replace: true });
    } catch (e) {
      say(e);
      setBusy(false);
    }
  };
  return (
    <main className="conversation nothing">
      <div className="invite-card">
        <Loading of={invite} again={again}>
          {(shown) => (
            <>
              <span className="room-mark big"><Icon name={shown.kind === "channel" ? "hash" : "group"} /></span>
              <p className="note">{t("invite.by", { name: by })}</p>
              <h1><bdi>{shown.name}</bdi></h1>
              {shown.topic && <p dir="auto">{shown.topic}</p>}
              <p className="note">{t("members.count", { count: shown.members })}</p>
              <Button kind="primary" className="block" busy={busy} onClick={() => void accept()}>{t("invite.accept")}</Button>
            </>
          )}
        </Loading>
        <Button kind="quiet" onClick={() => go({ at: "home" })}>{t("room.backToList")}</Button>
      </div>
    </main>
  );
}
