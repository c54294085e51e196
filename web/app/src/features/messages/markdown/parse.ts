/**
 * The markdown of chat: a small, fixed part of CommonMark, read into a tree.
 *
 * The tree has no place for HTML, attributes or schemes other than http, https and mailto, so what is drawn from it is safe by construction:
 * nothing is sanitised afterwards. Reading takes time linear in the text's length but for a bounded search for each closing mark.
 */

export type Inline =
  | { kind: "text"; text: string }
  | { kind: "break" }
  | { kind: "code"; text: string }
  | { kind: "strong" | "em" | "strike"; of: Inline[] }
  | { kind: "link"; href: string; of: Inline[] }
  | { kind: "mention"; name: string };

export type Block =
  | { kind: "paragraph"; of: Inline[] }
  | { kind: "code"; language: string; text: string }
  | { kind: "quote"; of: Block[] }
  | { kind: "list"; ordered: boolean; start: number; items: Inline[][] };

/** Quotes within quotes, and marks within marks; deeper ones are text. */
const DEPTH_MAX = 6;
/** How far a closing mark is looked for. */
const SPAN_MAX = 4_000;
/** How many marks that do not close are passed by on the way. */
const PASSED_MAX = 50;

const FENCE = /^\s{0,3}```([\w+#.-]{0,30})\s*$/;
const BULLET = /^\s{0,3}[-*+]\s+(.*)$/;
const NUMBER = /^\s{0,3}(\d{1,6})[.)]\s+(.*)$/;
const QUOTE = /^\s{0,3}>\s?(.*)$/;

/** Reads a message's text. `names` are those that `@name` may mean. */
export function parse(text: string, names: ReadonlySet<string> = new Set()): Block[] {
  return blocks(text.split(/\r\n|\r|\n/), names, 0);
}

function blocks(lines: string[], names: ReadonlySet<string>, depth: number): Block[] {
  const out: Block[] = [];
  let plain: string[] = [];
  const flush = () => {
    if (plain.some((l) => l.trim())) out.push({ kind: "paragraph", of: inline(plain.join("\n").replace(/^\n+|\s+$/g, ""), names, depth) });
    plain = [];
  };
  for (let i = 0; i < lines.length; ) {
    const line = lines[i] ?? "";
    const fence = FENCE.exec(line);
    const close = fence ? lines.findIndex((l, at) => at > i && /^\s{0,3}```\s*$/.test(l)) : -1;
    if (fence && close > i) {
      flush();
      out.push({ kind: "code", language: fence[1] ?? "", text: lines.slice(i + 1, close).join("\n") });
      i = close + 1;
    } else if (QUOTE.test(line) && depth < DEPTH_MAX) {
      flush();
      const inner = take(lines, i, QUOTE);
      out.push({ kind: "quote", of: blocks(inner.map((m) => m[1] ?? ""), names, depth + 1) });
      i += inner.length;
    } else if (BULLET.test(line) || NUMBER.test(line)) {
      flush();
      const ordered = NUMBER.test(line);
      const items = take(lines, i, ordered ? NUMBER : BULLET);
      out.push({ kind: "list", ordered, start: ordered ? Number(items[0]?.[1]) : 1, items: items.map((m) => inline(m[ordered ? 2 : 1] ?? "", names, depth)) });
      i += items.length;
    } else {
      if (line.trim()) plain.push(line);
      else flush();
      i++;
    }
  }
  flush();
  return out;
}

/** The matches of the lines from `from` on, as long as they match. */
function take(lines: string[], from: number, pattern: RegExp): RegExpExecArray[] {
  const out: RegExpExecArray[] = [];
  for (let i = from; i < lines.length; i++) {
    const match = pattern.exec(lines[i] ?? "");
    if (!match) break;
    out.push(match);
  }
  return out;
}

const MARKS: readonly { mark: string; kind: "strong" | "em" | "strike" }[] = [
  { mark: "**", kind: "strong" },
  { mark: "__", kind: "strong" },
  { mark: "~~", kind: "strike" },
  { mark: "*", kind: "em" },
  { mark: "_", kind: "em" },
];
const WORD = /[\p{L}\p{N}_]/u;
const URL_AT = /(?:https?:\/\/|mailto:)[^\s<>"'`]+/iy;
const NAME_AT = /@([\p{L}\p{N}_.-]{1,64})/uy;
const LINK_AT = /\[([^[\]\n]{1,500})\]\(([^\s()<>]{1,2000}(?:\([^\s()<>]*\)[^\s()<>]*)?)\)/y;
const PLAIN_AT = /[^\\`*_~[@hHmM\n]+/y;

function inline(text: string, names: ReadonlySet<string>, depth: number): Inline[] {
  const out: Inline[] = [];
  const say = (s: string) => {
    const last = out[out.length - 1];
    if (last?.kind === "text") last.text += s;
    else if (s) out.push({ kind: "text", text: s });
  };
  const at = (pattern: RegExp, i: number) => {
    pattern.lastIndex = i;
    return pattern.exec(text);
  };
  for (let i = 0; i < text.length; ) {
    const plain = at(PLAIN_AT, i);
    if (plain) {
      say(plain[0]);
      i += plain[0].length;
      continue;
    }
    const c = text[i] ?? "";
    const before = text[i - 1] ?? "";
    if (c === "\n") {
      out.push({ kind: "break" });
      i++;
    } else if (c === "\\" && /[\\`*_~[\]()>#@-]/.test(text[i + 1] ?? "")) {
      say(text[i + 1] ?? "");
      i += 2;
    } else {
      const found = depth < DEPTH_MAX ? special(text, i, c, before, names, depth, at) : undefined;
      if (found) {
        out.push(found.node);
        i = found.next;
      } else {
        say(c);
        i++;
      }
    }
  }
  return out;
}

type Found = { node: Inline; next: number } | undefined;

function special(text: string, i: number, c: string, before: string, names: ReadonlySet<string>, depth: number, at: (p: RegExp, i: number) => RegExpExecArray | null): Found {
  if (c === "`") return codeSpan(text, i);
  if (c === "[") {
    const link = at(LINK_AT, i);
    const href = link && safe(link[2] ?? "");
    return link && href ? { node: { kind: "link", href, of: inline(link[1] ?? "", new Set(), DEPTH_MAX) }, next: i + link[0].length } : undefined;
  }
  if (c === "@" && !WORD.test(before)) return mention(at(NAME_AT, i), i, names);
  if (/[hHmM]/.test(c) && !WORD.test(before)) {
    const url = at(URL_AT, i);
    const shown = url && trimmed(url[0]);
    const href = shown && safe(shown);
    return href ? { node: { kind: "link", href, of: [{ kind: "text", text: shown }] }, next: i + shown.length } : undefined;
  }
  for (const { mark, kind } of MARKS) {
    if (!text.startsWith(mark, i)) continue;
    const end = closing(text, i + mark.length, mark, before);
    if (end > 0) return { node: { kind, of: inline(text.slice(i + mark.length, end), names, depth + 1) }, next: end + mark.length };
  }
  return undefined;
}

function codeSpan(text: string, i: number): Found {
  const ticks = /`+/y;
  ticks.lastIndex = i;
  const mark = ticks.exec(text)?.[0] ?? "`";
  const end = text.indexOf(mark, i + mark.length);
  if (end < 0 || end - i > SPAN_MAX || end === i + mark.length) return undefined;
  return { node: { kind: "code", text: text.slice(i + mark.length, end).replace(/\n/g, " ") }, next: end + mark.length };
}

/** `@name`, also where a sentence's full stop follows. */
function mention(match: RegExpExecArray | null, i: number, names: ReadonlySet<string>): Found {
  let name = match?.[1] ?? "";
  while (name && !names.has(name.toLowerCase()) && /[.-]$/.test(name)) name = name.slice(0, -1);
  return names.has(name.toLowerCase()) ? { node: { kind: "mention", name }, next: i + 1 + name.length } : undefined;
}

/** Where the closing mark is, or -1. It hugs its text, and `_` and `__` do not begin or end within a word. */
function closing(text: string, from: number, mark: string, before: string): number {
  const under = mark[0] === "_";
  if (/\s/.test(text[from] ?? " ") || (under && WORD.test(before))) return -1;
  const limit = Math.min(text.length, from + SPAN_MAX);
  let passed = 0;
  for (let end = text.indexOf(mark, from); end >= 0 && end < limit && passed < PASSED_MAX; end = text.indexOf(mark, end + 1), passed++) {
    const after = text[end + mark.length] ?? "";
    const inDouble = mark.length === 1 && (after === mark || text[end - 1] === mark);
    if (end === from || /\s/.test(text[end - 1] ?? " ") || inDouble || (under && WORD.test(after))) continue;
    if (text[end - 1] === "\\") return -1;
    // `***both***`: the last of the run closes the outer mark.
    return mark.length === 2 && after === mark[0] ? end + 1 : end;
  }
  return -1;
}

/** An address without the punctuation of the sentence it stands in. */
function trimmed(url: string): string {
  let out = url.replace(/[.,;:!?*_~]+$/, "");
  while (out.endsWith(")") && out.split("(").length < out.split(")").length) out = out.slice(0, -1);
  return out;
}

/** The address if it is one that may be followed; what it leads to opens in a window that knows nothing of this one. */
export function safe(href: string): string | undefined {
  if (!URL.canParse(href)) return undefined;
  const url = new URL(href);
  return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : undefined;
}

/** The text as one line without marks: for lists, quotes and notifications. */
export function plain(text: string): string {
  const say = (of: Inline[]): string =>
    of.map((n) => (n.kind === "text" || n.kind === "code" ? n.text : n.kind === "break" ? " " : n.kind === "mention" ? `@${n.name}` : say(n.of))).join("");
  const block = (b: Block): string => {
    switch (b.kind) {
      case "paragraph":
        return say(b.of);
      case "code":
        return b.text;
      case "quote":
        return b.of.map(block).join(" ");
      case "list":
        return b.items.map(say).join(" ");
    }
  };
  // Lists show a line at most: the rest need not be read.
  return parse(text.slice(0, 400)).map(block).join(" ").replace(/\s+/g, " ").trim();
}
