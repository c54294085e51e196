/** The rooms one is in, as the client tells them. */
import { createSelector, createSlice, type PayloadAction } from "@reduxjs/toolkit";
import type { NotifyLevel } from "../../api/rest";
import type { Room } from "../../chat/types";

export type RoomsState = {
  byId: Record<string, Room>;
  /** The list has been read, from the device or the server: an empty one is empty. */
  known: boolean;
  levels: Record<string, NotifyLevel>;
};

export const rooms = createSlice({
  name: "rooms",
  initialState: (): RoomsState => ({ byId: {}, known: false, levels: {} }),
  reducers: {
    roomsChanged(state, { payload }: PayloadAction<Room[]>) {
      state.byId = Object.fromEntries(payload.map((r) => [r.room, r]));
      state.known = true;
    },
    levelsLearnt(state, { payload }: PayloadAction<{ room: string; level: NotifyLevel }[]>) {
      for (const { room, level } of payload) state.levels[room] = level;
    },
    levelSet(state, { payload }: PayloadAction<{ room: string; level: NotifyLevel }>) {
      state.levels[payload.room] = payload.level;
    },
  },
});

export const { roomsChanged, levelsLearnt, levelSet } = rooms.actions;

/** Newest activity first; the same order for the same rooms. */
export function inOrder(all: Record<string, Room>): Room[] {
  return Object.values(all).sort((a, b) => b.at - a.at || (a.room < b.room ? -1 : 1));
}

export const selectRooms = createSelector([(s: { rooms: RoomsState }) => s.rooms.byId], inOrder);

export const selectTotals = createSelector([(s: { rooms: RoomsState }) => s.rooms.byId], (all) => {
  const rooms = Object.values(all);
  return {
    unread: rooms.filter((r) => r.unread > 0).length,
    urgent: rooms.reduce((sum, r) => sum + (r.kind === "direct" ? r.unread : r.mentions), 0),
  };
});

/** The next room with something unread, from where one is, down (1) or up (-1) the list; mentions are not preferred: order is. */
export function nextUnread(list: readonly Room[], from: string | undefined, step: 1 | -1): Room | undefined {
  const at = list.findIndex((r) => r.room === from);
  for (let i = 1; i <= list.length; i++) {
    const room = list[(((at < 0 && step < 0 ? 0 : at) + i * step) % list.length + list.length) % list.length];
    if (room && room.unread > 0 && room.room !== from) return room;
  }
  return undefined;
}
