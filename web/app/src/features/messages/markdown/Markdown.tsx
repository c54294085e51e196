/** Draws a message's text. The tree of `parse.ts` becomes elements; no HTML is ever made from text. */
import { Fragment, memo, type ReactNode, useMemo } from "react";
import { type Block, type Inline, parse } from "./parse";

const EMOJI_ONLY = /^(?:\p{Extended_Pictographic}|\p{Emoji_Modifier}|\p{Regional_Indicator}|[\u200d\ufe0f\u20e3#*0-9 ])+$/u;

/** Up to three emoji and nothing else: shown large. */
export function onlyEmoji(text: string): boolean {
  const t = text.trim();
  if (!t || t.length > 30 || !EMOJI_ONLY.test(t) || !/\p{Extended_Pictographic}|\p{Regional_Indicator}/u.test(t)) return false;
  return [...new Intl.Segmenter().segment(t.replaceAll(" ", ""))].length <= 3;
}

export const Markdown = memo(function Markdown({ text, mentions, me }: { text: string; mentions: readonly string[]; me: string }) {
  const tree = useMemo(() => parse(text, new Set(mentions.map((n) => n.toLowerCase()))), [text, mentions]);
  if (onlyEmoji(text)) return <p className="md-emoji">{text}</p>;
  return <>{tree.map((b, i) => <Fragment key={i}>{block(b, me)}</Fragment>)}</>;
});

function block(b: Block, me: string): ReactNode {
  switch (b.kind) {
    case "paragraph":
      return <p dir="auto">{inline(b.of, me)}</p>;
    case "code":
      // Scrolls by itself, so it must be reachable by keyboard.
      return (
        <pre tabIndex={0} dir="ltr">
          <code>{b.text}</code>
        </pre>
      );
    case "quote":
      return <blockquote dir="auto">{b.of.map((q, i) => <Fragment key={i}>{block(q, me)}</Fragment>)}</blockquote>;
    case "list": {
      const items = b.items.map((of, i) => <li key={i} dir="auto">{inline(of, me)}</li>);
      return b.ordered ? <ol start={b.start}>{items}</ol> : <ul>{items}</ul>;
    }
  }
}

function inline(of: Inline[], me: string): ReactNode {
  return of.map((n, i) => {
    switch (n.kind) {
      case "text":
        return n.text;
      case "break":
        return <br key={i} />;
      case "code":
        return <code key={i}>{n.text}</code>;
      case "strong":
        return <strong key={i}>{inline(n.of, me)}</strong>;
      case "em":
        return <em key={i}>{inline(n.of, me)}</em>;
      case "strike":
        return <s key={i}>{inline(n.of, me)}</s>;
      case "link":
        return (
          <a key={i} href={n.href} target="_blank" rel="noreferrer noopener nofollow">
            {inline(n.of, me)}
          </a>
        );
      case "mention":
        return (
          <span key={i} className={n.name.toLowerCase() === me.toLowerCase() ? "mention me" : "mention"}>
            @{n.name}
          </span>
        );
    }
  });
}
