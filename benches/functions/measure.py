"""`benches/run functions`: rows/s of each function of functions.txt, beside DataFusion's nearest.

Each expression is a query of its own over the same Parquet file, at parallelism 1 and in batch mode; counted is CPU time, less
that of a query which gives the columns of the expression as they are. So reading is out, and what is left is the function and
making its result. With PYTHON an interpreter that has the package `datafusion`, DataFusion does the same in one process.
"""

import json
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
# Less than this is the noise of a process that starts.
LEAST_NS = 3
# Marked is what takes more than twice DataFusion's time, and this much more.
SLOWER, MARGIN_NS = 2, 5


def cases():
    """(name, tidelake's expression, DataFusion's or None) of functions.txt."""
    for number, line in enumerate(open(os.path.join(HERE, "functions.txt")), 1):
        if line.startswith("#") or not line.strip():
            continue
        # `||` is a function of this list: only a lone bar separates.
        parts = re.split(r" \| ", line.rstrip("\n"))
        if len(parts) != 3:
            sys.exit(f"functions.txt:{number}: name | expression | expression of DataFusion or -")
        name, own, other = parts
        yield name, own, None if other == "-" else other


def columns():
    """The names of the table's columns."""
    table = re.search(r"CREATE TABLE data \((.*?)\n\) WITH", open(os.path.join(HERE, "table.sql")).read(), re.S)[1]
    inside = re.sub(r"<[^>]*(<[^>]*>[^>]*)*>|\([^)]*\)", "", table)
    return [part.split()[0] for part in inside.split(",")]


def used(expression, known):
    """The columns of an expression: words that are neither called nor inside of quotes."""
    words = set(re.findall(r"\b[a-z_0-9]+\b", re.sub(r"'[^']*'", "", expression)))
    return [c for c in known if c in words]


def uncovered():
    """Scalar functions of the documentation that functions.txt has no line for."""
    measured = {name.split(":")[0] for name, _, _ in cases()}
    skipped = {"Aggregate", "Bitmap aggregate", "Table functions", "Group windows", "MATCH_RECOGNIZE", "Grouping", "Catalog", "Others"}
    section, missing = "", []
    for line in open(os.path.join(HERE, "../../src/functions/reference/functions.txt")):
        if line.startswith("== "):
            section = line[3:].strip()
        elif section not in skipped and " ¦ " in line:
            name = line.split(" ¦ ")[0]
            if name not in measured:
                missing.append(name)
    return missing


def functions(bench):
    """Prints the table."""
    rows = int((bench.args.events or 1) * 1e6)
    folder = os.path.join(bench.work.name, "functions")
    ddl = open(os.path.join(HERE, "table.sql")).read()
    ddl = ddl.replace("ROWS", str(rows)).replace("LAST", str(rows - 1)).replace("FOLDER", folder)
    bench.sql(bench.file("functions.sql", ddl), mode="batch", parallelism=1, repeat=1)
    declare = bench.file("table.sql", re.search(r"CREATE TABLE data .*?;\n", ddl, re.S)[0])
    wanted = bench.args.queries.split(",") if bench.args.queries else None
    chosen = [c for c in cases() if wanted is None or c[0] in wanted]
    known = columns()
    baselines = {}

    def cpu(expressions):
        query = f"CREATE TABLE nothing WITH ('connector' = 'blackhole') AS SELECT {expressions} FROM data;"
        return bench.sql(declare, bench.file("one.sql", query), mode="batch", parallelism=1).cpu

    def own(expression):
        over = ", ".join(used(expression, known))
        if over not in baselines:
            baselines[over] = cpu(over)
        return (cpu(f"{expression} AS made") - baselines[over]) / rows * 1e9

    other = datafusion(bench, folder, chosen, known, rows)
    print(f"Functions over {rows / 1e6:g} M rows, one core; of {bench.args.repeat} runs the best, less reading the columns:\n")
    print("| function | expression | M rows/s | ns/row | DataFusion, ns/row | ÷ DataFusion | |")
    print("|---|---|---|---|---|---|---|")
    slower, compared = [], 0
    for name, expression, theirs in chosen:
        ns = own(expression)
        rate = f"{1000 / ns:,.1f}" if ns >= LEAST_NS else f"> {1000 / LEAST_NS:,.0f}"
        peer = other.get(name) if theirs else None
        ratio = mark = ""
        if peer is not None:
            compared += 1
            if max(ns, peer) >= LEAST_NS:
                ratio = f"{max(ns, LEAST_NS) / max(peer, LEAST_NS):.2f}"
            if ns > SLOWER * max(peer, LEAST_NS) and ns - peer > MARGIN_NS:
                mark = "slower"
                slower.append(name)
        shown = "" if peer is None else at_least(peer)
        cell = expression.replace("|", "\\|")
        print(f"| {name.replace('|', chr(92) + '|')} | `{cell}` | {rate} | {at_least(ns)} | {shown} | {ratio} | {mark} |", flush=True)
    print(f"\nOf {compared} compared, {len(slower)} take more than {SLOWER} × DataFusion's time: {', '.join(slower) or 'none'}.")
    if wanted is None:
        print(f"Not measured: {', '.join(uncovered()) or 'none'}.\n")


def at_least(ns):
    return f"{ns:,.1f}" if ns >= LEAST_NS else f"< {LEAST_NS}"


def datafusion(bench, folder, chosen, known, rows):
    """ns a row by name; empty without the package."""
    python = os.environ.get("PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import datafusion"], capture_output=True).returncode:
        print("Without DataFusion: PYTHON names no interpreter with its package.\n")
        return {}
    jobs = [{"name": name, "expression": e, "columns": used(e, known)} for name, _, e in chosen if e]
    path = bench.file("datafusion.json", json.dumps({"folder": folder, "repeat": bench.args.repeat, "jobs": jobs}))
    out = subprocess.run([python, os.path.join(HERE, "peer.py"), path], check=True, stdout=subprocess.PIPE, text=True).stdout
    answers = json.loads(out)
    for name, error in answers["errors"].items():
        print(f"DataFusion does not do {name}: {error}\n")
    return {name: seconds / rows * 1e9 for name, seconds in answers["seconds"].items()}
