/** How the app stands to the server, as people are told. */
import { createSlice, type PayloadAction } from "@reduxjs/toolkit";
import type { Connection } from "../../chat/types";

export type ConnectionState = Connection & {
  /** It was connected before: what comes is a reconnection. */
  wasConnected: boolean;
  /** Counts the times that everything missed had arrived, so that it can be said once each. */
  caughtUpTimes: number;
  /** Messages that wait to be sent. */
  waiting: number;
};

export const connection = createSlice({
  name: "connection",
  initialState: (): ConnectionState => ({ state: "connecting", caughtUp: false, wasConnected: false, caughtUpTimes: 0, waiting: 0 }),
  reducers: {
    connectionChanged(state, { payload }: PayloadAction<Connection>) {
      if (payload.caughtUp && !state.caughtUp) state.caughtUpTimes++;
      if (payload.state === "connected") state.wasConnected = true;
      state.state = payload.state;
      state.caughtUp = payload.caughtUp;
    },
    waitingChanged(state, { payload }: PayloadAction<number>) {
      state.waiting = payload;
    },
  },
});

export const { connectionChanged, waitingChanged } = connection.actions;
