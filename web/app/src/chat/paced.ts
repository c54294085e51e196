/** How often a burst of changes is shown: often enough to be live, seldom enough that a long list is not drawn anew for each of thousands. */
const PACE_MS = 50;

/** Runs at once when it has not just run, else once at the end of the pause, however often it is called meanwhile. */
export function paced(run: () => void, pace = PACE_MS): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let again = false;
  const rest = () => {
    timer = undefined;
    if (again) now();
  };
  const now = () => {
    again = false;
    timer = setTimeout(rest, pace);
    run();
  };
  return () => {
    if (timer === undefined) now();
    else again = true;
  };
}
