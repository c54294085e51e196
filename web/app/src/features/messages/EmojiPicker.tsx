/** The emoji picker: a chunk of its own, with the Unicode emoji and their English names. A grid that arrows walk through. */
import { type KeyboardEvent, useMemo, useRef, useState } from "react";
import { type Key, useT } from "../../i18n";
import { EMOJI, type Emoji } from "./emoji";

const GROUPS: Key[] = ["emoji.smileys", "emoji.people", "emoji.nature", "emoji.food", "emoji.travel", "emoji.activities", "emoji.objects", "emoji.symbols", "emoji.flags"];
const COLUMNS = 8;
const FOUND_MAX = 96;
const RECENT = "hubbub.emoji";
const RECENT_MAX = 16;

function recent(): string[] {
  try {
    return (JSON.parse(localStorage.getItem(RECENT) ?? "[]") as string[]).slice(0, RECENT_MAX);
  } catch {
    return [];
  }
}

export default function EmojiPicker({ onPick }: { onPick: (emoji: string) => void }) {
  const t = useT();
  const [wanted, setWanted] = useState("");
  const [group, setGroup] = useState(0);
  const grid = useRef<HTMLDivElement>(null);
  const used = useMemo(recent, []);
  const shown: Emoji[] = useMemo(() => {
    const q = wanted.trim().toLowerCase();
    if (q) return EMOJI.filter((e) => e.words.includes(q)).slice(0, FOUND_MAX);
    return EMOJI.filter((e) => e.group === group);
  }, [wanted, group]);

  const pick = (emoji: string) => {
    try {
      localStorage.setItem(RECENT, JSON.stringify([emoji, ...used.filter((e) => e !== emoji)].slice(0, RECENT_MAX)));
    } catch {
      // Storage is shut: nothing is recent.
    }
    onPick(emoji);
  };
  const walk = (e: KeyboardEvent) => {
    const all = [...(grid.current?.querySelectorAll<HTMLElement>("button") ?? [])];
    const at = all.indexOf(document.activeElement as HTMLElement);
    const side = document.dir === "rtl" ? -1 : 1;
    const by = { ArrowRight: side, ArrowLeft: -side, ArrowDown: COLUMNS, ArrowUp: -COLUMNS }[e.key];
    if (by === undefined || at < 0) return;
    e.preventDefault();
    all[at + by]?.focus();
  };
  const cell = (emoji: string, label: string) => (
    <button key={emoji} type="button" title={label} aria-label={label} onClick={() => pick(emoji)}>
      {emoji}
    </button>
  );
  return (
    <div className="picker">
      <input
        className="input"
        type="search"
        autoFocus
        placeholder={t("emoji.search")}
        aria-label={t("emoji.search")}
        value={wanted}
        onChange={(e) => setWanted(e.target.value)}
        onKeyDown={(e) => {
          if (e.key === "Enter" && shown[0]) {
            e.preventDefault();
            pick(shown[0].emoji);
          } else if (e.key === "ArrowDown") {
            e.preventDefault();
            grid.current?.querySelector<HTMLElement>("button")?.focus();
          }
        }}
      />
      {!wanted && (
        <div className="picker-tabs" role="group" aria-label={t("emoji.groups")}>
          {GROUPS.map((key, i) => (
            <button key={key} type="button" aria-pressed={i === group} title={t(key)} aria-label={t(key)} onClick={() => setGroup(i)}>
              {EMOJI.find((e) => e.group === i)?.emoji}
            </button>
          ))}
        </div>
      )}
      <div className="picker-grid" ref={grid} onKeyDown={walk}>
        {!wanted && group === 0 && used.length > 0 && (
          <>
            <h2>{t("emoji.recent")}</h2>
            <div className="picker-cells">{used.map((e) => cell(e, e))}</div>
          </>
        )}
        <h2>{wanted ? t("emoji.found", { count: shown.length }) : t(GROUPS[group] ?? "emoji.smileys")}</h2>
        <div className="picker-cells">{shown.map((e) => cell(e.emoji, e.label))}</div>
      </div>
    </div>
  );
}
