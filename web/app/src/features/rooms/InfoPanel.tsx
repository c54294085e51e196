/** A room's panel: what it is, how it may disturb, who is in it and as what, invitations, leaving. */
import { type FormEvent, useEffect, useState } from "react";
import type { Member, NotifyLevel } from "../../api/rest";
import { address } from "../../app/routes";
import { explain, useSay } from "../../app/errors";
import { useLoad } from "../../app/load";
import { Loading } from "../../app/Loading";
import { go } from "../../app/navigate";
import { PanelHead } from "../../app/PanelHead";
import { useAppDispatch, useAppSelector } from "../../app/store";
import { dialogSet, toasted } from "../../app/ui";
import { useChat, useRoomName } from "../../chat/context";
import type { Room } from "../../chat/types";
import { Avatar } from "../../design/Avatar";
import { Button, Field, IconButton, Notice, Select } from "../../design/controls";
import { MenuButton, type MenuItem } from "../../design/Menu";
import { useT } from "../../i18n";
import { called } from "../people/slice";
import { useMemberList } from "./members";
import { mayGive, outranks, ROLES } from "./roles";
import { levelSet } from "./slice";

export default function InfoPanel({ room: id }: { room: string }) {
  const t = useT();
  const room = useAppSelector((s) => s.rooms.byId[id]);
  if (!room) return null;
  return (
    <aside className="panel" aria-label={t("info.title")}>
      <PanelHead title={t("info.title")} />
      <div className="panel-main">
        <About room={room} />
        <Level room={room.room} />
        {room.kind !== "direct" && <Members room={room} />}
        {room.kind !== "direct" && room.role !== "reader" && <Invites room={room} />}
        {room.kind === "direct" ? <PeerButtons room={room} /> : <Leave room={room} />}
      </div>
    </aside>
  );
}

function About({ room }: { room: Room }) {
  const t = useT();
  const chat = useChat();
  const say = useSay();
  const name = useRoomName(room);
  const [editing, setEditing] = useState(false);
  const may = room.kind !== "direct" && (room.role === "admin" || room.role === "owner");
  const save = (e: FormEvent<HTMLFormElement>) => {
    e.preventDefault();
    const data = new FormData(e.currentTarget);
    const next = { name: String(data.get("name") ?? "").trim(), topic: String(data.get("topic") ?? "").trim() };
    chat.update(room.room, next).then(() => setEditing(false), say);
  };
  if (editing) {
    return (
      <form className="door-form" onSubmit={save}>
        <Field label={t("new.name")} name="name" defaultValue={room.name} maxLength={100} required autoFocus />
        <Field label={t("new.topic")} name="topic" defaultValue={room.topic} maxLength={1000} />
        <div className="button-row">
          <Button kind="primary" type="submit">{t("save")}</Button>
          <Button onClick={() => setEditing(false)}>{t("cancel")}</Button>
        </div>
      </form>
    );
  }
  return (
    <section>
      <p className="card-name"><bdi>{name}</bdi></p>
      <p className="note">{t(`kind.${room.kind}`)}</p>
      {room.topic && <p dir="auto">{room.topic}</p>}
      {may && <Button kind="quiet" icon="pencil" onClick={() => setEditing(true)}>{t("info.edit")}</Button>}
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

function Members({ room }: { room: Room }) {
  const t = useT();
  const [version, setVersion] = useState(0);
  const { members, state, error } = useMemberList(room.room, true, version);
  const changed = () => setVersion((v) => v + 1);
  return (
    <section>
      <h3 className="section">{t("members.count", { count: members.length })}</h3>
      {state === "failed" && <Notice kind="bad" action={<Button kind="quiet" onClick={changed}>{t("retry")}</Button>}>{explain(error, t)}</Notice>}
      {room.role !== "reader" && <AddMember room={room} onDone={changed} />}
      <ul className="lines">
        {members.map((m) => <li key={m.user}><MemberLine member={m} room={room} onDone={changed} /></li>)}
      </ul>
    </section>
  );
}

function AddMember({ room, onDone }: { room: Room; onDone: () => void }) {
  const t = useT();
  const chat = useChat();
  const [name, setName] = useState("");
  const [error, setError] = useState("");
  const add = async (e: FormEvent) => {
    e.preventDefault();
    try {
      const found = await chat.rest.userByName(name.trim().replace(/^@/, ""));
      await chat.invite(room.room, found.user);
      setName("");
      setError("");
      onDone();
    } catch (failure) {
      setError(explain(failure, t));
    }
  };
  return (
    <form className="inline-form" onSubmit={(e) => void add(e)}>
      <input className="input" placeholder={t("members.add")} aria-label={t("members.add")} value={name} onChange={(e) => setName(e.target.value)} required autoCapitalize="none" spellCheck={false} />
      <Button type="submit">{t("members.addButton")}</Button>
      {error && <p className="note bad" role="alert">{error}</p>}
    </form>
  );
}

function MemberLine({ member, room, onDone }: { member: Member; room: Room; onDone: () => void }) {
  const t = useT();
  const chat = useChat();
  const say = useSay();
  const dispatch = useAppDispatch();
  const profile = useAppSelector((s) => s.people.byId[member.user]);
  const presence = useAppSelector((s) => s.people.presence[member.user]?.state);
  const name = called(profile, member.name);
  const may = member.user !== chat.me.user && outranks(room.role, member.role);
  const then = (done: Promise<void>) => void done.then(onDone, say);
  const items: MenuItem[] = [
    ...ROLES.filter((r) => r !== member.role && mayGive(room.role, r)).map((role): MenuItem => ({ label: t("members.make", { role: t(`role.${role}`) }), onChoose: () => then(chat.role(room.room, member.user, role)) })),
    "rule",
    { label: t("members.kick"), icon: "leave", danger: true, onChoose: () => then(chat.kick(room.room, member.user)) },
    { label: t("members.ban"), icon: "ban", danger: true, onChoose: () => then(chat.ban(room.room, member.user)) },
  ];
  return (
    <div className="line">
      <button type="button" className="line-main" onClick={() => dispatch(dialogSet({ name: "profile", user: member.user }))}>
        <Avatar id={member.user} name={name} picture={profile?.avatar_url} size="sm" presence={presence} />
        <bdi className="line-name">{name}</bdi>
      </button>
      {member.role !== "member" && <span className="role">{t(`role.${member.role}`)}</span>}
      {may && <MenuButton label={t("members.more", { name })} items={items} />}
    </div>
  );
}

function Invites({ room }: { room: Room }) {
  const t = useT();
  const chat = useChat();
  const say = useSay();
  const dispatch = useAppDispatch();
  const [invites, again] = useLoad(() => chat.rest.all((page) => chat.rest.invites(room.room, page)), [chat, room.room]);
  const copy = async (code: string) => {
    await navigator.clipboard.writeText(location.origin + address({ at: "invite", code }));
    dispatch(toasted(t("invite.copied")));
  };
  const make = async () => {
    const made = await chat.rest.createInvite(room.room, { expires_s: 7 * 86_400 });
    again();
    await copy(made.code);
  };
  const end = (code: string) => chat.rest.endInvite(room.room, code).then(again);
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
