/** Places within the app and their addresses. Pure, but for `navigate`, which tells the browser. */

export type Place =
  | { at: "home" }
  | { at: "room"; room: string; seq?: number }
  | { at: "people" }
  | { at: "channels" }
  | { at: "invite"; code: string }
  | { at: "reset"; token: string }
  | { at: "verify"; token: string };

/** The place of an address; what is not known is home. A mail's token stands behind the `#`: there no server and no log sees it. */
export function parse(path: string, fragment = ""): Place {
  const [, first, second, third] = path.split("/").map(decoded);
  const token = new URLSearchParams(fragment.replace(/^#/, "")).get("token") ?? "";
  switch (first) {
    case "r":
      if (!second || !/^\d{1,19}$/.test(second)) return { at: "home" };
      return third && /^\d{1,16}$/.test(third) ? { at: "room", room: second, seq: Number(third) } : { at: "room", room: second };
    case "people":
    case "channels":
      return { at: first };
    case "invite":
      return second ? { at: "invite", code: second } : { at: "home" };
    case "reset":
    case "verify":
      return token ? { at: first, token } : { at: "home" };
    default:
      return { at: "home" };
  }
}

/** The address of a place. Tokens are used up and never written again. */
export function address(place: Place): string {
  switch (place.at) {
    case "room":
      return place.seq === undefined ? `/r/${place.room}` : `/r/${place.room}/${place.seq}`;
    case "invite":
      return `/invite/${encodeURIComponent(place.code)}`;
    case "people":
    case "channels":
      return `/${place.at}`;
    default:
      return "/";
  }
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
