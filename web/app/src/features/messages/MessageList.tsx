/**
 * The list of a room's messages: 100,000 of them scroll like ten, because only what is seen is drawn.
 *
 * What one reads never moves by itself: messages that arrive are added below, older ones above under indices that leave the others where they
 * are (`rows.ts`, `slide`), and only who is at the end is kept there. Announcements are not this list's work: it is drawn and undrawn all the time.
 */
import { type KeyboardEvent, useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import { type ListRange, Virtuoso, type VirtuosoHandle } from "react-virtuoso";
import { type State, useAppStore } from "../../app/store";
import { useChat, useTimeline } from "../../chat/context";
import type { Timeline } from "../../chat/chat";
import type { Item } from "../../chat/types";
import { Button, Empty } from "../../design/controls";
import { Icon } from "../../design/Icon";
import { useT } from "../../i18n";
import { HappeningRow } from "./HappeningRow";
import { useMessageKeys } from "./keys";
import { MessageRow } from "./MessageRow";
import { around, firstUnread, reached, slide, type Window } from "./rows";

/** Nearer to the end than this is at the end. */
const NEAR_END_PX = 48;
/** Drawn beyond what is seen. With the least height of a row this keeps the rows in the page below 40. */
const BEYOND_PX = 120;

type Props = { room: string; jump: number | undefined; onSent: (f: () => void) => void };

export function MessageList({ room, jump, onSent }: Props) {
  const t = useT();
  const chat = useChat();
  const store = useAppStore();
  const [view, timeline] = useTimeline(room);
  // How it was read when it was opened: the divider stays where it is while one reads on.
  const [{ read, behindBy }] = useState(() => before(store.getState(), room));
  const { items } = view;
  const me = chat.me.user;
  const list = useRef<VirtuosoHandle>(null);
  const [atBottom, setAtBottom] = useState(jump === undefined && behindBy === 0);
  const range = useRef<ListRange>({ startIndex: 0, endIndex: 0 });
  const window_ = useWindow(items);
  const unreadFrom = useUnreadFrom(items, read, view.atStart, me);
  const behind = useBehind(items, atBottom && view.atEnd, me);
  const readTo = useMarkRead(room, items, window_.first, range);

  // Where to begin: at the message that a link names, else at the first unread one, else at the end.
  const ready = useShown(timeline, jump ?? (behindBy > 0 ? read + 1 : undefined));

  // One's own message is always seen after sending, wherever one was reading.
  const toEnd = useCallback(async () => {
    if (!timeline.view().atEnd) await timeline.show();
    await scrollToEnd(list);
  }, [timeline]);

  const { leave, ...untouched } = useKeptAtEnd(list, items, jump === undefined && behindBy === 0);
  const start = useMemo(() => startAt(items, jump, unreadFrom), [window_.fresh, ready, items.length > 0]); // eslint-disable-line react-hooks/exhaustive-deps
  const shown = useRef(jump);
  useLayoutEffect(() => {
    const index = jump === undefined ? -1 : items.findIndex((i) => i.seq === jump);
    if (jump === shown.current || index < 0) return;
    shown.current = jump;
    leave();
    list.current?.scrollToIndex({ index, align: "center" });
  }, [jump, items]);

  const threads = useMemo(() => countReplies(items), [items]);
  const bySeq = useMemo(() => new Map(items.flatMap((i) => (i.kind === "message" && i.seq !== undefined ? [[i.seq, i] as const] : []))), [items]);
  const keys = useMessageKeys({ room, items, first: window_.first, range, list });
  const { reset } = keys;
  useEffect(
    () =>
      onSent(() => {
        reset();
        void toEnd();
      }),
    [onSent, toEnd, reset],
  );

  const row = (index: number, item: Item) => {
    const at = around(items[index - window_.first - 1], item, unreadFrom);
    if (item.kind === "happening") return <HappeningRow item={item} around={at} />;
    return (
      <MessageRow
        room={room}
        message={item}
        around={at}
        reached={item.by === me ? reached(item, view.receipts, me) : "sent"}
        answered={item.replyTo === undefined ? undefined : bySeq.get(item.replyTo)}
        replies={item.seq === undefined ? 0 : (threads.get(item.seq) ?? 0)}
        marked={item.seq !== undefined && item.seq === jump}
        current={item.key === keys.current}
      />
    );
  };

  if (items.length === 0 || !ready) return <Waiting view={ready ? view : { ...view, loading: true, error: null }} onRetry={() => void timeline.show(jump)} />;
  return (
    <div className="list" role="group" aria-label={t("messages.list")} onKeyDown={keys.onKeyDown as (e: KeyboardEvent) => void} onFocus={keys.onFocus} {...untouched}>
      <Virtuoso
        key={window_.fresh}
        ref={list}
        data={items as Item[]}
        firstItemIndex={window_.first}
        initialTopMostItemIndex={start}
        computeItemKey={(_, item) => item.key}
        itemContent={row}
        startReached={() => void timeline.older()}
        endReached={() => void timeline.newer()}
        // Told only to who is at the end: the list takes its first measuring for growth, and would follow that too.
        followOutput={atBottom && view.atEnd ? "auto" : false}
        atBottomStateChange={setAtBottom}
        atBottomThreshold={NEAR_END_PX}
        increaseViewportBy={BEYOND_PX}
        rangeChanged={(r) => {
          range.current = r;
          readTo();
        }}
        components={COMPONENTS}
        context={{ atStart: view.atStart, error: view.error, retry: () => void timeline.older() }}
        tabIndex={-1}
      />
      {(!atBottom || !view.atEnd) && (
        <button type="button" className="to-end" onClick={() => void toEnd()} aria-label={behind ? t("latest.count", { count: behind }) : t("latest")}>
          {behind > 0 && <span className="badge accent">{behind > 99 ? "99+" : behind}</span>}
          <Icon name="down" />
        </button>
      )}
    </div>
  );
}

type Context = { atStart: boolean; error: string | null; retry: () => void };

const COMPONENTS = {
  Header: function Header({ context }: { context?: Context }) {
    const t = useT();
    if (context?.error) {
      return (
        <div className="list-edge">
          {context.error} <Button kind="quiet" icon="retry" onClick={context.retry}>{t("retry")}</Button>
        </div>
      );
    }
    return <div className="list-edge">{context?.atStart ? t("messages.start") : t("messages.loading")}</div>;
  },
};

function Waiting({ view, onRetry }: { view: { loading: boolean; error: string | null; atStart: boolean }; onRetry: () => void }) {
  const t = useT();
  if (view.error) {
    return (
      <Empty icon="warn" title={t("messages.unreadable")}>
        <p>{view.error}</p>
        <Button icon="retry" onClick={onRetry}>{t("retry")}</Button>
      </Empty>
    );
  }
  if (view.loading) return <div className="list waiting"><div className="busy-line" role="progressbar" aria-label={t("messages.loading")} /></div>;
  return <div className="list waiting"><Empty icon="thread" title={t("messages.none")}><p>{t("messages.noneHint")}</p></Empty></div>;
}

function startAt(items: readonly Item[], jump: number | undefined, unreadFrom: number | undefined) {
  const to = items.findIndex((i) => i.seq !== undefined && i.seq === (jump ?? unreadFrom));
  if (to < 0) return { index: Math.max(0, items.length - 1), align: "end" as const };
  // The divider stands a third down, with what was read before it above.
  return jump === undefined ? { index: Math.max(0, to - 3), align: "start" as const } : { index: to, align: "center" as const };
}

function countReplies(items: readonly Item[]): Map<number, number> {
  const count = new Map<number, number>();
  for (const i of items) if (i.kind === "message" && i.thread !== undefined && !i.deleted) count.set(i.thread, (count.get(i.thread) ?? 0) + 1);
  return count;
}

/** The indices of the list, kept from one window to the next. */
function useWindow(items: readonly Item[]): Window {
  const [state, setState] = useState(() => ({ items, window: slide(undefined, items) }));
  if (state.items === items) return state.window;
  const window = slide(state.window, items);
  setState({ items, window });
  return window;
}

function before({ rooms }: State, room: string): { read: number; behindBy: number } {
  const known = rooms.byId[room];
  return { read: known?.read ?? 0, behindBy: known?.unread ?? 0 };
}

/** Where the unread divider stands: found once the messages around it are there, and then left alone. */
function useUnreadFrom(items: readonly Item[], read: number, atStart: boolean, me: string): number | undefined {
  const [from, setFrom] = useState<number>();
  if (from !== undefined) return from;
  // With a hole before the window's first message, that one is not the first unread one.
  const first = items[0]?.seq;
  if (first === undefined || (first > read + 1 && !atStart)) return undefined;
  const found = firstUnread(items, read, me);
  if (found !== undefined) setFrom(found);
  return found;
}

/** Shows the messages around one, or the newest; true once they are there, or are known not to be. */
function useShown(timeline: Timeline, around: number | undefined): boolean {
  const first = useRef(around);
  const [ready, setReady] = useState(around === undefined);
  useEffect(() => {
    let current = true;
    void timeline.show(around).then(() => current && setReady(true));
    return () => {
      current = false;
    };
  }, [timeline, around]);
  return ready || first.current === undefined;
}

/**
 * Keeps a list that opened at its end there until somebody moves it: what was stored, what waits in the outbox and what was missed come one
 * after another, and the list itself counts as at the end only once it has measured.
 */
function useKeptAtEnd(list: { current: VirtuosoHandle | null }, items: readonly Item[], opensThere: boolean) {
  const touched = useRef(!opensThere);
  useLayoutEffect(() => {
    if (!touched.current) void scrollToEnd(list, () => touched.current);
  }, [list, items]);
  const touch = () => {
    touched.current = true;
  };
  return { leave: touch, onWheel: touch, onPointerDown: touch, onKeyDownCapture: touch };
}

/** Twice: the row that was just added is measured only after it was drawn. */
async function scrollToEnd(list: { current: VirtuosoHandle | null }, stop = () => false) {
  for (let i = 0; i < 2; i++) {
    await new Promise(requestAnimationFrame);
    if (stop()) return;
    list.current?.scrollToIndex({ index: "LAST", align: "end" });
  }
}

/** How many messages of others arrived while one was reading above. */
function useBehind(items: readonly Item[], following: boolean, me: string): number {
  const [from, setFrom] = useState<number>();
  const last = items.findLast((i) => i.seq !== undefined)?.seq ?? 0;
  if (following ? from !== undefined : from === undefined) setFrom(following ? undefined : last);
  return useMemo(() => {
    if (from === undefined) return 0;
    let count = 0;
    for (let i = items.length - 1; i >= 0; i--) {
      const item = items[i];
      if (item?.seq !== undefined && item.seq <= from) break;
      if (item?.kind === "message" && item.by !== me) count++;
    }
    return count;
  }, [items, from, me]);
}

/** Moves the read cursor to the last message that was seen, while somebody is looking. */
function useMarkRead(room: string, items: readonly Item[], first: number, range: { current: ListRange }) {
  const chat = useChat();
  const latest = useRef({ items, first });
  latest.current = { items, first };
  const mark = useCallback(() => {
    if (!document.hasFocus()) return;
    const { items, first } = latest.current;
    for (let i = Math.min(range.current.endIndex - first, items.length - 1); i >= 0; i--) {
      const seq = items[i]?.seq;
      if (seq !== undefined) return chat.read(room, seq);
    }
  }, [chat, room, range]);
  useEffect(() => {
    mark();
    addEventListener("focus", mark);
    return () => removeEventListener("focus", mark);
  }, [mark, items]);
  return mark;
}

