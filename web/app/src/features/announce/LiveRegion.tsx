/**
 * What screen readers are told, in a region that is always there. The list of messages is virtual: its rows come and go with scrolling, so
 * it is no live region; what arrives in the open room is said here, a burst of it as a number.
 */
import { useEffect, useRef, useState } from "react";
import { useAppSelector } from "../../app/store";

export function LiveRegion() {
  const said = useAppSelector((s) => s.ui.said);
  const [texts, setTexts] = useState<{ id: number; text: string }[]>([]);
  const last = useRef(0);
  useEffect(() => {
    if (!said.text || said.id === last.current) return;
    last.current = said.id;
    setTexts((t) => [...t, said].slice(-3));
  }, [said]);
  return (
    <div className="unseen" role="log" aria-live="polite" aria-relevant="additions">
      {texts.map((t) => (
        <p key={t.id}>{t.text}</p>
      ))}
    </div>
  );
}
