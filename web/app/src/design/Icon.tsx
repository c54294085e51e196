/** The app's icons: 24-unit outlines, drawn with the text's colour. They are decoration; what they mean is said in words beside them or by the button's label. */

const PATHS = {
  archive: "M4 5h16v4H4zM6 9v10h12V9M10 13h4",
  at: "M16 12a4 4 0 1 1-8 0 4 4 0 0 1 8 0v1.5a2.5 2.5 0 0 0 5 0V12a9 9 0 1 0-3.5 7.1",
  back: "M15 5l-7 7 7 7",
  ban: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM5.7 5.7l12.6 12.6",
  bell: "M6 10a6 6 0 1 1 12 0c0 5 2 6 2 7H4c0-1 2-2 2-7zM10 20.5h4",
  bellOff: "M8 5.5A6 6 0 0 1 18 10c0 2 .3 3.3.7 4.3M6 10c0 5-2 6-2 7h13M10 20.5h4M4 4l16 16",
  check: "M5 12.5l4.5 4.5L19 7",
  checks: "M2.5 12.5L7 17l9.5-10M12 15.5l1.5 1.5L22.5 7",
  chevron: "M9 6l6 6-6 6",
  clock: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 7.5V12l3 2",
  close: "M6 6l12 12M18 6L6 18",
  copy: "M9 9h10v11H9zM15 9V4H5v11h4",
  down: "M12 5v14M6 13l6 6 6-6",
  edit: "M4 20l1-4.5L16 4.5l3.5 3.5L8.5 19z",
  group: "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 20a6.5 6.5 0 0 1 13 0M16 4.3a3.5 3.5 0 0 1 0 6.4M18 14.5a6.5 6.5 0 0 1 3.5 5.5",
  hash: "M9.5 4L7.5 20M16.5 4l-2 16M4.5 9h16M3.5 15h16",
  help: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM9.5 9.5a2.5 2.5 0 1 1 3.5 2.3c-.7.3-1 .8-1 1.7M12 16.8v.1",
  info: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 11v5.5M12 7.6v.1",
  leave: "M14 4h5v16h-5M10 8l-4 4 4 4M6 12h9",
  link: "M10 14a4 4 0 0 0 5.7 0l3-3A4 4 0 0 0 13 5.3l-1 1M14 10a4 4 0 0 0-5.7 0l-3 3A4 4 0 0 0 11 18.7l1-1",
  lock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
  more: "M5 12a.8.8 0 1 0 1.6 0 .8.8 0 1 0-1.6 0M11.2 12a.8.8 0 1 0 1.6 0 .8.8 0 1 0-1.6 0M17.4 12a.8.8 0 1 0 1.6 0 .8.8 0 1 0-1.6 0",
  pencil: "M12 20h8M4 20l.8-3.8L15.5 5.5l3 3L7.8 19.2z",
  person: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4.5 20.5a7.5 7.5 0 0 1 15 0",
  pin: "M9 4h6l-.7 6 3.2 3.5h-11L9.7 10zM12 13.5V20",
  plus: "M12 5v14M5 12h14",
  react: "M12 21a9 9 0 1 1 6-15.7M8.5 14a4.2 4.2 0 0 0 7 0M9 9.5v.1M15 9.5v.1M20 3v5M17.5 5.5h5",
  reply: "M10 6l-5.5 5.5L10 17M5 11.5h8.5c3.5 0 6 2 6 6.5",
  retry: "M4.5 12a7.5 7.5 0 1 1 2.3 5.4M4.5 19v-4.5H9",
  search: "M10.5 17.5a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM15.6 15.6L20.5 20.5",
  send: "M4.5 12L4 4.5 20.5 12 4 19.5 4.5 12zm0 0H12",
  settings: "M4 7h9M17 7h3M4 17h3M11 17h9M15 9.2a2.2 2.2 0 1 0 0-4.4 2.2 2.2 0 0 0 0 4.4zM9 19.2a2.2 2.2 0 1 0 0-4.4 2.2 2.2 0 0 0 0 4.4z",
  smile: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM8.2 14a4.5 4.5 0 0 0 7.6 0M9 9.5v.1M15 9.5v.1",
  thread: "M5 5h14v10H11l-4 4v-4H5zM9 9h6M9 11.8h4",
  trash: "M5 7h14M10 7V4.5h4V7M7 7l.8 13h8.4L17 7M10.5 11v5.5M13.5 11v5.5",
  warn: "M12 4L2.8 20h18.4zM12 10v4.5M12 17.2v.1",
} as const;

export type IconName = keyof typeof PATHS;

/** Those that point somewhere, and so turn round where text runs from right to left. */
const FLIPS: ReadonlySet<IconName> = new Set<IconName>(["back", "chevron", "leave", "reply", "send", "thread"]);

export function Icon({ name, small }: { name: IconName; small?: boolean }) {
  const classes = ["icon", small ? "small" : "", FLIPS.has(name) ? "flips" : ""].filter(Boolean).join(" ");
  return (
    <svg className={classes} viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
