import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { paced } from "./paced";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test("the first of a burst is shown at once, the rest together, and the last one is never left out", () => {
  let value = 0;
  const seen: number[] = [];
  const told = paced(() => seen.push(value), 50);
  for (value = 1; value <= 1_000; value++) told();
  value = 1_000;
  expect(seen).toEqual([1]);
  vi.advanceTimersByTime(50);
  expect(seen).toEqual([1, 1_000]);
  vi.advanceTimersByTime(500);
  expect(seen).toHaveLength(2);
  value = 7;
  told();
  expect(seen).toEqual([1, 1_000, 7]);
});
