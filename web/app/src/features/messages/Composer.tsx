/** Where one writes: drafts that stay, replies and edits, completion of names, emoji, and what the room allows. */
import { type KeyboardEvent, lazy, Suspense, useEffect, useId, useLayoutEffect, useRef, useState } from "react";
import { useSay } from "../../app/errors";
import { useAppDispatch, useAppSelector } from "../../app/store";
import { useChat, useName } from "../../chat/context";
import type { Message } from "../../chat/types";
import { Avatar } from "../../design/Avatar";
import { IconButton } from "../../design/controls";
import { Icon } from "../../design/Icon";
import { Popover } from "../../design/Menu";
import { useT } from "../../i18n";
import { useMembers } from "../rooms/members";
import { type Candidate, candidates, completed, mentioned, partial } from "./complete";
import { type Draft, draftDone, drafted, draftKey, editing, replyDropped } from "./drafts";
import { plain } from "./markdown/parse";
import { useTypingSignal } from "./typing";

const EmojiPicker = lazy(() => import("./EmojiPicker"));
const EMPTY: Draft = { text: "" };
/** Longest text of a message, in bytes; the server's default. */
const TEXT_BYTES_MAX = 16 * 1024;

type Props = {
  room: string;
  thread?: number;
  placeholder: string;
  /** For what a reply answers and what ↑ edits. */
  find: (seq: number) => Message | undefined;
  lastOwn: () => Message | undefined;
  onSent?: () => void;
};

export function Composer({ room, thread, placeholder, find, lastOwn, onSent }: Props) {
  const t = useT();
  const chat = useChat();
  const say = useSay();
  const dispatch = useAppDispatch();
  const key = draftKey(room, thread);
  const draft = useAppSelector((s) => s.drafts[key]) ?? EMPTY;
  const area = useRef<HTMLTextAreaElement>(null);
  const [picker, setPicker] = useState<HTMLElement | null>(null);
  const names = useMembers(room, draft.text.includes("@"));
  const completion = useCompletion(draft.text, names, area, (text) => dispatch(drafted({ key, text })));
  const signal = useTypingSignal(room);
  const tooLong = draft.text.length * 3 > TEXT_BYTES_MAX && new TextEncoder().encode(draft.text).length > TEXT_BYTES_MAX;

  useGrow(area, draft.text);
  useEffect(() => {
    // On a phone the keyboard would cover half of what one came to read.
    if (matchMedia("(pointer: fine)").matches) area.current?.focus({ preventScroll: true });
  }, [key, draft.replyTo, draft.editing]);

  const submit = () => {
    const text = draft.text.trim();
    if (!text || tooLong) return;
    const mentions = mentioned(text, names);
    signal.stop();
    dispatch(draftDone(key));
    if (draft.editing !== undefined) {
      const before = find(draft.editing);
      if (before?.text !== text) chat.edit(room, draft.editing, text, mentions).catch(say);
      return;
    }
    const message = { text, ...(mentions.length ? { mentions } : {}), ...(draft.replyTo === undefined ? {} : { replyTo: draft.replyTo }), ...(thread === undefined ? {} : { thread }) };
    chat.send(room, message).catch(say);
    onSent?.();
  };

  const onKeyDown = (e: KeyboardEvent<HTMLTextAreaElement>) => {
    if (e.nativeEvent.isComposing || completion.onKeyDown(e)) return;
    if (e.key === "Enter" && !e.shiftKey && !e.ctrlKey && !e.metaKey && !e.altKey) {
      e.preventDefault();
      submit();
    } else if (e.key === "Escape" && (draft.editing !== undefined || draft.replyTo !== undefined)) {
      e.preventDefault();
      e.stopPropagation();
      if (draft.editing !== undefined) dispatch(draftDone(key));
      else dispatch(replyDropped(key));
    } else if (e.key === "ArrowUp" && !draft.text && !e.shiftKey) {
      const own = lastOwn();
      if (own?.seq === undefined) return;
      e.preventDefault();
      dispatch(editing({ key, seq: own.seq, text: own.text }));
    }
  };

  return (
    <form
      className="composer"
      onSubmit={(e) => {
        e.preventDefault();
        submit();
      }}
    >
      {draft.editing !== undefined && <Context icon="pencil" text={t("composer.editing")} onClose={() => dispatch(draftDone(key))} />}
      {draft.replyTo !== undefined && <ReplyContext message={find(draft.replyTo)} onClose={() => dispatch(replyDropped(key))} />}
      {completion.list}
      <div className="composer-box">
        <textarea
          ref={area}
          rows={1}
          dir="auto"
          value={draft.text}
          placeholder={placeholder}
          aria-label={placeholder}
          aria-invalid={tooLong || undefined}
          enterKeyHint="send"
          {...completion.aria}
          onChange={(e) => {
            dispatch(drafted({ key, text: e.target.value }));
            completion.moved(e.target.selectionStart);
            signal.typed(e.target.value);
          }}
          onSelect={(e) => completion.moved(e.currentTarget.selectionStart)}
          onKeyDown={onKeyDown}
          onBlur={() => signal.stop()}
        />
        <IconButton icon="smile" label={t("emoji.insert")} aria-haspopup="dialog" aria-expanded={picker !== null} onClick={(e) => setPicker(picker ? null : e.currentTarget)} />
        <button type="submit" className="send" disabled={!draft.text.trim() || tooLong} aria-label={t(draft.editing === undefined ? "composer.send" : "composer.save")}>
          <Icon name={draft.editing === undefined ? "send" : "check"} />
        </button>
      </div>
      {tooLong && <p className="note bad" role="alert">{t("composer.tooLong")}</p>}
      {picker && (
        <Popover anchor={picker} label={t("emoji.picker")} onClose={() => setPicker(null)} className="picker-box">
          <Suspense fallback={<div className="picker-wait" />}>
            <EmojiPicker
              onPick={(emoji) => {
                setPicker(null);
                insert(area.current, emoji, (text) => dispatch(drafted({ key, text })));
              }}
            />
          </Suspense>
        </Popover>
      )}
    </form>
  );
}

function Context({ icon, text, onClose }: { icon: "pencil" | "reply"; text: string; onClose: () => void }) {
  const t = useT();
  return (
    <div className="composer-context">
      <Icon name={icon} small />
      <span dir="auto">{text}</span>
      <IconButton icon="close" label={t("cancel")} keys="Esc" onClick={onClose} />
    </div>
  );
}

function ReplyContext({ message, onClose }: { message: Message | undefined; onClose: () => void }) {
  const t = useT();
  const name = useName(message?.by ?? "0");
  const text = message ? t("composer.replying", { name, text: plain(message.text) }) : t("reply.toOlder");
  return <Context icon="reply" text={text} onClose={onClose} />;
}

/** Puts text where the caret is. */
function insert(area: HTMLTextAreaElement | null, text: string, set: (text: string) => void) {
  if (!area) return;
  const { selectionStart: from, selectionEnd: to, value } = area;
  set(value.slice(0, from) + text + value.slice(to));
  requestAnimationFrame(() => {
    area.focus();
    area.setSelectionRange(from + text.length, from + text.length);
  });
}

/** As high as its text, up to what the style sheet allows; browsers that can do it by themselves do. */
function useGrow(area: { current: HTMLTextAreaElement | null }, text: string) {
  useLayoutEffect(() => {
    const box = area.current;
    if (!box || CSS.supports("field-sizing", "content")) return;
    box.style.height = "auto";
    box.style.height = `${box.scrollHeight}px`;
  }, [area, text]);
}

/** The list of names over the field: arrows choose, Enter and Tab take, Escape closes. Focus stays in the field. */
function useCompletion(text: string, names: readonly Candidate[], area: { current: HTMLTextAreaElement | null }, set: (text: string) => void) {
  const t = useT();
  const id = useId();
  const [caret, setCaret] = useState(0);
  const [at, setAt] = useState(0);
  const [shut, setShut] = useState("");
  const begun = partial(text, caret);
  const fits = begun && shut !== text.slice(0, begun.from + 1) ? candidates(names, begun.text) : [];
  const open = fits.length > 0;
  const chosen = Math.min(at, fits.length - 1);
  const take = (c: Candidate | undefined) => {
    if (!c || !begun) return;
    const next = completed(text, begun, c.name);
    set(next.text);
    setCaret(next.caret);
    requestAnimationFrame(() => {
      area.current?.focus();
      area.current?.setSelectionRange(next.caret, next.caret);
    });
  };
  const onKeyDown = (e: KeyboardEvent): boolean => {
    if (!open || !begun) return false;
    const step = { ArrowDown: 1, ArrowUp: -1 }[e.key];
    if (step) setAt((chosen + step + fits.length) % fits.length);
    else if (e.key === "Enter" || e.key === "Tab") take(fits[chosen]);
    else if (e.key === "Escape") setShut(text.slice(0, begun.from + 1));
    else return false;
    e.preventDefault();
    e.stopPropagation();
    return true;
  };
  const list = open && (
    <ul className="completion" id={id} role="listbox" aria-label={t("mention.list")}>
      {fits.map((c, i) => (
        <li key={c.user} id={`${id}-${i}`} role="option" aria-selected={i === chosen} onPointerDown={(e) => e.preventDefault()} onClick={() => take(c)}>
          <Avatar id={c.user} name={c.shown} size="sm" />
          <bdi>{c.shown}</bdi>
          {c.shown !== c.name && <span className="note">@{c.name}</span>}
        </li>
      ))}
    </ul>
  );
  const aria = {
    "aria-autocomplete": "list" as const,
    "aria-controls": open ? id : undefined,
    "aria-activedescendant": open ? `${id}-${chosen}` : undefined,
  };
  const moved = (to: number) => {
    setCaret(to);
    setAt(0);
  };
  return { list, aria, onKeyDown, moved };
}
