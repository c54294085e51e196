#!/usr/bin/env python3
"""Writes the tables of docs/BENCHMARKS.md from what scripts/bench measured: bench_tables.py RESULTS CRITERION DOCUMENT.

A number is the median of the runs. A run that lost, doubled or failed anything is an error, not a slower number.
"""
import datetime
import json
import os
import platform
import statistics
import sys


def replace(document, name, content):
    """Puts it between the marks of that name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    with open(document) as f:
        text = f.read()
    if text.count(begin) != 1 or text.count(end) != 1:
        sys.exit(f"{document}: the marks {begin} and {end} must stand there once")
    before, after = text.split(begin)[0], text.split(end)[1]
    with open(document, "w") as f:
        f.write(before + begin + "\n" + content + "\n" + end + after)
    print(f"wrote {document}")


def lines(results, name, but=()):
    with open(os.path.join(results, name + ".jsonl")) as f:
        rows = [json.loads(line) for line in f if line.strip()]
    if not rows:
        sys.exit(f"{name}: nothing was measured")
    for row in rows:
        for fault in ("lost", "doubled", "errors", "unanswered", "ended"):
            if row.get(fault) and fault not in but:
                sys.exit(f"{name}: {row[fault]} {fault}: {row.get('first_errors')}")
    return rows


def median(rows, *path):
    values = []
    for row in rows:
        for key in path:
            row = row.get(key) if isinstance(row, dict) else None
        if row is not None:
            values.append(row)
    return statistics.median(values) if values else None


def number(x, digits=0):
    return "-" if x is None else f"{x:,.{digits}f}"


def table(head, rows):
    out = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(out + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def durable(results):
    floor = {row["group"]: row for row in lines(results, "log_ceiling")}
    rows = []
    for senders in (1, 64, 512):
        runs, bare = lines(results, f"senders_{senders}"), floor[senders]
        rate = median(runs, "acked_per_s")
        rows.append([senders, number(rate), number(median(runs, "ack_ms", "p50"), 2), number(median(runs, "ack_ms", "p99"), 2),
                     number(bare["flushes_per_s"]), number(bare["records_per_s"]), f"{rate / bare['records_per_s']:.0%}"])
    head = ["senders", "acknowledged/s", "p50 ms", "p99 ms", "bare fsyncs/s of as many", "bare records/s", "of the bare writer"]
    return table(head, rows)


def fan_out(results):
    rows = []
    for name, title in (("1x1000", "1 room of 1,000"), ("100x10", "100 rooms of 10"), ("500x2", "500 pairs")):
        cpu = "server_cpu_s_per_million_deliveries"
        ours, bare = lines(results, "fanout_" + name), lines(results, "bare_" + name)
        rows.append([title, number(median(ours, "deliveries_per_s")), number(median(ours, "acked_per_s")), number(median(ours, cpu), 2),
                     number(median(bare, "deliveries_per_s")), number(median(bare, cpu), 2)])
    head = ["load", "deliveries/s", "messages/s", "CPU s per million", "ceiling deliveries/s", "ceiling CPU s per million"]
    return table(head, rows)


def others(results):
    latency, idle, start = lines(results, "latency"), lines(results, "idle"), lines(results, "start")
    span = f"{idle[0]['sessions_from']:,} to {idle[0]['sessions_to']:,}"
    return table(["what", "measured", "goal"], [
        ["delivery at 200 messages/s, 100 rooms of 10: p50 / p99 ms",
         f"{number(median(latency, 'deliver_ms', 'p50'), 2)} / {number(median(latency, 'deliver_ms', 'p99'), 2)}", ""],
        [f"KiB per idle session (slope from {span})", number(median(idle, "kib_per_session"), 2), "at most 4"],
        ["ms until a new server takes connections", number(median(start, "ready_ms")), "under 1,000"],
    ])


def micro(criterion):
    rows = []
    for where, _, files in sorted(os.walk(criterion)):
        if os.path.basename(where) == "new" and "estimates.json" in files:
            with open(os.path.join(where, "benchmark.json")) as f:
                name = json.load(f)["full_id"]
            with open(os.path.join(where, "estimates.json")) as f:
                rows.append([f"`{name}`", number(json.load(f)["median"]["point_estimate"])])
    return table(["benchmark", "ns"], rows)


def machine():
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), platform.machine())
    return f"{datetime.date.today()}, {model}, {os.cpu_count()} cores, Linux {platform.release().split('-')[0]}."


def main(results, criterion, document):
    parts = [
        machine(),
        "### Durable messages\n\nEach sender has a room of its own and sends the next message when the last is acknowledged; an "
        "acknowledgement leaves after fsync. Beside it the bare writer: as many records appended and flushed together.\n\n" + durable(results),
        "### Fan-out\n\nClosed loop, server on one core, the message stored and flushed before it is delivered. The ceiling stores "
        "nothing, checks nothing and has no rooms' order.\n\n" + fan_out(results),
        "### Latency, memory, start\n\n" + others(results),
        "### Micro benchmarks\n\nMedian per iteration; for `append/…` per append.\n\n" + micro(criterion),
    ]
    replace(document, "tables", "\n\n".join(parts))


if __name__ == "__main__":
    main(*sys.argv[1:4])
