/** A room's panel: what it is, how it may disturb, who is in it and as what, invitations, who is banned, leaving. */
import { useEffect, useState } from "react";
import type { NotifyLevel } from "../../api/rest";
import { useSay } from "../../app/errors";
import { go } from "../../app/navigate";
import { PanelHead } from "../../app/PanelHead";
import { useAppDispatch, useAppSelector } from "../../app/store";
import { dialogSet } from "../../app/ui";
import { useChat, useRoomName } from "../../chat/context";
import type { Room } from "../../chat/types";
import { Button, Notice, Select } from "../../design/controls";
import { useT } from "../../i18n";
import { Bans } from "./Bans";
import { Invites } from "./Invites";
import { MemberList } from "./MemberList";
import { administers, moderates } from "./roles";
import { RoomForm } from "./RoomForm";
import { levelSet } from "./slice";

export default function InfoPanel({ room: id }: { room: string }) {
  const t = useT();
  const room = useAppSelector((s) => s.rooms.byId[id]);
  if (!room) return null;
  const many = room.kind !== "direct";
  return (
    <aside className="panel" aria-label={t("info.title")}>
      <PanelHead title={t("info.title")} />
      <div className="panel-main">
        <About room={room} />
        <Level room={room.room} />
        {many && <MemberList room={room} />}
        {many && moderates(room.role) && <Invites room={room.room} />}
        {many && moderates(room.role) && <Bans room={room.room} />}
        {many ? <Leave room={room} /> : <PeerButtons room={room} />}
      </div>
    </aside>
  );
}

function About({ room }: { room: Room }) {
  const t = useT();
  const name = useRoomName(room);
  const [editing, setEditing] = useState(false);
  if (editing) return <RoomForm room={room} onDone={() => setEditing(false)} />;
  return (
    <section>
      <p className="card-name"><bdi>{name}</bdi></p>
      <p className="note">{t(room.archived ? "kind.archived" : `kind.${room.kind}`)}</p>
      {room.topic && <p dir="auto">{room.topic}</p>}
      {room.kind !== "direct" && administers(room.role) && <Button icon="settings" onClick={() => setEditing(true)}>{t("info.edit")}</Button>}
    </section>
  );
}

const LEVELS: NotifyLevel[] = ["all", "mentions", "none"];

function Level({ room }: { room: string }) {
  const t = useT();
  const chat = useChat();
  const say = useSay();
  const dispatch = useAppDispatch();
  const level = useAppSelector((s) => s.rooms.levels[room]);
  useEffect(() => {
    chat.rest.notify(room).then(
      (n) => void dispatch(levelSet({ room, level: n.level })),
      () => undefined, // The choice shows nothing chosen wrongly: it is left out until it is known.
    );
  }, [chat, dispatch, room]);
  if (!level) return null;
  const set = (to: NotifyLevel) => chat.rest.setNotify(room, { level: to }).then(() => void dispatch(levelSet({ room, level: to })), say);
  return <Select label={t("notify.title")} value={level} options={LEVELS.map((value) => ({ value, label: t(`notify.${value}`) }))} onChange={(to) => void set(to)} />;
}

function Leave({ room }: { room: Room }) {
  const t = useT();
  const chat = useChat();
  const say = useSay();
  const [sure, setSure] = useState(false);
  const leave = () => chat.leave(room.room).then(() => go({ at: "home" }, { replace: true }), say);
  return (
    <section>
      {sure ? (
        <Notice kind="bad" action={<><Button kind="danger" onClick={() => void leave()}>{t("room.leave")}</Button><Button onClick={() => setSure(false)}>{t("cancel")}</Button></>}>{t("room.leaveSure")}</Notice>
      ) : (
        <Button kind="danger" icon="leave" onClick={() => setSure(true)}>{t("room.leave")}</Button>
      )}
    </section>
  );
}

function PeerButtons({ room }: { room: Room }) {
  const t = useT();
  const dispatch = useAppDispatch();
  return <Button icon="person" onClick={() => dispatch(dialogSet({ name: "profile", user: room.peer ?? "0" }))}>{t("people.profile")}</Button>;
}
