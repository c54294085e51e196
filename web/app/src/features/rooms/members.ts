/** The members of a room as far as names are needed: for completion and the panel. Read once when first asked for. */
import { useEffect, useMemo, useState, useSyncExternalStore } from "react";
import type { Member } from "../../api/rest";
import { useAppDispatch, useAppSelector } from "../../app/store";
import { useChat } from "../../chat/context";
import type { Candidate } from "../messages/complete";
import { called, profilesLearnt } from "../people/slice";

export type MembersState = { members: Member[]; state: "unread" | "reading" | "read" | "failed"; error?: unknown };

export function useMemberList(room: string, wanted: boolean, version = 0): MembersState {
  const chat = useChat();
  const dispatch = useAppDispatch();
  const [got, setGot] = useState<MembersState & { room: string }>({ room, members: [], state: "unread" });
  useEffect(() => {
    if (!wanted) return;
    let current = true;
    setGot((g) => (g.room === room ? { ...g, state: "reading" } : { room, members: [], state: "reading" }));
    chat.members(room).then(
      (members) => {
        if (!current) return;
        setGot({ room, members, state: "read" });
        dispatch(profilesLearnt(members.map(({ user, name }) => ({ user, name }))));
      },
      (error: unknown) => current && setGot((g) => ({ ...g, state: "failed", error })),
    );
    return () => {
      current = false;
    };
  }, [chat, dispatch, room, wanted, version]);
  return got;
}

/** Who may be mentioned in a room. */
export function useMembers(room: string, wanted: boolean): readonly Candidate[] {
  const { members } = useMemberList(room, wanted);
  const byId = useAppSelector((s) => s.people.byId);
  return useMemo(() => members.map((m) => ({ user: m.user, name: m.name, shown: called(byId[m.user], m.name) })), [members, byId]);
}

/** A number that changes when something happens in a room: somebody came, went, or got another role; its settings changed. */
export function useHappenings(room: string): number {
  const chat = useChat();
  const happened = useMemo(() => chat.happened(room), [chat, room]);
  return useSyncExternalStore(happened.subscribe, happened.get);
}
