/** One's contacts with their presence, who asks to be one, whom one has asked. */
import { type FormEvent, useEffect, useState } from "react";
import type { ContactState } from "../../api/rest";
import { explain, useSay } from "../../app/errors";
import { go } from "../../app/navigate";
import { useAppDispatch, useAppSelector } from "../../app/store";
import { dialogSet, toasted } from "../../app/ui";
import { useChat } from "../../chat/context";
import { Avatar } from "../../design/Avatar";
import { Button, Empty, IconButton, Notice } from "../../design/controls";
import { useT } from "../../i18n";
import { PeerStatus } from "../messages/Conversation";
import { called, contactChanged, contactsLearnt, profilesLearnt } from "./slice";

export default function People() {
  const t = useT();
  const chat = useChat();
  const dispatch = useAppDispatch();
  const contacts = useAppSelector((s) => s.people.contacts);
  const known = useAppSelector((s) => s.people.contactsKnown);
  const [error, setError] = useState("");
  useEffect(() => {
    chat.rest.all((page) => chat.rest.contacts(page)).then(
      (all) => void dispatch(contactsLearnt(all)),
      (e: unknown) => setError(explain(e, t)),
    );
  }, [chat, dispatch, t]);
  const those = (state: ContactState) => Object.keys(contacts).filter((u) => contacts[u] === state);
  const groups = [
    { state: "pending", title: t("people.pending"), users: those("pending") },
    { state: "accepted", title: t("people.contacts"), users: those("accepted") },
    { state: "requested", title: t("people.requested"), users: those("requested") },
  ] as const;
  return (
    <main className="page" aria-label={t("people.title")}>
      <header className="head">
        <IconButton icon="back" label={t("room.backToList")} className="only-phone" onClick={() => go({ at: "home" })} />
        <span className="head-words"><h1>{t("people.title")}</h1></span>
      </header>
      <div className="page-main">
        <Add />
        {error && !known && <Notice kind="bad">{error}</Notice>}
        {known && groups.every((g) => g.users.length === 0) && <Empty icon="person" title={t("people.none")}><p>{t("people.noneHint")}</p></Empty>}
        {groups.map((g) => g.users.length > 0 && (
          <section key={g.state}>
            <h2 className="section">{g.title}</h2>
            <ul className="lines">
              {g.users.map((user) => <li key={user}><Line user={user} state={g.state} /></li>)}
            </ul>
          </section>
        ))}
      </div>
    </main>
  );
}

function Add() {
  const t = useT();
  const chat = useChat();
  const dispatch = useAppDispatch();
  const [name, setName] = useState("");
  const [error, setError] = useState("");
  const add = async (e: FormEvent) => {
    e.preventDefault();
    try {
      const found = await chat.rest.userByName(name.trim().replace(/^@/, ""));
      const contact = await chat.rest.addContact(found.user);
      dispatch(profilesLearnt([found]));
      dispatch(contactChanged({ user: found.user, state: contact.state }));
      dispatch(toasted(t(contact.state === "accepted" ? "people.accepted" : "people.asked", { name: found.name })));
      setName("");
      setError("");
    } catch (failure) {
      setError(explain(failure, t));
    }
  };
  return (
    <form className="inline-form" onSubmit={(e) => void add(e)}>
      <input className="input" aria-label={t("people.add")} placeholder={t("people.add")} value={name} onChange={(e) => setName(e.target.value)} autoCapitalize="none" spellCheck={false} required aria-invalid={error ? true : undefined} aria-describedby={error ? "add-error" : undefined} />
      <Button kind="primary" type="submit">{t("people.ask")}</Button>
      {error && <p id="add-error" className="note bad" role="alert">{error}</p>}
    </form>
  );
}

function Line({ user, state }: { user: string; state: ContactState }) {
  const t = useT();
  const chat = useChat();
  const say = useSay();
  const dispatch = useAppDispatch();
  const profile = useAppSelector((s) => s.people.byId[user]);
  const presence = useAppSelector((s) => s.people.presence[user]?.state);
  const name = called(profile, "…");
  const accept = () => chat.rest.addContact(user).then((c) => void dispatch(contactChanged({ user, state: c.state })), say);
  const refuse = () => chat.rest.removeContact(user).then(() => void dispatch(contactChanged({ user, state: null })), say);
  const write = () => chat.create("direct", undefined, [user]).then((room) => go({ at: "room", room }), say);
  return (
    <div className="line">
      <button type="button" className="line-main" onClick={() => dispatch(dialogSet({ name: "profile", user }))}>
        <Avatar id={user} name={name} picture={profile?.avatar_url} presence={state === "accepted" ? (presence ?? "offline") : undefined} />
        <span className="line-words">
          <bdi className="line-name">{name}</bdi>
          {state === "accepted" ? <PeerStatus user={user} /> : <span className="note">@{profile?.name}</span>}
        </span>
      </button>
      {state === "pending" && <Button kind="primary" onClick={() => void accept()}>{t("people.accept")}</Button>}
      {state === "pending" && <Button onClick={() => void refuse()}>{t("people.refuse")}</Button>}
      {state === "requested" && <Button onClick={() => void refuse()}>{t("people.takeBack")}</Button>}
      {state === "accepted" && <IconButton icon="thread" label={t("people.write", { name })} onClick={() => void write()} />}
    </div>
  );
}
