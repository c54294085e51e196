/** The app: who is not signed in sees the door, who is sees the conversation, which is loaded then. */
import { lazy, Suspense, useEffect, useMemo } from "react";
import { type Session, Tokens } from "../api/auth";
import { LiveRegion } from "../features/announce/LiveRegion";
import { Toasts } from "../features/announce/Toasts";
import { SignIn } from "../features/session/SignIn";
import { signedIn, signedOut } from "../features/session/slice";
import { I18n } from "../i18n";
import { useAppDispatch, useAppSelector, useAppStore } from "./store";
import { keepLooks } from "./ui";

const Inside = lazy(() => import("./Inside"));

export function App() {
  const store = useAppStore();
  const dispatch = useAppDispatch();
  const language = useAppSelector((s) => s.ui.language);
  const who = useAppSelector((s) => s.session.who);
  const tokens = useMemo(() => new Tokens((why) => dispatch(signedOut(why)), (session) => dispatch(signedIn(session))), [dispatch]);
  useLooks();
  const onSession = (session: Session) => {
    tokens.begin(session);
    store.dispatch(signedIn(session));
  };
  return (
    <I18n language={language}>
      {who ? (
        <Suspense fallback={<div className="shell" aria-busy="true" />}>
          <Inside key={who.user} who={who} tokens={tokens} />
        </Suspense>
      ) : (
        <SignIn onSession={onSession} />
      )}
      <Toasts />
      <LiveRegion />
    </I18n>
  );
}

/** The theme on the page, and looks kept for the next start. */
function useLooks() {
  const ui = useAppSelector((s) => s.ui);
  const { theme, language } = ui;
  useEffect(() => {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const apply = () => {
      document.documentElement.dataset.theme = theme === "system" ? (dark.matches ? "dark" : "light") : theme;
    };
    apply();
    dark.addEventListener("change", apply);
    return () => dark.removeEventListener("change", apply);
  }, [theme]);
  useEffect(() => keepLooks({ theme, language }), [theme, language]);
}
