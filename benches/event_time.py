"""Sections of `run` about event time: what is held while an hour goes by, and how fast windows, OVER and patterns are."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request

HOUR = 3600


def table(name, rows, per_second, keys):
    """`per_second` rows a second of event time, of keys in no order; `v`: 0 to 1008 in no order."""
    return (
        f"CREATE TABLE {name} (n BIGINT, k AS MOD(n * 7368787, {keys}), v AS MOD(n * 7919, 1009),\n"
        f"  ts AS TO_TIMESTAMP_LTZ(CAST(n * 1000 / {per_second} AS BIGINT), 3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)\n"
        f"WITH ('connector' = 'datagen', 'number-of-rows' = '{rows}', 'rows-per-second' = '1000000000',\n"
        f"  'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '{rows - 1}',\n"
        # Two readers of one table go about equally fast, so that a join's state is that of its interval.
        f"  'scan.watermark.alignment.group' = 'g', 'scan.watermark.alignment.max-drift' = '2 s', 'scan.watermark.alignment.update-interval' = '5 ms');\n"
    )


VERSIONS = (
    "CREATE VIEW versions AS SELECT k, v, ts FROM (SELECT k, v, ts, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts DESC) AS r FROM t) WHERE r = 1;\n"
)
WINDOW = "TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)"

# Name, SELECT of one BIGINT.
CONSTRUCTS = [
    ("`TUMBLE`", f"SELECT COUNT(*) FROM {WINDOW} GROUP BY k, window_start, window_end"),
    ("`HOP`", "SELECT SUM(v) FROM HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '10' SECOND) GROUP BY k, window_start, window_end"),
    ("`CUMULATE`", "SELECT MAX(v) FROM CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '10' SECOND) GROUP BY k, window_start, window_end"),
    ("`SESSION`", "SELECT COUNT(*) FROM SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '0.5' SECOND) GROUP BY k, window_start, window_end"),
    ("window join", f"SELECT a.n FROM (SELECT * FROM {WINDOW}) AS a JOIN (SELECT * FROM {WINDOW}) AS b ON a.n = b.n AND a.window_start = b.window_start AND a.window_end = b.window_end"),
    ("window top-3", f"SELECT n FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k, window_start, window_end ORDER BY v DESC) AS r FROM {WINDOW}) WHERE r <= 3"),
    ("window deduplication", f"SELECT n FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k, window_start, window_end ORDER BY ts DESC) AS r FROM {WINDOW}) WHERE r <= 1"),
    ("interval join, 10 s", "SELECT a.n FROM t AS a JOIN t AS b ON a.n = b.n AND a.ts BETWEEN b.ts - INTERVAL '10' SECOND AND b.ts"),
    ("interval join, `FULL`", "SELECT a.n FROM t AS a FULL JOIN t AS b ON a.n = b.n AND a.ts BETWEEN b.ts - INTERVAL '5' SECOND AND b.ts + INTERVAL '5' SECOND"),
    ("temporal join", "SELECT a.n FROM t AS a LEFT JOIN versions FOR SYSTEM_TIME AS OF a.ts AS b ON a.k = b.k"),
    ("`OVER` `RANGE` 10 s", "SELECT SUM(v) OVER (PARTITION BY k ORDER BY ts RANGE BETWEEN INTERVAL '10' SECOND PRECEDING AND CURRENT ROW) FROM t"),
    ("`OVER` 10 `ROWS`", "SELECT SUM(v) OVER (PARTITION BY k ORDER BY ts ROWS BETWEEN 9 PRECEDING AND CURRENT ROW) FROM t"),
    (
        "`MATCH_RECOGNIZE` `WITHIN` 10 s",
        "SELECT x FROM t MATCH_RECOGNIZE (PARTITION BY k ORDER BY ts MEASURES A.n AS x ONE ROW PER MATCH AFTER MATCH SKIP PAST LAST ROW\n"
        "  PATTERN (A B* C) WITHIN INTERVAL '10' SECOND DEFINE A AS v > 100, B AS v < 900, C AS v > 1000)",
    ),
    ("`ORDER BY`", "SELECT n FROM t ORDER BY ts"),
]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def watched(command, rows):
    """Runs a job and looks at it all the time: at 10, 50 and 100 % of its rows the entries of state and the resident memory."""
    port = free_port()
    child = subprocess.Popen(command + ["--metrics-addr", f"127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    looks = []
    while child.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=1) as answer:
                text = answer.read().decode()
            status = open(f"/proc/{child.pid}/status").read()
            read = int(re.search(r"^tidelake_job_rows_in_total (\d+)", text, re.M)[1])
            entries = sum(map(int, re.findall(r"^tidelake_operator_state_entries\{.*\} (\d+)", text, re.M)))
            looks.append((read, entries, int(re.search(r"VmRSS:\s*(\d+)", status)[1]) * 1024))
        except (OSError, TypeError):
            pass
        time.sleep(0.01)
    err = child.stderr.read()
    if child.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{err}exit code {child.returncode}")
    # Each source counts its rows: two of them for a join of the table with itself, unless they share a reader.
    most = max((read for read, _, _ in looks), default=0)
    total = rows * max(1, round(most / rows))
    at = []
    for part in (0.1, 0.5, 1.0):
        near = [look for look in looks if abs(look[0] / total - part) < 0.1 and look[0] < total]
        at.append(min(near, key=lambda look: abs(look[0] / total - part)) if near else None)
    return at


def held(bench):
    """What is held at 10, 50 and 100 % of an hour of event time."""
    rows = int((bench.args.events or 18) * 1e6)
    per_second, parallelism = rows // HOUR, bench.args.parallelism
    print(f"An hour of event time at full speed, {rows / 1e6:g} M rows of 1,000 keys, parallelism {parallelism}: entries of state, and resident memory in MB, when so much of it has gone by:\n")
    print("| query | entries, 10 % | 50 % | 100 % | MB, 10 % | 50 % | 100 % |")
    print("|---|---|---|---|---|---|---|")
    for name, query in CONSTRUCTS:
        script = table("t", rows, per_second, 1000) + VERSIONS
        script += f"CREATE TABLE nothing (n BIGINT) WITH ('connector' = 'blackhole');\nINSERT INTO nothing {query};\n"
        path = bench.file("held.sql", script)
        command = [bench.binary, "run", path, "-s", "execution.runtime-mode=streaming", "-s", f"parallelism.default={parallelism}"]
        at = watched(command, rows)
        entries = " | ".join("" if look is None else f"{look[1]:,}" for look in at)
        memory = " | ".join("" if look is None else f"{look[2] / 1e6:,.0f}" for look in at)
        print(f"| {name} | {entries} | {memory} |", flush=True)
    print()


def prices(rows, noisy):
    """Prices of 100 things, one a second each: down for four seconds and up for four; or that with some noise."""
    step = "(n / 100)"
    noise = f" + MOD(n * 7919, 3)" if noisy else ""
    return (
        f"CREATE TABLE prices (n BIGINT, thing AS MOD(n, 100), price AS 100 + 3 * ABS(MOD({step}, 8) - 4){noise},\n"
        "  ts AS TO_TIMESTAMP_LTZ(n * 10, 3), WATERMARK FOR ts AS ts)\n"
        f"WITH ('connector' = 'datagen', 'number-of-rows' = '{rows}', 'rows-per-second' = '1000000000',\n"
        f"  'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '{rows - 1}');\n"
    )


DOUBLE_BOTTOM = """SELECT bottom FROM prices MATCH_RECOGNIZE (
  PARTITION BY thing ORDER BY ts
  MEASURES LAST(DOWN2.price) AS bottom
  ONE ROW PER MATCH AFTER MATCH SKIP PAST LAST ROW
  PATTERN (TOP DOWN1+ UP1+ DOWN2+ UP2) WITHIN INTERVAL '60' SECOND
  DEFINE DOWN1 AS price < LAST(price, 1), UP1 AS price > LAST(price, 1), DOWN2 AS price < LAST(price, 1), UP2 AS price > LAST(price, 1))"""


def over(bench):
    """Rows a second of windows that slide, OVER and the double bottom; streaming and batch."""
    rows = int((bench.args.events or 5) * 1e6)
    print(f"{rows / 1e6:g} M rows, parallelism {bench.args.parallelism}, generation included; k rows/s per core-second:\n")
    print("| query | streaming | batch |")
    print("|---|---|---|")
    whole = table("t", rows, 1000, 1000)
    cases = [("nothing but the rows", whole, "SELECT v FROM t")]
    for slides in (1, 10, 60, 240):
        slide = f"INTERVAL '{60 / slides:.3f}' SECOND"
        hop = f"HOP(TABLE t, DESCRIPTOR(ts), {slide}, INTERVAL '60' SECOND)"
        cases.append((f"`HOP` of 60 s, each row in {slides}", whole, f"SELECT COUNT(*) FROM {hop} GROUP BY k, window_start, window_end"))
    frames = ["RANGE BETWEEN INTERVAL '10' SECOND PRECEDING AND CURRENT ROW", "ROWS BETWEEN 9 PRECEDING AND CURRENT ROW", "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"]
    for frame in frames:
        for aggregate in ("SUM(v)", "MAX(v)"):
            cases.append((f"`{aggregate} OVER (… {frame})`", whole, f"SELECT {aggregate} OVER (PARTITION BY k ORDER BY ts {frame}) FROM t"))
    cases.append(("`LAG(v) OVER (…)`", whole, "SELECT LAG(v) OVER (PARTITION BY k ORDER BY ts) FROM t"))
    cases.append(("double bottom, `MATCH_RECOGNIZE`", prices(rows, False), DOUBLE_BOTTOM))
    cases.append(("double bottom, prices with noise", prices(rows, True), DOUBLE_BOTTOM))
    for name, tables, query in cases:
        script = bench.file("over.sql", tables + f"CREATE TABLE nothing (n BIGINT) WITH ('connector' = 'blackhole');\nINSERT INTO nothing {query};\n")
        rates = [f"{rows / bench.sql(script, mode=mode).cpu / 1000:,.0f}" for mode in ("streaming", "batch")]
        print(f"| {name} | {' | '.join(rates)} |", flush=True)
    print()
