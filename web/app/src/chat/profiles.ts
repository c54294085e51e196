/** Names for ids: asked for once each, a few at a time, and kept on the device so that they are there offline. */
import type { Profile, Rest } from "../api/rest";
import type { Store } from "../app/store";
import { profilesLearnt } from "../features/people/slice";

const AT_ONCE = 4;
/** Who could not be asked about is asked about again after this. */
const AGAIN_MS = 15_000;
/** People whose names are kept. */
const KEPT_MAX = 2_000;

const place = (me: string) => `hubbub.people.${me}`;

export function forgetProfiles(me: string) {
  localStorage.removeItem(place(me));
}

export function profiles(rest: Rest, store: Store, me: string) {
  const waiting = new Set<string>();
  const asked = new Map<string, number>();
  let running = 0;

  try {
    store.dispatch(profilesLearnt(JSON.parse(localStorage.getItem(place(me)) ?? "[]") as Profile[]));
  } catch {
    // Nothing was kept, or not by us.
  }
  let keeping: ReturnType<typeof setTimeout> | undefined;
  let before = store.getState().people.byId;
  store.subscribe(() => {
    const { byId } = store.getState().people;
    if (byId === before) return;
    before = byId;
    clearTimeout(keeping);
    keeping = setTimeout(() => {
      try {
        localStorage.setItem(place(me), JSON.stringify(Object.values(byId).slice(-KEPT_MAX)));
      } catch {
        // Storage is full or shut: names are asked for again.
      }
    }, 500);
  });

  async function run() {
    running++;
    for (const user of waiting) {
      waiting.delete(user);
      asked.set(user, Date.now());
      try {
        store.dispatch(profilesLearnt([await rest.user(user)]));
      } catch {
        // Deleted, or not reachable now: asked again when it is shown again, not before some time.
      }
    }
    running--;
  }

  return {
    need(users: readonly string[]) {
      const { byId } = store.getState().people;
      const now = Date.now();
      for (const u of users) if (u !== "0" && !byId[u] && now - (asked.get(u) ?? 0) > AGAIN_MS) waiting.add(u);
      if (waiting.size > 0 && running < AT_ONCE) void run();
    },
  };
}
