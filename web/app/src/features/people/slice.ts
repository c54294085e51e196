/** People: what is known of them, how one stands to them, how they are. */
import { createSlice, type PayloadAction } from "@reduxjs/toolkit";
import type { Contact, ContactState, PresenceShown, Profile } from "../../api/rest";

export type PeopleState = {
  byId: Record<string, Profile>;
  contacts: Record<string, ContactState>;
  contactsKnown: boolean;
  presence: Record<string, PresenceShown>;
};

export const people = createSlice({
  name: "people",
  initialState: (): PeopleState => ({ byId: {}, contacts: {}, contactsKnown: false, presence: {} }),
  reducers: {
    profilesLearnt(state, { payload }: PayloadAction<Profile[]>) {
      for (const p of payload) state.byId[p.user] = { ...state.byId[p.user], ...p };
    },
    contactsLearnt(state, { payload }: PayloadAction<Contact[]>) {
      state.contacts = Object.fromEntries(payload.map((c) => [c.user, c.state]));
      state.contactsKnown = true;
      for (const { state: _, ...p } of payload) state.byId[p.user] = { ...state.byId[p.user], ...p };
    },
    contactChanged(state, { payload }: PayloadAction<{ user: string; state: ContactState | null }>) {
      if (payload.state) state.contacts[payload.user] = payload.state;
      else delete state.contacts[payload.user];
    },
    presenceTold(state, { payload }: PayloadAction<PresenceShown[]>) {
      for (const p of payload) state.presence[p.user] = p;
    },
    /** Offline oneself, nothing is known of how others are. */
    presenceUnknown(state) {
      state.presence = {};
    },
  },
});

export const { profilesLearnt, contactsLearnt, contactChanged, presenceTold, presenceUnknown } = people.actions;

/** What somebody is called: the name they chose to be shown by, else the account's. */
export function called(p: Profile | undefined, or: string): string {
  return p?.display_name || p?.name || or;
}
