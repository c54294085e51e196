#!/usr/bin/env python3
"""Writes the cluster's tables of docs/BENCHMARKS.md from what scripts/bench-cluster measured: bench_cluster_tables.py RESULTS DOCUMENT.

A number is the median of the runs. A run that lost, doubled or failed anything is an error, not a slower number. A goal that is missed is
said in the document and at the end of the output; it is no error.
"""
import json
import os
import statistics
import sys

from bench_tables import lines, machine, median, number, replace, table

CPU = "server_cpu_s_per_million_deliveries"


def raw(results, name):
    with open(os.path.join(results, f"cluster_{name}.jsonl")) as f:
        return [json.loads(line) for line in f if line.strip()]


class Goals:
    def __init__(self):
        self.missed = []

    def judge(self, met, what):
        if not met:
            self.missed.append(what)
        return "met" if met else "**missed**"


def latency(results, goals):
    run, write, ping = lines(results, "cluster_latency"), raw(results, "write"), raw(results, "ping")
    rows = []
    for title, of, key in (
        ("sent at one node, received at the other", run, "deliver_across_ms"),
        ("received, at whichever node", run, "deliver_ms"),
        ("acknowledged to the sender", run, "ack_ms"),
        ("one row by the bare driver, acknowledged", write, "ms"),
        ("PING to Redis and its answer", ping, "ms"),
    ):
        rows.append([title, number(median(of, key, "p50"), 2), number(median(of, key, "p99"), 2)])
    return table(["", "p50 ms", "p99 ms"], rows)


def messages(results, goals):
    ours, driver = lines(results, "cluster_messages"), raw(results, "driver")
    best = {}
    for row in driver:
        best.setdefault(row["in_flight"], []).append(row["inserts_per_s"])
    in_flight, rows = max(((n, statistics.median(rates)) for n, rates in best.items()), key=lambda it: it[1])
    rate = median(ours, "acked_per_s")
    met = goals.judge(rate >= rows, f"durable messages a second: {rate / rows:.0%} of the bare driver's rows")
    of = lambda r: statistics.median(r)  # noqa: E731
    spans = [f"{of([row['ms'][q] for row in driver if row['in_flight'] == in_flight]):.1f}" for q in ("p50", "p99")]
    return table(["", "a second", "p50 / p99 ms", "goal"], [
        [f"rows by the bare driver, {in_flight} in flight", number(rows), " / ".join(spans), ""],
        ["messages acknowledged by one node, 100 rooms, 5 senders each, 4 in flight each", number(rate),
         f"{number(median(ours, 'ack_ms', 'p50'), 1)} / {number(median(ours, 'ack_ms', 'p99'), 1)}",
         f"at least as many: {rate / rows:.2f} times, {met}"],
    ])


def cpu(results, goals):
    rows = []
    for name, title in (("1x1000", "1 room of 1,000"), ("100x10", "100 rooms of 10")):
        one, two = lines(results, f"cluster_one_{name}"), lines(results, f"cluster_two_{name}")
        ratio = median(two, CPU) / median(one, CPU)
        met = goals.judge(ratio <= 2, f"processor time of two nodes, {title}: {ratio:.2f} times one node's")
        rows.append([title, number(median(one, CPU), 2), number(median(one, "deliveries_per_s")), number(median(two, CPU), 2),
                     number(median(two, "deliveries_per_s")), f"{ratio:.2f}, at most 2: {met}"])
    head = ["load", "one node: CPU s per million deliveries", "deliveries/s", "two nodes, both counted", "deliveries/s", "times"]
    return table(head, rows)


def said(results, when, node):
    """What a node said of itself: by metric and labels."""
    with open(os.path.join(results, f"cluster_metrics.{when}.{node}")) as f:
        return {name: float(value) for name, _, value in (line.rstrip().rpartition(" ") for line in f if line.startswith("hubbub_"))}


def load(results, goals):
    run = lines(results, "cluster_load", but=("errors", "unanswered", "lost"))[0]
    if run["lost"] > run["errors"] * run["members"] or run["unanswered"] > run["errors"]:
        sys.exit(f"cluster_load: {run['lost']} lost and {run['unanswered']} unanswered are more than failed: {run['first_errors']}")
    before, after = ([said(results, when, node) for node in (1, 2, 3)] for when in ("before", "after"))
    more = [{name: value - was.get(name, 0) for name, value in now.items()} for was, now in zip(before, after)]
    rows = []
    for metric, title in (
        ("hubbub_cluster_claims_total", "shards claimed anew"),
        ("hubbub_cluster_takeovers_total", "shards to be taken over"),
        ("hubbub_cluster_deaths_total", "nodes taken for gone"),
        ("hubbub_cluster_leases_ended_total", "leases found ended"),
        ("hubbub_actor_restarts_total", "actors rebuilt"),
    ):
        new = sum(value for node in more for name, value in node.items() if name.split("{")[0] == metric)
        rows.append([title, number(new), "0: " + goals.judge(new == 0, f"full load: {new:.0f} {title}")])
    rows.append(["requests that failed and were to be sent again", number(run["errors"]), ""])
    slowest, renewals = gaps(more)
    rows.append([f"slowest of {renewals:,.0f} renewals of a lease came after, at most", f"{slowest} s", "a lease lasts 0.6 s"])
    text = (f"{number(run['acked_per_s'])} messages and {number(run['deliveries_per_s'])} deliveries a second for {number(run['seconds'])} s, "
            f"acknowledged after {number(run['ack_ms']['p50'])} ms (p99 {number(run['ack_ms']['p99'])} ms).")
    return text + "\n\n" + table(["", "", "goal"], rows)


def gaps(nodes):
    """The bound of the bucket of the slowest renewal, and how many there were."""
    upto = {}
    for node in nodes:
        for name, value in node.items():
            if name.startswith("hubbub_cluster_lease_gap_seconds_bucket"):
                bound = name.split('"')[1]
                upto[bound] = upto.get(bound, 0) + value
    bounds = sorted(upto, key=lambda bound: float(bound.replace("+Inf", "inf")))
    return next(bound for bound in bounds if upto[bound] == upto[bounds[-1]]), upto[bounds[-1]]


def main(results, document):
    goals = Goals()
    parts = [
        machine(),
        "### Latency across nodes\n\nTwo nodes; 100 rooms of 10, every other member at each node; 200 messages a second. A delivery is counted "
        "from the instant its message was due. In the same seconds 50 single rows a second by the bare driver, and as many PINGs. All "
        "processes may run on both cores.\n\n" + latency(results, goals),
        "### Durable messages\n\nOne node over the CQL server, beside single prepared inserts by the bare driver into a table of the same shape, of "
        "rows of the same size, at the number in flight that gives it most. The driver runs on one thread, as it does in the node. "
        "Node, load generator and database may run on both cores.\n\n" + messages(results, goals),
        "### Processor time\n\nClosed loop; one node, or two with every other member at each; in both cases over the CQL server and Redis. Our "
        "processes on the first core, all others on the second.\n\n" + cpu(results, goals),
        "### Full load\n\nThree nodes, 100 rooms of 6, 3 senders each, 12 messages in flight a room; load generator, nodes, database and Redis "
        "share both cores, which have no idle time. Leases as configured by default. Counted over all nodes from after the first "
        "messages to the end.\n\n" + load(results, goals),
        "Missed: " + "; ".join(goals.missed) + "." if goals.missed else "All goals were met.",
    ]
    replace(document, "cluster", "\n\n".join(parts))
    for missed in goals.missed:
        print(f"MISSED: {missed}")
    if not goals.missed:
        print("all goals of the cluster's part were met")


if __name__ == "__main__":
    main(*sys.argv[1:3])
