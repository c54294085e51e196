/** The frame of the app for who is signed in: rooms at the side, where one is in the middle, a panel beside it. */
import { lazy, Suspense } from "react";
import { useChat } from "../chat/context";
import { Avatar } from "../design/Avatar";
import { Button, Empty, IconButton } from "../design/controls";
import { Icon } from "../design/Icon";
import { MenuButton } from "../design/Menu";
import { ConnectionBar } from "../features/connection/ConnectionBar";
import { RoomList } from "../features/rooms/RoomList";
import { useT } from "../i18n";
import { Dialogs } from "./Dialogs";
import { MAC } from "./keys";
import { go } from "./navigate";
import { useAppDispatch, useAppSelector } from "./store";
import { dialogSet } from "./ui";
import { called } from "../features/people/slice";

const Conversation = lazy(() => import("../features/messages/Conversation").then((m) => ({ default: m.Conversation })));
const People = lazy(() => import("../features/people/People"));
const Directory = lazy(() => import("../features/rooms/Directory"));
const InvitePage = lazy(() => import("../features/rooms/InvitePage"));
const ThreadPanel = lazy(() => import("../features/messages/ThreadPanel"));
const PinsPanel = lazy(() => import("../features/messages/PinsPanel"));
const InfoPanel = lazy(() => import("../features/rooms/InfoPanel"));

export function Shell() {
  const place = useAppSelector((s) => s.ui.place);
  const panel = useAppSelector((s) => s.ui.panel);
  const connection = useAppSelector((s) => (s.connection.caughtUp ? "live" : s.connection.state));
  const classes = ["shell", place.at !== "home" && "inside", panel && place.at === "room" && "with-panel"].filter(Boolean).join(" ");
  return (
    <div className={classes} data-connection={connection}>
      <SkipLink />
      <Side />
      <div className="middle" id="middle">
        <ConnectionBar />
        <Suspense fallback={<div className="conversation" />}>
          <Middle />
        </Suspense>
      </div>
      {panel && place.at === "room" && (
        <Suspense fallback={<aside className="panel" />}>
          {panel.show === "thread" ? <ThreadPanel key={panel.root} room={place.room} root={panel.root} /> : panel.show === "pins" ? <PinsPanel room={place.room} /> : <InfoPanel key={place.room} room={place.room} />}
        </Suspense>
      )}
      <Dialogs />
    </div>
  );
}

function Middle() {
  const place = useAppSelector((s) => s.ui.place);
  switch (place.at) {
    case "room":
      return <Conversation key={place.room} room={place.room} jump={place.seq} />;
    case "people":
      return <People />;
    case "channels":
      return <Directory />;
    case "invite":
      return <InvitePage code={place.code} />;
    default:
      return <Nothing />;
  }
}

function SkipLink() {
  const t = useT();
  return (
    <a
      className="skip"
      href="#middle"
      onClick={(e) => {
        e.preventDefault();
        document.querySelector<HTMLElement>(".middle textarea, .middle main button, .middle main a")?.focus();
      }}
    >
      {t("skip")}
    </a>
  );
}

function Side() {
  const t = useT();
  const dispatch = useAppDispatch();
  return (
    <nav className="side" aria-label={t("nav.title")}>
      <h1 className="unseen">Hubbub</h1>
      <header className="side-head">
        <Oneself />
        <IconButton icon="search" label={t("switcher.title")} keys={MAC ? "⌘K" : "Ctrl+K"} onClick={() => dispatch(dialogSet({ name: "switcher" }))} />
        <MenuButton
          icon="plus"
          label={t("new.title")}
          items={[
            { label: t("new.direct"), icon: "person", onChoose: () => dispatch(dialogSet({ name: "newDirect" })) },
            { label: t("new.room"), icon: "group", onChoose: () => dispatch(dialogSet({ name: "newRoom" })) },
            { label: t("channels.browse"), icon: "hash", onChoose: () => go({ at: "channels" }) },
          ]}
        />
      </header>
      <div className="side-rooms"><RoomList /></div>
      <SideFoot />
    </nav>
  );
}

function SideFoot() {
  const t = useT();
  const dispatch = useAppDispatch();
  const at = useAppSelector((s) => s.ui.place.at);
  const asking = useAppSelector((s) => Object.values(s.people.contacts).filter((c) => c === "pending").length);
  return (
    <footer className="side-foot">
      <button type="button" className="side-link" aria-current={at === "people" ? "page" : undefined} onClick={() => go({ at: "people" })}>
        <Icon name="person" small /> {t("people.title")}
        {asking > 0 && <span className="badge accent"><span aria-hidden="true">{asking}</span><span className="unseen">{t("people.asking", { count: asking })}</span></span>}
      </button>
      <button type="button" className="side-link" aria-current={at === "channels" ? "page" : undefined} onClick={() => go({ at: "channels" })}>
        <Icon name="hash" small /> {t("channels.title")}
      </button>
      <IconButton icon="help" label={t("shortcuts.title")} keys="?" onClick={() => dispatch(dialogSet({ name: "shortcuts" }))} />
    </footer>
  );
}

function Oneself() {
  const t = useT();
  const chat = useChat();
  const dispatch = useAppDispatch();
  const me = useAppSelector((s) => s.people.byId[chat.me.user]);
  const presence = useAppSelector((s) => s.people.presence[chat.me.user]?.state);
  const connected = useAppSelector((s) => s.connection.state === "connected");
  const name = called(me, chat.me.name);
  return (
    <button type="button" className="oneself" onClick={() => dispatch(dialogSet({ name: "settings" }))} title={t("settings.title")}>
      <Avatar id={chat.me.user} name={name} picture={me?.avatar_url} size="sm" presence={connected ? (presence ?? "online") : "offline"} />
      <span className="oneself-name"><bdi>{name}</bdi></span>
      <span className="unseen">{t("settings.title")}</span>
    </button>
  );
}

function Nothing() {
  const t = useT();
  const dispatch = useAppDispatch();
  return (
    <main className="conversation nothing">
      <Empty icon="thread" title={t("home.title")}>
        <p>{t("home.hint")}</p>
        <Button icon="search" onClick={() => dispatch(dialogSet({ name: "switcher" }))}>{t("switcher.title")} <kbd>{MAC ? "⌘K" : "Ctrl K"}</kbd></Button>
      </Empty>
    </main>
  );
}
