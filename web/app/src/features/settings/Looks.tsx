/** Theme and language. */
import { useAppDispatch, useAppSelector } from "../../app/store";
import { languageSet, type Theme, themeSet } from "../../app/ui";
import { Select } from "../../design/controls";
import { type Language, LANGUAGES, useT } from "../../i18n";

const THEMES: Theme[] = ["system", "light", "dark"];

export function Looks() {
  const t = useT();
  const dispatch = useAppDispatch();
  const { theme, language } = useAppSelector((s) => s.ui);
  const languages = (Object.keys(LANGUAGES) as Language[]).map((value) => ({ value, label: LANGUAGES[value].name }));
  return (
    <>
      <Select label={t("looks.theme")} value={theme} options={THEMES.map((value) => ({ value, label: t(`looks.${value}`) }))} onChange={(x) => dispatch(themeSet(x))} />
      <Select label={t("looks.language")} value={language} options={languages} onChange={(x) => dispatch(languageSet(x))} />
    </>
  );
}
