/** Who is in a room and as what; bringing people in, giving roles, muting, putting out. */
import { type FormEvent, useState } from "react";
import type { Member } from "../../api/rest";
import { explain, useSay } from "../../app/errors";
import { useAppDispatch, useAppSelector } from "../../app/store";
import { dialogSet } from "../../app/ui";
import { useChat } from "../../chat/context";
import type { Room } from "../../chat/types";
import { Avatar } from "../../design/Avatar";
import { Button, Notice } from "../../design/controls";
import { Dialog } from "../../design/Dialog";
import { MenuButton, type MenuItem } from "../../design/Menu";
import { useT } from "../../i18n";
import { useDates } from "../../i18n/dates";
import { called } from "../people/slice";
import { useHappenings, useMemberList } from "./members";
import { mayGive, mayTransfer, outranks, ROLES } from "./roles";

/** Members that are drawn at once; a channel may have thousands. */
const DRAWN_MAX = 100;
/** How long one may be muted, in seconds; 0: until somebody ends it. */
const MUTES_S = [3_600, 0];

export function MemberList({ room }: { room: Room }) {
  const t = useT();
  const [asked, setAsked] = useState(0);
  const [all, setAll] = useState(false);
  // Read again when something happens in the room; coming and going in a channel is not told there.
  const happened = useHappenings(room.room);
  const { members, state, error } = useMemberList(room.room, true, asked + happened);
  const changed = () => setAsked((n) => n + 1);
  const drawn = all ? members : members.slice(0, DRAWN_MAX);
  return (
    <section>
      <h3 className="section">{t("members.count", { count: members.length })}</h3>
      {state === "failed" && <Notice kind="bad" action={<Button kind="quiet" onClick={changed}>{t("retry")}</Button>}>{explain(error, t)}</Notice>}
      {room.role !== "reader" && <AddMember room={room} onDone={changed} />}
      <ul className="lines">
        {drawn.map((m) => <li key={m.user}><MemberLine member={m} room={room} onDone={changed} /></li>)}
      </ul>
      {drawn.length < members.length && <Button kind="quiet" onClick={() => setAll(true)}>{t("members.all")}</Button>}
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
  const dates = useDates();
  const [sure, setSure] = useState(false);
  const name = called(profile, member.name);
  const { muted_until: mutedUntil = 0 } = member;
  const muted = mutedUntil > Date.now();
  const then = (done: Promise<void>) => void done.then(onDone, say);
  const items = member.user === chat.me.user ? [] : [...roleItems(), ...orderItems()];
  function roleItems(): MenuItem[] {
    const roles = ROLES.filter((r) => r !== member.role && mayGive(room.role, member.role, r));
    const give = roles.map((role): MenuItem => ({ label: t("members.make", { role: t(`role.${role}`) }), onChoose: () => then(chat.role(room.room, member.user, role)) }));
    return mayTransfer(room.role) ? [...give, { label: t("members.transfer"), onChoose: () => setSure(true) }] : give;
  }
  function orderItems(): MenuItem[] {
    if (!outranks(room.role, member.role)) return [];
    const mute = (s: number): MenuItem => ({ label: s ? t("members.muteFor", { span: dates.span(s) }) : t("members.mute"), icon: "bellOff", onChoose: () => then(chat.mute(room.room, member.user, s ? Date.now() + s * 1_000 : undefined)) });
    return [
      "rule",
      ...(muted ? [{ label: t("members.unmute"), icon: "bell" as const, onChoose: () => then(chat.mute(room.room, member.user, null)) }] : MUTES_S.map(mute)),
      { label: t("members.kick"), icon: "leave", danger: true, onChoose: () => then(chat.kick(room.room, member.user)) },
      { label: t("members.ban"), icon: "ban", danger: true, onChoose: () => then(chat.ban(room.room, member.user)) },
    ];
  }
  const give = () => {
    setSure(false);
    then(chat.transfer(room.room, member.user));
  };
  return (
    <div className="line">
      <button type="button" className="line-main" onClick={() => dispatch(dialogSet({ name: "profile", user: member.user }))}>
        <Avatar id={member.user} name={name} picture={profile?.avatar_url} size="sm" presence={presence} />
        <bdi className="line-name">{name}</bdi>
      </button>
      {muted && <span className="role">{t("members.muted")}</span>}
      {member.role !== "member" && <span className="role">{t(`role.${member.role}`)}</span>}
      {items.length > 0 && <MenuButton label={t("members.more", { name })} items={items} />}
      {sure && (
        <Dialog title={t("members.transfer")} onClose={() => setSure(false)}>
          <p>{t("members.transferSure", { name })}</p>
          <div className="button-row">
            <Button kind="danger" onClick={give}>{t("members.transfer")}</Button>
            <Button onClick={() => setSure(false)}>{t("cancel")}</Button>
          </div>
        </Dialog>
      )}
    </div>
  );
}

