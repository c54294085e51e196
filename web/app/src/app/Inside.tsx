/** What is there for who is signed in: the conversation with the server, drafts, keys, and the frame around it all. */
import "./inside.css";
import { useEffect, useRef, useState } from "react";
import type { Account, Who } from "../api/auth";
import type { Chat } from "../chat/chat";
import { connect } from "../chat/connect";
import { ChatProvider, useRoomName } from "../chat/context";
import { forgetProfiles } from "../chat/profiles";
import { draftsRead, followDrafts, forgetDrafts, keepDrafts, readDrafts } from "../features/messages/drafts";
import { forgetPush } from "../features/push/push";
import { followWorker } from "../features/push/worker";
import { selectTotals } from "../features/rooms/slice";
import { useT } from "../i18n";
import { useKeys } from "./keys";
import { Shell } from "./Shell";
import { useAppDispatch, useAppSelector, useAppStore } from "./store";

export default function Inside({ who, account }: { who: Who; account: Account }) {
  const store = useAppStore();
  const t = useT();
  const words = useRef(t);
  words.current = t;
  const [chat, setChat] = useState<Chat | null>(null);
  useEffect(() => {
    const made = connect(who, account, store, () => words.current);
    setChat(made);
    return () => {
      // Gone because the session is over: nothing of it stays on the device.
      const over = store.getState().session.who === null;
      if (over) {
        forgetDrafts(who.user);
        forgetProfiles(who.user);
        void forgetPush();
      }
      void made.close(over);
    };
  }, [who, account, store]);
  useDrafts(who.user);
  useEffect(() => followWorker(), []);
  if (!chat) return null;
  return (
    <ChatProvider value={chat}>
      <Keyed />
    </ChatProvider>
  );
}

function Keyed() {
  useKeys();
  useTitle();
  return <Shell />;
}

/** Drafts from the device, to the device, and from other tabs. */
function useDrafts(user: string) {
  const dispatch = useAppDispatch();
  const all = useAppSelector((s) => s.drafts);
  const read = useRef(false);
  useEffect(() => {
    dispatch(draftsRead(readDrafts(user)));
    read.current = true;
    return followDrafts(user, (theirs) => dispatch(draftsRead(theirs)));
  }, [dispatch, user]);
  useEffect(() => {
    if (read.current) keepDrafts(user, all);
  }, [user, all]);
}

/** Where one is and how much is unread, in the tab's title and on the app's icon. */
function useTitle() {
  const { urgent, unread } = useAppSelector(selectTotals);
  const room = useAppSelector((s) => (s.ui.place.at === "room" ? s.rooms.byId[s.ui.place.room] : undefined));
  const name = useRoomName(room);
  useEffect(() => {
    const mark = urgent > 0 ? `(${urgent}) ` : unread > 0 ? "• " : "";
    document.title = mark + (name ? `${name} · Hubbub` : "Hubbub");
    return () => {
      document.title = "Hubbub";
    };
  }, [urgent, unread, name]);
  useEffect(() => {
    const badge = urgent > 0 ? navigator.setAppBadge?.(urgent) : navigator.clearAppBadge?.();
    badge?.catch(() => undefined); // Not allowed, or not installed: the title says it too.
  }, [urgent]);
}
