/** Who somebody is, and what one can do: write, ask to be contacts, block. */
import { useEffect } from "react";
import { useSay } from "../../app/errors";
import { go } from "../../app/navigate";
import { useAppDispatch, useAppSelector } from "../../app/store";
import { dialogSet, toasted } from "../../app/ui";
import { useChat } from "../../chat/context";
import { Avatar } from "../../design/Avatar";
import { Button } from "../../design/controls";
import { Dialog } from "../../design/Dialog";
import { useT } from "../../i18n";
import { PeerStatus } from "../messages/Conversation";
import { called, contactChanged, profilesLearnt } from "./slice";

export default function ProfileCard({ user, onClose }: { user: string; onClose: () => void }) {
  const t = useT();
  const chat = useChat();
  const say = useSay();
  const dispatch = useAppDispatch();
  const profile = useAppSelector((s) => s.people.byId[user]);
  const state = useAppSelector((s) => s.people.contacts[user]);
  const presence = useAppSelector((s) => s.people.presence[user]?.state);
  const name = called(profile, "…");
  useEffect(() => {
    chat.rest.user(user).then(
      (p) => void dispatch(profilesLearnt([p])),
      () => undefined, // What is known already is shown.
    );
  }, [chat, dispatch, user]);
  const write = async () => {
    const room = await chat.create("direct", undefined, [user]);
    onClose();
    go({ at: "room", room });
  };
  const ask = async () => {
    const contact = await chat.rest.addContact(user);
    dispatch(contactChanged({ user, state: contact.state }));
    dispatch(toasted(t(contact.state === "accepted" ? "people.accepted" : "people.asked", { name })));
  };
  const remove = () => chat.rest.removeContact(user).then(() => void dispatch(contactChanged({ user, state: null })));
  const block = async (on: boolean) => {
    await (on ? chat.rest.block(user) : chat.rest.unblock(user));
    dispatch(contactChanged({ user, state: on ? "blocked" : null }));
    dispatch(toasted(t(on ? "people.blocked" : "people.unblocked", { name })));
  };
  return (
    <Dialog title={name} onClose={onClose}>
      <div className="card-head">
        <Avatar id={user} name={name} picture={profile?.avatar_url} size="lg" presence={state === "accepted" ? presence : undefined} />
        <div>
          <p className="card-name"><bdi>{name}</bdi></p>
          <p className="note">@{profile?.name ?? "…"}</p>
          <PeerStatus user={user} />
          {profile?.status && !presence && <p className="note" dir="auto">{profile.status}</p>}
        </div>
      </div>
      {user === chat.me.user ? (
        <Button icon="settings" onClick={() => dispatch(dialogSet({ name: "settings" }))}>{t("settings.profile")}</Button>
      ) : (
        <div className="button-row">
          {state !== "blocked" && <Button kind="primary" icon="thread" onClick={() => void write().catch(say)}>{t("people.writeTo")}</Button>}
          {!state && <Button icon="plus" onClick={() => void ask().catch(say)}>{t("people.ask")}</Button>}
          {state === "pending" && <Button icon="check" onClick={() => void ask().catch(say)}>{t("people.accept")}</Button>}
          {(state === "accepted" || state === "requested") && <Button onClick={() => void remove().catch(say)}>{t(state === "accepted" ? "people.remove" : "people.takeBack")}</Button>}
          <Button kind="danger" icon="ban" onClick={() => void block(state !== "blocked").catch(say)}>{t(state === "blocked" ? "people.unblock" : "people.block")}</Button>
        </div>
      )}
    </Dialog>
  );
}
