/** The emoji there are, without those that only modify others, and with what they are found by. */
import compact from "emojibase-data/en/compact.json";

export type Emoji = { emoji: string; label: string; words: string; group: number };

type Raw = { unicode: string; label: string; tags?: string[]; group?: number; order?: number };

/** Emojibase's group 2 holds components only; ours are counted without it. */
const COMPONENTS = 2;

export const EMOJI: readonly Emoji[] = (compact as Raw[])
  .filter((e) => e.group !== undefined && e.group !== COMPONENTS)
  .sort((a, b) => (a.order ?? 0) - (b.order ?? 0))
  .map((e) => ({ emoji: e.unicode, label: e.label, words: [e.label, ...(e.tags ?? [])].join(" ").toLowerCase(), group: (e.group ?? 0) > COMPONENTS ? (e.group ?? 0) - 1 : (e.group ?? 0) }));
