/** Who is signed in, and why no longer. */
import { createSlice, type PayloadAction } from "@reduxjs/toolkit";
import { rememberedWho, type Who } from "../../api/auth";

export type SessionState = { who: Who | null; ended: string | null };

export const session = createSlice({
  name: "session",
  initialState: (): SessionState => ({ who: typeof localStorage === "undefined" ? null : (rememberedWho() ?? null), ended: null }),
  reducers: {
    signedIn(state, { payload }: PayloadAction<Who>) {
      state.who = { user: payload.user, name: payload.name, device: payload.device };
      state.ended = null;
    },
    signedOut(state, { payload }: PayloadAction<string>) {
      state.who = null;
      state.ended = payload;
    },
  },
});

export const { signedIn, signedOut } = session.actions;
