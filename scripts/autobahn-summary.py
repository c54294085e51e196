#!/usr/bin/env python3
"""Reads the index.json of an Autobahn|Testsuite run, prints what fell short, and says by its exit code whether that is too much.

Exit codes: 0 good enough, 1 not, 2 the report cannot be judged (no cases: an empty run proves nothing).
"""

import argparse
import json
import sys
from collections import defaultdict

# Verdicts that are as good as it gets: INFORMATIONAL and UNIMPLEMENTED are cases where the RFC leaves the choice.
FINE = {"OK", "INFORMATIONAL", "UNIMPLEMENTED"}
LENIENT = "NON-STRICT"


def by_number(case):
    return [int(part) for part in case.split(".")]


def shortfalls(cases):
    """Cases by what is wrong with them: (is it the message or the close, the verdict) -> case numbers."""
    found = defaultdict(list)
    for case, result in cases.items():
        for what in ("behavior", "behaviorClose"):
            if result[what] not in FINE:
                found[what, result[what]].append(case)
    return found


def judge(agent, cases, non_strict_max):
    lines, good = [], True
    lenient = set()
    for (what, verdict), hit in sorted(shortfalls(cases).items()):
        hit.sort(key=by_number)
        lines.append(f"  {'close' if what == 'behaviorClose' else 'message'} {verdict.lower()}: {' '.join(hit)}")
        if verdict == LENIENT:
            lenient.update(hit)
        else:
            good = False
    if len(lenient) > non_strict_max:
        good = False
    fine = sum(all(r[what] in FINE for what in ("behavior", "behaviorClose")) for r in cases.values())
    print(f"{agent}: {len(cases)} cases, {fine} fine, {len(lenient)} non-strict (at most {non_strict_max}), {len(cases) - fine - len(lenient)} wrong")
    print("\n".join(lines) if lines else "  nothing fell short")
    return good


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("index")
    args.add_argument("--non-strict-max", type=int, default=4)
    args.add_argument("--cases-min", type=int, default=247, help="fewer means that not all groups were run")
    args.add_argument("--seconds", type=float, default=0.0, help="how long the run took")
    args.add_argument("--seconds-max", type=float, default=60.0)
    args = args.parse_args()

    with open(args.index, encoding="utf-8") as file:
        agents = json.load(file)
    if not agents or any(len(cases) < args.cases_min for cases in agents.values()):
        print(f"fewer than {args.cases_min} cases were run: nothing is proven", file=sys.stderr)
        return 2
    good = all([judge(agent, cases, args.non_strict_max) for agent, cases in agents.items()])
    if args.seconds:
        print(f"time: {args.seconds:.1f} s (at most {args.seconds_max:.0f} s)")
        good = good and args.seconds <= args.seconds_max
    print("conformance: passed" if good else "conformance: FAILED")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
