/**
 * Words of the app in every language: one flat table per language, checked by the compiler and by a test to have the same keys.
 *
 * English is part of the first load; other languages come when they are chosen. A text may have plural forms (the browser's own
 * `Intl.PluralRules` picks one by `count`) and places for values: `{name}`.
 */
import { createContext, type ReactNode, useContext, useEffect, useMemo, useState } from "react";
import { en } from "./en";

export type Key = keyof typeof en;
/** A text for each plural form; `other` is always there. */
export type Plural = Partial<Record<Intl.LDMLPluralRule, string>> & { other: string };
export type Messages = Record<Key, string | Plural>;
export type Values = Record<string, string | number>;
export type T = (key: Key, values?: Values) => string;

export const LANGUAGES = { en: { name: "English", dir: "ltr" }, ar: { name: "العربية", dir: "rtl" } } as const;
export type Language = keyof typeof LANGUAGES;

const LOAD: Record<Language, () => Promise<Messages>> = {
  en: () => Promise.resolve(en),
  ar: () => import("./ar").then((m) => m.ar),
};

/** The language to begin with: the first of the browser's that the app has. */
export function preferred(wanted: readonly string[]): Language {
  for (const tag of wanted) {
    const language = tag.toLowerCase().split("-")[0];
    if (language && language in LANGUAGES) return language as Language;
  }
  return "en";
}

/** Makes the function that says things in a language. Counts are written with the language's own digits. */
export function translator(language: Language, messages: Messages): T {
  const rules = new Intl.PluralRules(language);
  const numbers = new Intl.NumberFormat(language);
  return (key, values = {}) => {
    const entry = messages[key];
    const text = typeof entry === "string" ? entry : (entry[rules.select(Number(values.count ?? 0))] ?? entry.other);
    return text.replace(/\{(\w+)\}/g, (whole, name: string) => {
      const value = values[name];
      return value === undefined ? whole : typeof value === "number" ? numbers.format(value) : value;
    });
  };
}

type Spoken = { t: T; language: Language };
const Words = createContext<Spoken>({ t: translator("en", en), language: "en" });

export function I18n({ language, children }: { language: Language; children: ReactNode }) {
  const [messages, setMessages] = useState<{ language: Language; table: Messages }>({ language: "en", table: en });
  useEffect(() => {
    let current = true;
    LOAD[language]().then(
      (table) => current && setMessages({ language, table }),
      // The file could not be had (offline before it was ever loaded): English says it as well.
      () => current && setMessages({ language: "en", table: en }),
    );
    return () => {
      current = false;
    };
  }, [language]);
  useEffect(() => {
    document.documentElement.lang = messages.language;
    document.documentElement.dir = LANGUAGES[messages.language].dir;
  }, [messages.language]);
  const spoken = useMemo(() => ({ t: translator(messages.language, messages.table), language: messages.language }), [messages]);
  return <Words value={spoken}>{children}</Words>;
}

export function useT(): T {
  return useContext(Words).t;
}

export function useLanguage(): Language {
  return useContext(Words).language;
}
