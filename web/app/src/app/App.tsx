/** The app: who is not signed in sees the door, who is sees the conversation, which is loaded then. */
import { lazy, Suspense, useEffect, useMemo } from "react";
import { Account } from "../api/auth";
import { LiveRegion } from "../features/announce/LiveRegion";
import { Toasts } from "../features/announce/Toasts";
import { SignIn } from "../features/session/SignIn";
import { signedIn, signedOut } from "../features/session/slice";
import { I18n } from "../i18n";
import { useAppDispatch, useAppSelector } from "./store";
import { keepLooks } from "./ui";

const Inside = lazy(() => import("./Inside"));

export function App() {
  const dispatch = useAppDispatch();
  const language = useAppSelector((s) => s.ui.language);
  const who = useAppSelector((s) => s.session.who);
  const account = useMemo(() => new Account((who) => dispatch(signedIn(who)), (why) => dispatch(signedOut(why))), [dispatch]);
  // Links of mails are followed by whoever opens them, signed in or not.
  const byMail = useAppSelector((s) => s.ui.place.at === "reset" || s.ui.place.at === "verify");
  useLooks();
  return (
    <I18n language={language}>
      {who && !byMail ? (
        <Suspense fallback={<div className="shell" aria-busy="true" />}>
          <Inside key={who.user} who={who} account={account} />
        </Suspense>
      ) : (
        <SignIn account={account} />
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
