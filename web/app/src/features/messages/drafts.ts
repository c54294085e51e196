/** What one has begun to write, per room: text, what it answers, what it edits. Kept on the device until sent. */
import { createSlice, type PayloadAction } from "@reduxjs/toolkit";

export type Draft = { text: string; replyTo?: number; editing?: number };
export type Drafts = Record<string, Draft>;

const EMPTY: Draft = { text: "" };

/** The key of a room's draft, or of a thread's within it. */
export function draftKey(room: string, thread?: number): string {
  return thread === undefined ? room : `${room}/${thread}`;
}

export const drafts = createSlice({
  name: "drafts",
  initialState: {} as Drafts,
  reducers: {
    draftsRead: (_, { payload }: PayloadAction<Drafts>) => payload,
    drafted(state, { payload: { key, text } }: PayloadAction<{ key: string; text: string }>) {
      const draft: Draft = { ...(state[key] ?? EMPTY), text };
      if (draft.text || draft.replyTo !== undefined || draft.editing !== undefined) state[key] = draft;
      else delete state[key];
    },
    replying(state, { payload }: PayloadAction<{ key: string; seq: number }>) {
      const { text } = state[payload.key] ?? EMPTY;
      const wasEditing = state[payload.key]?.editing !== undefined;
      state[payload.key] = { text: wasEditing ? "" : text, replyTo: payload.seq };
    },
    editing(state, { payload }: PayloadAction<{ key: string; seq: number; text: string }>) {
      state[payload.key] = { text: payload.text, editing: payload.seq };
    },
    replyDropped(state, { payload }: PayloadAction<string>) {
      const text = state[payload]?.text;
      if (text) state[payload] = { text };
      else delete state[payload];
    },
    draftDone(state, { payload }: PayloadAction<string>) {
      delete state[payload];
    },
  },
});

export const { draftsRead, drafted, replying, editing, replyDropped, draftDone } = drafts.actions;

const place = (user: string) => `hubbub.drafts.${user}`;

export function readDrafts(user: string): Drafts {
  try {
    return JSON.parse(localStorage.getItem(place(user)) ?? "{}") as Drafts;
  } catch {
    return {};
  }
}

export function keepDrafts(user: string, all: Drafts) {
  try {
    localStorage.setItem(place(user), JSON.stringify(all));
  } catch {
    // Storage is full or shut: the draft lives as long as the tab.
  }
}

export function forgetDrafts(user: string) {
  localStorage.removeItem(place(user));
}

/** What other tabs write, until the returned function is called. */
export function followDrafts(user: string, tell: (all: Drafts) => void): () => void {
  const heard = (e: StorageEvent) => {
    if (e.key === place(user)) tell(readDrafts(user));
  };
  addEventListener("storage", heard);
  return () => removeEventListener("storage", heard);
}
