/** Goes to places: the address, the history and the state together. */
import type { Store } from "./store";
import { address, type Place, parse } from "./routes";
import { went } from "./ui";

let store: Store | undefined;

/** Called once, at the start. */
export function followAddress(to: Store) {
  store = to;
  addEventListener("popstate", () => to.dispatch(went(parse(location.pathname, location.hash))));
}

export function go(place: Place, { replace = false } = {}) {
  const to = address(place);
  if (to !== location.pathname) history[replace ? "replaceState" : "pushState"](null, "", to);
  store?.dispatch(went(place));
}
