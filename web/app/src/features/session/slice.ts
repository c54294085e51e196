/** Who is signed in, and why no longer. */
import { createSlice, type PayloadAction } from "@reduxjs/toolkit";
import { rememberedWho, type Who } from "../../api/auth";

export type SessionState = { who: Who | null; ended: string | null };

export const session = createSlice({
  name: "session",
  initialState: (): SessionState => ({ who: typeof localStorage === "undefined" ? null : (rememberedWho() ?? null), ended: null }),
  reducers: {
    signedIn(state, { payload }: PayloadAction<Who>) {
      const { user, name, device } = payload;
      // Renewed for the one who is in: the same object stays, or the conversation would begin anew with every token.
      if (state.who?.user !== user || state.who.name !== name || state.who.device !== device) state.who = { user, name, device };
      state.ended = null;
    },
    signedOut(state, { payload }: PayloadAction<string>) {
      state.who = null;
      state.ended = payload;
    },
  },
});

export const { signedIn, signedOut } = session.actions;
