/** Who or what: a picture of the server's own, else the initials on a colour of their own; with the presence as a dot. */
import type { Presence } from "../chat/types";
import { useT } from "../i18n";

/** One of twelve colours, the same for the same id everywhere. */
export function hue(id: string): number {
  let h = 0;
  for (const c of id) h = (h * 31 + c.charCodeAt(0)) >>> 0;
  return h % 12;
}

/** The first letters of the first two words, as people see letters. */
export function initials(name: string): string {
  const words = name.trim().split(/[\s_.-]+/u).filter(Boolean);
  return words.slice(0, 2).map((w) => [...w][0] ?? "").join("").toLocaleUpperCase();
}

/** A picture is loaded from the server itself only: another host would learn who looks. */
export function ownPicture(url: string | undefined): string | undefined {
  return url?.startsWith("/") && !url.startsWith("//") ? url : undefined;
}

export function Avatar({ id, name, picture, size = "md", presence }: {
  id: string;
  name: string;
  picture?: string | undefined;
  size?: "sm" | "md" | "lg";
  presence?: Presence | undefined;
}) {
  const t = useT();
  const own = ownPicture(picture);
  return (
    <span className={`avatar ${size} hue-${hue(id)}`}>
      {own ? <img src={own} alt="" loading="lazy" /> : <span aria-hidden="true">{initials(name)}</span>}
      {presence && (
        <span className={`dot ${presence}`}>
          <span className="unseen">{t(`presence.${presence}`)}</span>
        </span>
      )}
    </span>
  );
}
