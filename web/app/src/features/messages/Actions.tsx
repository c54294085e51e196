/** What one can do with a message: on hover, on focus, and by keys (see `keys.ts`). */
import { lazy, Suspense, useState } from "react";
import { panelSet } from "../../app/ui";
import { useAppDispatch, useAppSelector } from "../../app/store";
import { useChat } from "../../chat/context";
import type { Message } from "../../chat/types";
import { IconButton } from "../../design/controls";
import { MenuButton, type MenuItem, Popover } from "../../design/Menu";
import { useT } from "../../i18n";
import { moderates } from "../rooms/roles";
import { draftKey, editing, replying } from "./drafts";
import { useMessageDeeds } from "./deeds";

const EmojiPicker = lazy(() => import("./EmojiPicker"));

/** At hand without the picker. */
export const QUICK = ["👍", "❤️", "😂"];

type Props = { room: string; message: Message; mine: boolean; inThread: boolean; /** Something is open that belongs to the row. */ onHold: (on: boolean) => void };

export function Actions({ room, message, mine, inThread, onHold }: Props) {
  const t = useT();
  const dispatch = useAppDispatch();
  const chat = useChat();
  const deeds = useMessageDeeds(room);
  const role = useAppSelector((s) => s.rooms.byId[room]?.role ?? "reader");
  const kind = useAppSelector((s) => s.rooms.byId[room]?.kind);
  const [picker, setPickerOnly] = useState<HTMLElement | null>(null);
  const setPicker = (anchor: HTMLElement | null) => {
    setPickerOnly(anchor);
    onHold(anchor !== null);
  };
  const seq = message.seq ?? 0;
  const key = draftKey(room, inThread ? message.thread : undefined);
  const mayPin = kind === "direct" || moderates(role);
  const react = (emoji: string) => deeds.react(seq, emoji, !message.reactions.find((r) => r.emoji === emoji)?.users.includes(chat.me.user));

  const items: MenuItem[] = [
    { label: t("action.copyLink"), icon: "link", onChoose: () => deeds.copyLink(seq) },
    { label: t("action.copyText"), icon: "copy", onChoose: () => deeds.copyText(message.text) },
    ...(mayPin ? [{ label: t(message.pinned ? "action.unpin" : "action.pin"), icon: "pin" as const, onChoose: () => deeds.pin(seq, !message.pinned) }] : []),
    ...(mine ? [{ label: t("action.edit"), icon: "pencil" as const, onChoose: () => dispatch(editing({ key, seq, text: message.text })) }] : []),
    ...(mine || (kind !== "direct" && moderates(role)) ? ["rule" as const, { label: t("action.delete"), icon: "trash" as const, danger: true, onChoose: () => deeds.remove(seq) }] : []),
    ...(mine ? [] : ["rule" as const, { label: t("action.report"), icon: "warn" as const, onChoose: () => deeds.report(seq) }]),
  ];
  if (role === "reader") return null;
  return (
    <div className="actions" role="toolbar" aria-label={t("action.bar")}>
      {QUICK.map((emoji) => (
        <button key={emoji} type="button" className="icon-button quick" title={t("action.reactWith", { emoji })} aria-label={t("action.reactWith", { emoji })} onClick={() => react(emoji)}>
          {emoji}
        </button>
      ))}
      <IconButton icon="react" label={t("action.react")} keys="+" aria-haspopup="dialog" onClick={(e) => setPicker(picker ? null : e.currentTarget)} />
      <IconButton icon="reply" label={t("action.reply")} keys="R" onClick={() => dispatch(replying({ key, seq }))} />
      {!inThread && <IconButton icon="thread" label={t("action.thread")} keys="T" onClick={() => dispatch(panelSet({ show: "thread", root: message.thread ?? seq }))} />}
      <MenuButton items={items} label={t("action.more")} onOpen={onHold} />
      {picker && (
        <Popover anchor={picker} label={t("emoji.picker")} onClose={() => setPicker(null)} className="picker-box">
          <Suspense fallback={<div className="picker-wait" />}>
            <EmojiPicker
              onPick={(emoji) => {
                setPicker(null);
                react(emoji);
                picker.closest("article")?.focus();
              }}
            />
          </Suspense>
        </Popover>
      )}
    </div>
  );
}
