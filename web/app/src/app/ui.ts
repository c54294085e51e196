/** Where one is in the app, what is open, and how it looks. */
import { createSlice, type PayloadAction } from "@reduxjs/toolkit";
import { type Language, preferred } from "../i18n";
import { type Place, parse } from "./routes";

export type Theme = "system" | "light" | "dark";
export type Panel = { show: "info" } | { show: "pins" } | { show: "thread"; root: number };
export type DialogName =
  | { name: "newDirect" }
  | { name: "newRoom" }
  | { name: "switcher" }
  | { name: "shortcuts" }
  | { name: "settings"; tab?: string }
  | { name: "readers"; room: string; seq: number }
  | { name: "delete"; room: string; seq: number }
  | { name: "report"; room: string; seq: number }
  | { name: "profile"; user: string };
export type Toast = { id: number; text: string; kind: "info" | "bad" };

export type Ui = {
  place: Place;
  panel: Panel | null;
  dialog: DialogName | null;
  theme: Theme;
  language: Language;
  toasts: Toast[];
  /** What screen readers are told next; the number makes the same words twice two announcements. */
  said: { text: string; id: number };
};

/** Toasts at once; older ones give way. */
const TOASTS_MAX = 3;
const LOOKS = "hubbub.looks";

function kept(): Partial<Pick<Ui, "theme" | "language">> {
  try {
    return JSON.parse(localStorage.getItem(LOOKS) ?? "{}") as Partial<Ui>;
  } catch {
    return {};
  }
}

/** Keeps how it looks for the next start. */
export function keepLooks({ theme, language }: Pick<Ui, "theme" | "language">) {
  try {
    localStorage.setItem(LOOKS, JSON.stringify({ theme, language }));
  } catch {
    // Storage is shut: the next start begins with what the system prefers.
  }
}

function initial(): Ui {
  const looks = typeof localStorage === "undefined" ? {} : kept();
  const browser = typeof navigator === "undefined" ? [] : navigator.languages;
  const place: Place = typeof location === "undefined" ? { at: "home" } : parse(location.pathname, location.hash);
  return { place, panel: null, dialog: null, theme: looks.theme ?? "system", language: looks.language ?? preferred(browser), toasts: [], said: { text: "", id: 0 } };
}

let toasts = 0;

export const ui = createSlice({
  name: "ui",
  initialState: initial,
  reducers: {
    went(state, { payload }: PayloadAction<Place>) {
      const sameRoom = state.place.at === "room" && payload.at === "room" && state.place.room === payload.room;
      state.place = payload;
      if (!sameRoom) state.panel = null;
      state.dialog = null;
    },
    panelSet(state, { payload }: PayloadAction<Panel | null>) {
      state.panel = payload;
    },
    dialogSet(state, { payload }: PayloadAction<DialogName | null>) {
      state.dialog = payload;
    },
    themeSet(state, { payload }: PayloadAction<Theme>) {
      state.theme = payload;
    },
    languageSet(state, { payload }: PayloadAction<Language>) {
      state.language = payload;
    },
    toasted: {
      prepare: (text: string, kind: Toast["kind"] = "info") => ({ payload: { id: ++toasts, text, kind } }),
      reducer(state, { payload }: PayloadAction<Toast>) {
        state.toasts = [...state.toasts, payload].slice(-TOASTS_MAX);
      },
    },
    toastGone(state, { payload }: PayloadAction<number>) {
      state.toasts = state.toasts.filter((t) => t.id !== payload);
    },
    announced(state, { payload }: PayloadAction<string>) {
      state.said = { text: payload, id: state.said.id + 1 };
    },
  },
});

export const { went, panelSet, dialogSet, themeSet, languageSet, toasted, toastGone, announced } = ui.actions;
