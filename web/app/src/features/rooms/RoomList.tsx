/** The rooms one is in: newest activity first, with what was said last and what is unread. */
import { memo } from "react";
import { go } from "../../app/navigate";
import { useAppDispatch, useAppSelector } from "../../app/store";
import { dialogSet } from "../../app/ui";
import { useChat, useName, useRoomName } from "../../chat/context";
import type { Room } from "../../chat/types";
import { Avatar, hue } from "../../design/Avatar";
import { Button, Empty } from "../../design/controls";
import { Icon } from "../../design/Icon";
import { useT } from "../../i18n";
import { useDates } from "../../i18n/dates";
import { plain } from "../messages/markdown/parse";
import { selectRooms } from "./slice";

export function RoomList() {
  const t = useT();
  const dispatch = useAppDispatch();
  const rooms = useAppSelector(selectRooms);
  const known = useAppSelector((s) => s.rooms.known);
  const open = useAppSelector((s) => (s.ui.place.at === "room" ? s.ui.place.room : undefined));
  if (rooms.length === 0) {
    return known ? (
      <Empty icon="thread" title={t("rooms.none")}>
        <p>{t("rooms.noneHint")}</p>
        <Button kind="primary" icon="plus" onClick={() => dispatch(dialogSet({ name: "newDirect" }))}>{t("rooms.start")}</Button>
        <Button onClick={() => go({ at: "channels" })}>{t("channels.browse")}</Button>
      </Empty>
    ) : null;
  }
  return (
    <ul className="rooms" aria-label={t("rooms.title")}>
      {rooms.map((room) => (
        <li key={room.room}>
          <RoomLine room={room} open={room.room === open} />
        </li>
      ))}
    </ul>
  );
}

const RoomLine = memo(function RoomLine({ room, open }: { room: Room; open: boolean }) {
  const t = useT();
  const dates = useDates();
  const name = useRoomName(room);
  const presence = useAppSelector((s) => (room.peer ? s.people.presence[room.peer]?.state : undefined));
  const picture = useAppSelector((s) => (room.peer ? s.people.byId[room.peer]?.avatar_url : undefined));
  const muted = useAppSelector((s) => s.rooms.levels[room.room] === "none");
  const draft = useAppSelector((s) => (open ? undefined : s.drafts[room.room]?.text));
  const unread = room.unread > 0 && !open;
  const classes = ["room", open && "open", unread && "unread", muted && "muted"].filter(Boolean).join(" ");
  return (
    <a
      className={classes}
      href={`/r/${room.room}`}
      aria-current={open ? "page" : undefined}
      onClick={(e) => {
        if (e.metaKey || e.ctrlKey || e.shiftKey) return;
        e.preventDefault();
        go({ at: "room", room: room.room });
      }}
    >
      {room.kind === "direct" ? (
        <Avatar id={room.peer ?? room.room} name={name} picture={picture} presence={presence} />
      ) : (
        <span className={`room-mark hue-${hue(room.room)}`}><Icon name={room.kind === "channel" ? "hash" : "group"} small /></span>
      )}
      <span className="room-words">
        <span className="room-top">
          <span className="room-name"><bdi>{name}</bdi></span>
          {muted && <Icon name="bellOff" small />}
          {room.at > 0 && <time dateTime={new Date(room.at).toISOString()}>{dates.brief(room.at)}</time>}
        </span>
        <span className="room-bottom">
          <span className="room-last" dir="auto">{draft ? <><em>{t("rooms.draft")}</em> {plain(draft)}</> : <Last room={room} />}</span>
          {unread && room.mentions > 0 && room.kind !== "direct" && <span className="badge accent" title={t("rooms.mentions", { count: room.mentions })} aria-label={t("rooms.mentions", { count: room.mentions })} role="img">@{room.mentions > 1 ? room.mentions : ""}</span>}
          {unread && (
            <span className={room.kind === "direct" ? "badge accent" : "badge soft"}>
              <span aria-hidden="true">{room.unread > 99 ? "99+" : room.unread}</span>
              <span className="unseen">{t("rooms.unread", { count: room.unread })}</span>
            </span>
          )}
        </span>
      </span>
    </a>
  );
});

function Last({ room }: { room: Room }) {
  const t = useT();
  const me = useChat().me.user;
  const name = useName(room.last?.by ?? me);
  if (!room.last) return <>{room.topic || "\u00a0"}</>;
  const text = room.last.deleted ? t("message.deleted") : plain(room.last.text);
  if (room.last.by === me) return <>{t("rooms.you", { text })}</>;
  return room.kind === "direct" ? <>{text}</> : <>{t("rooms.said", { name, text })}</>;
}

