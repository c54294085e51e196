/** Times as people say them. All formatters are made once per language: making one costs more than using it a thousand times. */
import { useMemo } from "react";
import { type Language, useLanguage, useT } from ".";

/** The language with the browser's own region, when it has one: it decides between 24 hours and 12. */
function withRegion(language: Language): string {
  return navigator.languages.find((l) => l.toLowerCase().split("-")[0] === language) ?? language;
}

function make(tag: string) {
  const form = (options: Intl.DateTimeFormatOptions) => new Intl.DateTimeFormat(tag, options);
  const unit = (unit: string) => new Intl.NumberFormat(tag, { style: "unit", unit, unitDisplay: "long" });
  return {
    time: form({ hour: "2-digit", minute: "2-digit" }),
    day: form({ weekday: "long", month: "long", day: "numeric" }),
    dayYear: form({ weekday: "long", year: "numeric", month: "long", day: "numeric" }),
    short: form({ month: "short", day: "numeric" }),
    weekday: form({ weekday: "short" }),
    full: form({ dateStyle: "full", timeStyle: "short" }),
    units: { second: unit("second"), minute: unit("minute"), hour: unit("hour") },
    relative: new Intl.RelativeTimeFormat(tag, { numeric: "auto" }),
  };
}

const made = new Map<Language, ReturnType<typeof make>>();
function formatters(language: Language) {
  const known = made.get(language) ?? make(withRegion(language));
  made.set(language, known);
  return known;
}

/** Days between two times by the calendar of where one is, not by 24 hours. */
export function daysBetween(from: number, to: number): number {
  const midnight = (at: number) => new Date(at).setHours(0, 0, 0, 0);
  return Math.round((midnight(to) - midnight(from)) / 86_400_000);
}

export function sameDay(a: number, b: number): boolean {
  return daysBetween(a, b) === 0;
}

/** Stands by itself, so it begins as a sentence does. */
function capital(text: string, language: Language): string {
  const [first = ""] = text;
  return first.toLocaleUpperCase(language) + text.slice(first.length);
}

export function useDates() {
  const language = useLanguage();
  const t = useT();
  return useMemo(() => {
    const f = formatters(language);
    return {
      time: (at: number) => f.time.format(at),
      full: (at: number) => f.full.format(at),
      /** For separators: today, yesterday, or the day. */
      day(at: number, now = Date.now()) {
        const ago = daysBetween(at, now);
        if (ago === 0 || ago === 1) return capital(f.relative.format(-ago, "day"), language);
        return (new Date(at).getFullYear() === new Date(now).getFullYear() ? f.day : f.dayYear).format(at);
      },
      /** For lists: as short as it can be said. */
      brief(at: number, now = Date.now()) {
        const ago = daysBetween(at, now);
        return (ago === 0 ? f.time : ago < 7 ? f.weekday : f.short).format(at);
      },
      /** A length of time, in its largest whole unit. */
      span(seconds: number) {
        if (seconds % 3_600 === 0) return f.units.hour.format(seconds / 3_600);
        return seconds % 60 === 0 ? f.units.minute.format(seconds / 60) : f.units.second.format(seconds);
      },
      /** When something ends: the time today, else with the day. */
      until: (at: number, now = Date.now()) => (sameDay(at, now) ? f.time : f.full).format(at),
      /** How long ago somebody was seen. */
      seen(at: number, now = Date.now()) {
        const minutes = Math.round((now - at) / 60_000);
        if (minutes < 1) return t("seen.now");
        if (minutes < 60) return f.relative.format(-minutes, "minute");
        if (minutes < 60 * 24) return f.relative.format(-Math.round(minutes / 60), "hour");
        return f.relative.format(-daysBetween(at, now), "day");
      },
    };
  }, [language, t]);
}
