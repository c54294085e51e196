/** A menu under a button: arrow keys move, Enter chooses, Escape and a click elsewhere close it. */
import { type KeyboardEvent, type ReactNode, useEffect, useLayoutEffect, useRef, useState } from "react";
import { createPortal } from "react-dom";
import { Icon, type IconName } from "./Icon";

export type MenuItem = { label: string; icon?: IconName; danger?: boolean; onChoose: () => void } | "rule";

/** Where a popover goes so that it stays on the screen: beside the anchor, above it when there is no room below. */
export function place(anchor: DOMRect, size: { width: number; height: number }, rtl: boolean): { left: number; top: number } {
  const gap = 4;
  const below = anchor.bottom + gap;
  const top = below + size.height > innerHeight - gap ? Math.max(gap, anchor.top - gap - size.height) : below;
  const wanted = rtl ? anchor.left : anchor.right - size.width;
  return { top, left: Math.max(gap, Math.min(wanted, innerWidth - gap - size.width)) };
}

/** Anything that floats over the page beside an anchor until it is done with. */
export function Popover({ anchor, onClose, children, className, label, role = "dialog" }: {
  anchor: HTMLElement;
  onClose: () => void;
  children: ReactNode;
  className?: string;
  label: string;
  role?: "dialog" | "menu";
}) {
  const ref = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const box = ref.current;
    if (!box) return;
    const move = () => {
      const at = place(anchor.getBoundingClientRect(), box.getBoundingClientRect(), document.dir === "rtl");
      box.style.left = `${at.left}px`;
      box.style.top = `${at.top}px`;
    };
    move();
    const watch = new ResizeObserver(move);
    watch.observe(box);
    return () => watch.disconnect();
  }, [anchor]);
  useEffect(() => {
    const away = (e: Event) => {
      if (e.target instanceof Node && !ref.current?.contains(e.target) && !anchor.contains(e.target)) onClose();
    };
    addEventListener("pointerdown", away, true);
    return () => removeEventListener("pointerdown", away, true);
  }, [anchor, onClose]);
  const close = () => {
    onClose();
    if (anchor.isConnected) anchor.focus();
  };
  // A modal dialog makes everything outside it inert, so what floats over one belongs into it; else it stays in the part of the page that
  // it was opened from, where screen readers look for it.
  const host = anchor.closest("dialog, main, nav, aside") ?? document.body;
  return createPortal(
    <div
      ref={ref}
      className={["popover", className].filter(Boolean).join(" ")}
      role={role}
      aria-label={label}
      onKeyDown={(e) => {
        if (e.key === "Escape") {
          e.stopPropagation();
          e.preventDefault();
          close();
        } else if (e.key === "Tab" && role === "menu") close();
      }}
    >
      {children}
    </div>,
    host,
  );
}

export function Menu({ anchor, items, label, onClose }: { anchor: HTMLElement; items: readonly MenuItem[]; label: string; onClose: () => void }) {
  const list = useRef<HTMLDivElement>(null);
  useEffect(() => {
    list.current?.querySelector<HTMLElement>("[role=menuitem]")?.focus();
  }, []);
  const move = (e: KeyboardEvent) => {
    const all = [...(list.current?.querySelectorAll<HTMLElement>("[role=menuitem]") ?? [])];
    const at = all.indexOf(document.activeElement as HTMLElement);
    const to = { ArrowDown: (at + 1) % all.length, ArrowUp: (at - 1 + all.length) % all.length, Home: 0, End: all.length - 1 }[e.key];
    if (to === undefined) return;
    e.preventDefault();
    all[to]?.focus();
  };
  return (
    <Popover anchor={anchor} onClose={onClose} role="menu" label={label} className="menu">
      <div ref={list} onKeyDown={move} role="presentation">
        {items.map((item, i) =>
          item === "rule" ? (
            <hr key={`rule${i}`} />
          ) : (
            <button
              key={item.label}
              type="button"
              role="menuitem"
              tabIndex={-1}
              className={item.danger ? "menu-item danger" : "menu-item"}
              onClick={() => {
                onClose();
                if (anchor.isConnected) anchor.focus();
                item.onChoose();
              }}
            >
              {item.icon && <Icon name={item.icon} small />}
              {item.label}
            </button>
          ),
        )}
      </div>
    </Popover>
  );
}

/** A button that opens a menu. */
export function MenuButton({ items, label, icon = "more", className, onOpen }: { items: readonly MenuItem[]; label: string; icon?: IconName; className?: string; onOpen?: (open: boolean) => void }) {
  const [anchor, setAnchorOnly] = useState<HTMLElement | null>(null);
  const setAnchor = (to: HTMLElement | null) => {
    setAnchorOnly(to);
    onOpen?.(to !== null);
  };
  return (
    <>
      <button
        type="button"
        className={["icon-button", className].filter(Boolean).join(" ")}
        aria-label={label}
        title={label}
        aria-haspopup="menu"
        aria-expanded={anchor !== null}
        onClick={(e) => setAnchor(anchor ? null : e.currentTarget)}
      >
        <Icon name={icon} />
      </button>
      {anchor && <Menu anchor={anchor} items={items} label={label} onClose={() => setAnchor(null)} />}
    </>
  );
}
