/** Ctrl/⌘+K: goes to a room or a person by a few letters of the name. Focus stays in the field; arrows choose. */
import { type KeyboardEvent, useId, useMemo, useState } from "react";
import { useSay } from "../../app/errors";
import { go } from "../../app/navigate";
import { useAppSelector } from "../../app/store";
import { useChat } from "../../chat/context";
import { Avatar } from "../../design/Avatar";
import { Dialog } from "../../design/Dialog";
import { Icon } from "../../design/Icon";
import { useT } from "../../i18n";
import { called } from "../people/slice";
import { selectRooms } from "../rooms/slice";
import { rank, type Target } from "./rank";

export default function Switcher({ onClose }: { onClose: () => void }) {
  const t = useT();
  const id = useId();
  const say = useSay();
  const chat = useChat();
  const targets = useTargets();
  const [wanted, setWanted] = useState("");
  const [at, setAt] = useState(0);
  const found = useMemo(() => rank(targets, wanted), [targets, wanted]);
  const chosen = Math.min(at, found.length - 1);
  const choose = (target: Target | undefined) => {
    if (!target) return;
    onClose();
    if (target.room) go({ at: "room", room: target.room });
    else if (target.user) chat.create("direct", undefined, [target.user]).then((room) => go({ at: "room", room }), say);
  };
  const onKeyDown = (e: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[e.key];
    if (step && found.length) setAt((chosen + step + found.length) % found.length);
    else if (e.key === "Enter") choose(found[chosen]);
    else return;
    e.preventDefault();
  };
  return (
    <Dialog title={t("switcher.title")} onClose={onClose}>
      <input
        className="input"
        autoFocus
        role="combobox"
        aria-expanded={found.length > 0}
        aria-controls={id}
        aria-activedescendant={found.length ? `${id}-${chosen}` : undefined}
        aria-label={t("switcher.hint")}
        placeholder={t("switcher.hint")}
        value={wanted}
        onChange={(e) => {
          setWanted(e.target.value);
          setAt(0);
        }}
        onKeyDown={onKeyDown}
      />
      <ul className="switcher" id={id} role="listbox" aria-label={t("switcher.title")}>
        {found.map((target, i) => (
          <li key={target.room ?? target.user} id={`${id}-${i}`} role="option" aria-selected={i === chosen} onClick={() => choose(target)}>
            {target.user ? <Avatar id={target.user} name={target.name} size="sm" /> : <span className="room-mark small"><Icon name={target.kind === "channel" ? "hash" : "group"} small /></span>}
            <bdi>{target.name}</bdi>
            {target.unread > 0 && <span className="badge soft">{target.unread > 99 ? "99+" : target.unread}</span>}
          </li>
        ))}
      </ul>
      {found.length === 0 && <p className="note">{t("switcher.none")}</p>}
    </Dialog>
  );
}

function useTargets(): Target[] {
  const rooms = useAppSelector(selectRooms);
  const byId = useAppSelector((s) => s.people.byId);
  const contacts = useAppSelector((s) => s.people.contacts);
  return useMemo(() => {
    const peers = new Set(rooms.map((r) => r.peer));
    const ofRooms = rooms.map((r): Target => ({ room: r.room, kind: r.kind, unread: r.unread, name: r.peer ? called(byId[r.peer], "…") : r.name, ...(r.peer ? { user: r.peer } : {}) }));
    const ofPeople = Object.entries(contacts)
      .filter(([user, state]) => state === "accepted" && !peers.has(user))
      .map(([user]): Target => ({ user, kind: "direct", unread: 0, name: called(byId[user], "…") }));
    return [...ofRooms, ...ofPeople];
  }, [rooms, byId, contacts]);
}
