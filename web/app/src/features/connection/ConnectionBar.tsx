/** Says how it stands with the server, when that is not as it should be, and for a moment when it is again. */
import { useEffect, useState } from "react";
import { useAppDispatch, useAppSelector } from "../../app/store";
import { announced } from "../../app/ui";
import { useChat } from "../../chat/context";
import { Icon } from "../../design/Icon";
import { type Key, useT } from "../../i18n";

/** A hiccup shorter than this is not worth a word. */
const PATIENCE_MS = 1_200;
const GOOD_NEWS_MS = 2_500;

export function ConnectionBar() {
  const t = useT();
  const chat = useChat();
  const dispatch = useAppDispatch();
  const { state, caughtUp, wasConnected, caughtUpTimes, waiting } = useAppSelector((s) => s.connection);
  const online = useOnline();
  const word: Key | "" = caughtUp ? (waiting > 0 ? "connection.sending" : "") : !online ? "connection.offline" : state === "connected" ? "connection.catchingUp" : state === "closed" ? "connection.closed" : wasConnected ? "connection.reconnecting" : "connection.connecting";
  const shown = useDelayed(word, PATIENCE_MS);
  const [news, setNews] = useState(false);
  useEffect(() => {
    if (caughtUpTimes < 2) return;
    setNews(true);
    dispatch(announced(t("connection.back")));
    const timer = setTimeout(() => setNews(false), GOOD_NEWS_MS);
    return () => clearTimeout(timer);
  }, [caughtUpTimes, dispatch, t]);
  useEffect(() => {
    if (shown) dispatch(announced(t(shown)));
  }, [shown, dispatch, t]);
  if (!shown) return news ? <div className="connection good"><Icon name="check" small /><span>{t("connection.back")}</span></div> : null;
  return (
    <div className="connection" data-state={state}>
      <Icon name={online ? "clock" : "warn"} small />
      <span>{t(shown)}{!caughtUp && waiting > 0 && ` ${t("connection.waiting", { count: waiting })}`}</span>
      {state !== "connected" && online && <button type="button" onClick={() => chat.reconnect()}>{t("connection.now")}</button>}
    </div>
  );
}

function useOnline(): boolean {
  const [online, setOnline] = useState(navigator.onLine);
  useEffect(() => {
    const look = () => setOnline(navigator.onLine);
    addEventListener("online", look);
    addEventListener("offline", look);
    return () => {
      removeEventListener("online", look);
      removeEventListener("offline", look);
    };
  }, []);
  return online;
}

/** The value, but a new one only after it lasted; nothing is at once nothing. */
function useDelayed<V extends string>(value: V, ms: number): V | "" {
  const [lasted, setLasted] = useState<V | "">("");
  useEffect(() => {
    if (!value) {
      setLasted("");
      return;
    }
    const timer = setTimeout(() => setLasted(value), ms);
    return () => clearTimeout(timer);
  }, [value, ms]);
  return value && lasted;
}
