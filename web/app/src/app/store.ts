/** The app's state, one slice a noun. The rooms and what is in them come from the client (`chat/feed.ts` dispatches what it tells). */
import { configureStore } from "@reduxjs/toolkit";
import { type TypedUseSelectorHook, useDispatch, useSelector, useStore } from "react-redux";
import { connection } from "../features/connection/slice";
import { drafts } from "../features/messages/drafts";
import { people } from "../features/people/slice";
import { rooms } from "../features/rooms/slice";
import { session } from "../features/session/slice";
import { ui } from "./ui";

export function makeStore() {
  return configureStore({
    reducer: {
      session: session.reducer,
      connection: connection.reducer,
      ui: ui.reducer,
      rooms: rooms.reducer,
      people: people.reducer,
      drafts: drafts.reducer,
    },
  });
}

export type Store = ReturnType<typeof makeStore>;
export type State = ReturnType<Store["getState"]>;
export type Dispatch = Store["dispatch"];

export const useAppDispatch = useDispatch.withTypes<Dispatch>();
export const useAppSelector: TypedUseSelectorHook<State> = useSelector;
export const useAppStore = useStore.withTypes<Store>();
