/** Hands the conversation with the server to the components, with small hooks over it. */
import { createContext, useContext, useEffect, useMemo, useSyncExternalStore } from "react";
import { useAppSelector } from "../app/store";
import { called } from "../features/people/slice";
import type { Chat, Timeline, TimelineView } from "./chat";

const Context = createContext<Chat | null>(null);
export const ChatProvider = Context.Provider;

/** The conversation. Only below the sign-in. */
export function useChat(): Chat {
  const chat = useContext(Context);
  if (!chat) throw new Error("useChat is for what is shown to who is signed in");
  return chat;
}

export function useTimeline(room: string): [TimelineView, Timeline] {
  const chat = useChat();
  const timeline = useMemo(() => chat.timeline(room), [chat, room]);
  const view = useSyncExternalStore(timeline.subscribe, timeline.view);
  return [view, timeline];
}

/** What to call a user; asks for the name when it is not known yet. */
export function useName(user: string): string {
  const chat = useChat();
  const profile = useAppSelector((s) => s.people.byId[user]);
  useEffect(() => {
    if (!profile) chat.needProfiles([user]);
  }, [chat, profile, user]);
  if (user === chat.me.user && !profile) return chat.me.name;
  return called(profile, "…");
}

/** A room's name: its own, or the other's in a direct room. */
export function useRoomName(room: { kind: string; name: string; peer?: string | undefined } | undefined): string {
  const peer = useName(room?.peer ?? "0");
  return room?.kind === "direct" ? peer : (room?.name ?? "");
}

export function useTypists(room: string): readonly string[] {
  const chat = useChat();
  const typists = useMemo(() => chat.typists(room), [chat, room]);
  return useSyncExternalStore(typists.subscribe, typists.get);
}
