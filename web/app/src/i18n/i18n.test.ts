import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type Key, type Language, LANGUAGES, type Messages, preferred, translator } from ".";
import { ar } from "./ar";
import { en } from "./en";

const TABLES: Record<Language, Messages> = { en, ar };
const places = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map((m) => m[1]).sort();

test("every language has every key, and no other", () => {
  for (const language of Object.keys(LANGUAGES) as Language[]) expect(Object.keys(TABLES[language]).sort(), language).toEqual(Object.keys(en).sort());
});

test("every text is there, and has the values of the English one", () => {
  for (const [language, table] of Object.entries(TABLES)) {
    for (const [key, entry] of Object.entries(table)) {
      const wanted = en[key as Key] as string | { other: string };
      const forms = typeof entry === "string" ? [entry] : [entry.other];
      for (const text of forms) {
        expect(text.trim(), `${language} ${key}`).not.toBe("");
        expect(places(text), `${language} ${key}`).toEqual(places(typeof wanted === "string" ? wanted : wanted.other));
      }
    }
  }
});

test("every plural has the forms that its language uses for whole numbers", () => {
  for (const [language, table] of Object.entries(TABLES)) {
    const rules = new Intl.PluralRules(language);
    const used = new Set([1, 2, 3, 11, 100].map((n) => rules.select(n)));
    for (const [key, entry] of Object.entries(table)) {
      if (typeof entry !== "string") expect(Object.keys(entry), `${language} ${key}`).toEqual(expect.arrayContaining([...used]));
    }
  }
});

test("no key is there that nothing uses", () => {
  const sources = (dir: string): string[] =>
    readdirSync(dir, { withFileTypes: true }).flatMap((f) => (f.isDirectory() ? sources(join(dir, f.name)) : /\.tsx?$/.test(f.name) && !/\/i18n$/.test(dir) ? [readFileSync(join(dir, f.name), "utf8")] : []));
  const code = sources(join(import.meta.dirname, "..")).join("\n") + readFileSync(join(import.meta.dirname, "dates.ts"), "utf8");
  // Those that are put together from a name: their beginning stands in a template.
  const composed = [...code.matchAll(/`([a-z]+\.)\$\{/g)].map((m) => m[1] ?? "");
  const unused = Object.keys(en).filter((k) => !code.includes(`"${k}"`) && !composed.some((c) => k.startsWith(c)));
  expect(unused).toEqual([]);
});

test("counts choose the form and are written with the language's digits", () => {
  expect(translator("en", en)("members.count", { count: 1 })).toBe("1 member");
  expect(translator("en", en)("members.count", { count: 1234 })).toBe("1,234 members");
  expect(translator("ar", ar)("members.count", { count: 2 })).toBe("عضوان");
});

test("the first language of the browser's that the app has is taken", () => {
  expect([preferred(["fr", "ar-EG", "en"]), preferred(["de"]), preferred(["en-GB"])]).toEqual(["ar", "en", "en"]);
});
