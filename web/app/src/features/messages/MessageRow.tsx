/** One message of the list, with what stands around it: day, unread divider, author, reactions, how far it has come, what one can do. */
import { memo, useEffect, useState } from "react";
import { dialogSet, panelSet } from "../../app/ui";
import { useAppDispatch, useAppSelector } from "../../app/store";
import { go } from "../../app/navigate";
import { useChat, useName } from "../../chat/context";
import type { Message, Reaction } from "../../chat/types";
import { Avatar } from "../../design/Avatar";
import { Icon } from "../../design/Icon";
import { useT } from "../../i18n";
import { useDates } from "../../i18n/dates";
import { called } from "../people/slice";
import { Actions } from "./Actions";
import { useMessageDeeds } from "./deeds";
import { Markdown } from "./markdown/Markdown";
import { plain } from "./markdown/parse";
import type { Around, Reached } from "./rows";

export type RowProps = {
  room: string;
  message: Message;
  around: Around;
  reached: Reached;
  /** The message it answers, when that is in the window. */
  answered?: Message | undefined;
  /** Replies in its thread that are in the window. */
  replies: number;
  /** It is the one that a link led to. */
  marked: boolean;
  /** It is the one that Tab reaches. */
  current: boolean;
  /** In a thread's panel there is no thread to open. */
  inThread?: boolean;
};

export const MessageRow = memo(function MessageRow(props: RowProps) {
  const { message, around, current, marked, room } = props;
  const t = useT();
  const dates = useDates();
  const chat = useChat();
  // Its toolbar is there while the pointer or the focus is in the row, or something that the toolbar opened is open.
  const [hovered, setHovered] = useState(false);
  const [focused, setFocused] = useState(false);
  const [held, setHeld] = useState(false);
  const hot = hovered || focused || held;
  const name = useName(message.by);
  const picture = useAppSelector((s) => s.people.byId[message.by]?.avatar_url);
  const mine = message.by === chat.me.user;
  const mentioned = message.mentions.includes(chat.me.user);
  const classes = ["message", around.head && "first", mentioned && "mentioned", marked && "marked", message.state !== "sent" && message.state].filter(Boolean).join(" ");
  return (
    <>
      {around.day && <DayLine at={message.at} />}
      {around.unread && (
        <div className="divider unread" role="separator">
          <span>{t("unread.divider")}</span>
        </div>
      )}
      <article
        className={classes}
        data-key={message.key}
        data-seq={message.seq}
        tabIndex={current ? 0 : -1}
        aria-label={t("message.label", { name, time: dates.time(message.at), text: message.deleted ? t("message.deleted") : plain(message.text) })}
        onMouseEnter={() => setHovered(true)}
        onMouseLeave={() => setHovered(false)}
        onFocus={() => setFocused(true)}
        onBlur={(e) => {
          if (!e.currentTarget.contains(e.relatedTarget)) setFocused(false);
        }}
      >
        <div className="gutter">{around.head ? <Avatar id={message.by} name={name} picture={picture} /> : <time className="row-time">{dates.time(message.at)}</time>}</div>
        <div className="content">
          {around.head && <Author user={message.by} name={name} at={message.at} />}
          {message.replyTo !== undefined && <Quote room={room} seq={message.replyTo} answered={props.answered} />}
          {around.thread && message.thread !== undefined && !props.inThread && <InThread root={message.thread} />}
          <Body message={message} />
          {message.reactions.length > 0 && <Reactions room={room} message={message} />}
          {props.replies > 0 && !props.inThread && message.seq !== undefined && <ThreadLink root={message.seq} replies={props.replies} />}
          {message.state === "failed" && <Failed room={room} message={message} />}
        </div>
        <div className="edge">
          {message.pinned && <span className="pinned" title={t("message.pinned")}><Icon name="pin" small /><span className="unseen">{t("message.pinned")}</span></span>}
          {mine && !message.deleted && <Ticks room={room} message={message} reached={props.reached} />}
        </div>
        {hot && message.state === "sent" && !message.deleted && <Actions room={room} message={message} mine={mine} inThread={props.inThread ?? false} onHold={setHeld} />}
      </article>
    </>
  );
});

export function DayLine({ at }: { at: number }) {
  const dates = useDates();
  return (
    <div className="divider" role="separator">
      <span>{dates.day(at)}</span>
    </div>
  );
}

function Author({ user, name, at }: { user: string; name: string; at: number }) {
  const dispatch = useAppDispatch();
  const dates = useDates();
  return (
    <div className="author">
      <button type="button" tabIndex={-1} onClick={() => dispatch(dialogSet({ name: "profile", user }))}>
        <bdi>{name}</bdi>
      </button>
      <time dateTime={new Date(at).toISOString()} title={dates.full(at)}>
        {dates.time(at)}
      </time>
    </div>
  );
}

function Body({ message }: { message: Message }) {
  const t = useT();
  const me = useChat().me.name;
  // Equal lists of names must be one object, or every row would be read anew with every profile that arrives.
  const joined = useAppSelector((s) => message.mentions.map((m) => s.people.byId[m]?.name ?? "").join("\n"));
  if (message.deleted) return <p className="gone">{t("message.deleted")}</p>;
  return (
    <div className="text">
      <Markdown text={message.text} mentions={split(joined)} me={me} />
      {message.edited && <span className="edited">{t("message.edited")}</span>}
      {message.attachments.map((a) => (
        <a key={a.url} className="file" href={a.url} target="_blank" rel="noreferrer noopener">
          <Icon name="archive" small />
          {a.name || a.url}
        </a>
      ))}
    </div>
  );
}

const lists = new Map<string, readonly string[]>();
function split(joined: string): readonly string[] {
  const known = lists.get(joined) ?? joined.split("\n").filter(Boolean);
  if (lists.size > 500) lists.clear();
  lists.set(joined, known);
  return known;
}

function Quote({ room, seq, answered }: { room: string; seq: number; answered?: Message | undefined }) {
  const t = useT();
  const name = useName(answered?.by ?? "0");
  return (
    <button type="button" className="quote" tabIndex={-1} onClick={() => go({ at: "room", room, seq })} aria-label={t("reply.jump")}>
      <Icon name="reply" small />
      {answered ? (
        <>
          <strong><bdi>{name}</bdi></strong>
          <span dir="auto">{answered.deleted ? t("message.deleted") : plain(answered.text)}</span>
        </>
      ) : (
        <span>{t("reply.toOlder")}</span>
      )}
    </button>
  );
}

function InThread({ root }: { root: number }) {
  const t = useT();
  const dispatch = useAppDispatch();
  return (
    <button type="button" className="quote" tabIndex={-1} onClick={() => dispatch(panelSet({ show: "thread", root }))}>
      <Icon name="thread" small />
      <span>{t("thread.inThread")}</span>
    </button>
  );
}

function ThreadLink({ root, replies }: { root: number; replies: number }) {
  const t = useT();
  const dispatch = useAppDispatch();
  return (
    <button type="button" className="thread-link" tabIndex={-1} onClick={() => dispatch(panelSet({ show: "thread", root }))}>
      <Icon name="thread" small />
      {t("thread.replies", { count: replies })}
    </button>
  );
}

function Reactions({ room, message }: { room: string; message: Message }) {
  const chat = useChat();
  const deeds = useMessageDeeds(room);
  const seq = message.seq;
  return (
    <ul className="reactions">
      {message.reactions.map((r) => (
        <li key={r.emoji}>
          <ReactionChip reaction={r} mine={r.users.includes(chat.me.user)} onToggle={(on) => seq !== undefined && deeds.react(seq, r.emoji, on)} />
        </li>
      ))}
    </ul>
  );
}

function ReactionChip({ reaction, mine, onToggle }: { reaction: Reaction; mine: boolean; onToggle: (on: boolean) => void }) {
  const t = useT();
  const { needProfiles } = useChat();
  useEffect(() => needProfiles(reaction.users.slice(0, 8)), [needProfiles, reaction.users]);
  const who = useAppSelector((s) => reaction.users.slice(0, 8).map((u) => called(s.people.byId[u], "…")).join(", "));
  return (
    <button
      type="button"
      className="reaction"
      aria-pressed={mine}
      tabIndex={-1}
      title={who}
      onClick={() => onToggle(!mine)}
    >
      <span>{reaction.emoji}</span>
      <span>{reaction.users.length}</span>
      <span className="unseen">{t("reaction.by", { who })}</span>
    </button>
  );
}

const TICK = { pending: "clock", failed: "warn", sent: "check", delivered: "checks", read: "checks" } as const;

function Ticks({ room, message, reached }: { room: string; message: Message; reached: Reached }) {
  const t = useT();
  const dispatch = useAppDispatch();
  const label = t(`tick.${reached}`);
  const icon = <Icon name={TICK[reached]} small />;
  if (message.seq === undefined || reached === "failed") {
    return (
      <span className={`tick ${reached}`} title={label}>
        {icon}
        <span className="unseen">{label}</span>
      </span>
    );
  }
  const seq = message.seq;
  return (
    <button type="button" tabIndex={-1} className={`tick ${reached}`} title={label} aria-label={label} onClick={() => dispatch(dialogSet({ name: "readers", room, seq }))}>
      {icon}
    </button>
  );
}

function Failed({ room, message }: { room: string; message: Message }) {
  const t = useT();
  const chat = useChat();
  return (
    <div className="failed-line" role="group">
      <span>{message.error || t("message.failed")}</span>
      <button type="button" onClick={() => void chat.retry(room, message.key)}>{t("message.retry")}</button>
      <button type="button" onClick={() => void chat.discard(room, message.key)}>{t("message.discard")}</button>
    </div>
  );
}
