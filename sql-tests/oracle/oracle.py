#!/usr/bin/env python3
"""Compares the expectations of .slt files with what Apache Flink answers, or writes them from there.

usage: sql-tests/oracle/oracle.py [--update] [--mode batch|stream|both] [--verbose] [FILE.slt…]

All files of sql-tests if none are named. The program `flink` beside this script, or the one that FLINK_ORACLE names,
runs SQL files on a real Flink, all in one JVM:

    flink -o DIR -m batch|stream FILE.sql…

and leaves DIR/NAME.batch.out or DIR/NAME.stream.out, JSON lines: per query one
{"columns": [{"name": …, "type": …}…]} and per row {"op": "+I", "row": […]}, per failed statement
{"error": …, "statement": …}. LTZ timestamps are written in UTC, floating point as Java prints it.

Batch answers are the expectations. In streaming mode the changelog is applied first, and the rows left must be
the same. Comments right above a record steer it:

    # oracle: skip REASON          the record is not run on Flink (an extension of tidelake, or the environment)
    # oracle: unchecked REASON     the record is run and its answer ignored
    # oracle: instead SQL          Flink runs this SQL instead of the record's
    # oracle: stream REASON        Flink is asked in streaming mode only: in batch it refuses what tidelake answers

A query labelled `changelog` is compared in streaming mode only, change by change (`--update --mode stream` fills it in).
`onlyif batch` and `onlyif streaming` are honoured. `$__TEST_DIR__` is a fresh folder for every file and mode.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


class Record:
    """One statement or query with the lines of the file it came from."""

    def __init__(self, start):
        self.start = start  # index of the `statement` or `query` line
        self.kind = ""  # ok, error, query, query-error
        self.sort = "rowsort"
        self.sql = []
        self.result_lines = None  # (first, last + 1) of the expected rows
        self.expected = []
        self.skip = False
        self.unchecked = False
        self.instead = None
        self.only = None
        self.streams = False
        self.changelog = False


def parse(text):
    """Records of a file. Understands what the files of this project use."""
    lines = text.split("\n")
    records = []
    pragma, only, i = [], None, 0
    while i < len(lines):
        line = lines[i]
        if line.startswith("# oracle:"):
            pragma.append(line[len("# oracle:") :].strip())
        elif line.startswith("onlyif "):
            # `whole`: as streaming, but not of batches as small as can be.
            only = line.split()[1].replace("whole", "streaming")
        elif re.match(r"(statement|query)\b", line):
            r = Record(i)
            words = line.split()
            if words[0] == "statement":
                r.kind = words[1]
            else:
                r.kind = "query-error" if words[1:2] == ["error"] else "query"
                if "nosort" in words:
                    r.sort = "nosort"
                if "changelog" in words:
                    r.changelog, only = True, "streaming"
            i += 1
            while i < len(lines) and lines[i] not in ("", "----"):
                r.sql.append(lines[i])
                i += 1
            if i < len(lines) and lines[i] == "----":
                i += 1
                first = i
                while i < len(lines) and lines[i] != "":
                    r.expected.append(lines[i])
                    i += 1
                r.result_lines = (first, i)
            for p in pragma:
                word, _, rest = p.partition(" ")
                if word == "skip":
                    r.skip = True
                elif word == "unchecked":
                    r.unchecked = True
                elif word == "instead":
                    r.instead = rest
                elif word == "stream":
                    r.streams = True
                else:
                    raise SystemExit(f"line {r.start + 1}: unknown pragma '{p}'")
            r.only = only
            records.append(r)
            pragma, only = [], None
        elif line and not line.startswith("#"):
            known = ("control ", "subtest ", "halt")
            if not line.startswith(known):
                raise SystemExit(f"line {i + 1}: not understood: {line}")
        i += 1
    return lines, records


class Number(str):
    """A JSON number with a fraction or an exponent, as written."""


def load(line):
    return json.loads(line, parse_float=Number, object_pairs_hook=lambda pairs: ("pairs", pairs))


TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+$")


def fraction(text):
    """Fraction omitted when zero, otherwise 3, 6 or 9 digits."""
    head, _, digits = text.partition(".")
    digits = digits.rstrip("0")
    if not digits:
        return head
    return head + "." + digits.ljust(-(-len(digits) // 3) * 3, "0")


def zoned(text, zone):
    if zone == "UTC":
        return text
    head, dot, digits = text.partition(".")
    t = datetime.strptime(head, "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc).astimezone(ZoneInfo(zone))
    return t.strftime("%Y-%m-%d %H:%M:%S") + dot + digits


def value(v, kind, zone, top=True):
    if v is None:
        return "NULL"
    if v is True or v is False:
        return "TRUE" if v else "FALSE"
    if isinstance(v, (Number, int)):
        return str(v)
    if isinstance(v, str):
        if kind.startswith("TIMESTAMP_LTZ"):
            return fraction(zoned(v, zone))
        if kind.startswith("TIMESTAMP") or (kind.startswith("TIME(") and "." in v):
            return fraction(v)
        if not top and TIMESTAMP.match(v):
            return fraction(v)
        return v if v or not top else "(empty)"
    if isinstance(v, list):
        return "[" + ", ".join(value(x, "", zone, False) for x in v) + "]"
    _, pairs = v
    if kind.startswith(("MAP", "MULTISET")):
        return "{" + ", ".join(f"{k}={value(x, '', zone, False)}" for k, x in pairs) + "}"
    return "(" + ", ".join(value(x, "", zone, False) for _, x in pairs) + ")"


def flink_sql(records, mode, folder):
    """The script for Flink: a statement that always fails, with a number, closes each record."""
    out = []
    for n, r in enumerate(records):
        if not r.skip and (r.only is None or r.only == {"stream": "streaming"}.get(mode, mode)):
            sql = r.instead if r.instead is not None else "\n".join(r.sql)
            out.append(sql.replace("$__TEST_DIR__", folder) + ";")
        out.append(f"DROP TABLE oracle_mark_{n};")
    return "\n".join(out) + "\n"


def answers(path, records):
    """Per record: {"columns": …, "rows": …} or {"error": …} or None."""
    if not os.path.isfile(path):
        raise SystemExit(f"Flink left no answers in {path}")
    out, n, current = [], 0, None
    for line in open(path, encoding="utf-8"):
        item = dict(load(line)[1])
        if "error" in item:
            if item.get("statement") == f"DROP TABLE oracle_mark_{n}":
                out.append(current)
                current, n = None, n + 1
            else:
                current = {"error": item["error"]}
        elif "columns" in item:
            current = {"columns": [dict(c[1])["type"] for c in item["columns"]], "rows": []}
        else:
            current["rows"].append((item["op"], item["row"]))
    if n != len(records):
        raise SystemExit(f"{path}: {n} of {len(records)} records answered")
    return out


def materialize(rows):
    """Applies a changelog of rendered rows."""
    left = []
    for op, row in rows:
        if op in ("+I", "+U"):
            left.append(row)
        elif row in left:
            left.remove(row)
        else:
            raise SystemExit(f"retraction of a row that is not there: {row}")
    return left


def normal(rows):
    return [" ".join(r.split()) for r in rows]


def arguments():
    head, _, rest = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        usage=rest.splitlines()[0].removeprefix("usage: "),
        description=head,
        epilog="\n".join(rest.splitlines()[1:]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--update", action="store_true", help="write Flink's answers into the files")
    parser.add_argument("--mode", choices=("batch", "stream", "both"), default="batch")
    parser.add_argument("--verbose", action="store_true", help="show with which message Flink refuses a statement")
    parser.add_argument("files", metavar="FILE.slt", nargs="*", type=os.path.abspath)
    args = parser.parse_args()
    for f in args.files:
        if not os.path.isfile(f):
            parser.error(f"no such file: {os.path.relpath(f)}")
    return args


def run_flink(folder, mode, scripts):
    """Has Flink run the scripts; its answers are in `folder`."""
    program = os.environ.get("FLINK_ORACLE") or os.path.join(HERE, "flink")
    try:
        code = subprocess.run([program, "-o", folder, "-m", mode, *scripts]).returncode
    except OSError as e:
        raise SystemExit(f"{program}, which runs Flink, cannot be started: {e.strerror}") from e
    if code != 0:
        raise SystemExit(f"{program}, which runs Flink, failed with exit code {code}; nothing was compared")


def main():
    args = arguments()
    mode, files = args.mode, args.files
    os.chdir(ROOT)
    if not files:
        files = sorted(os.path.join("sql-tests", f) for f in os.listdir("sql-tests") if f.endswith(".slt"))
    bad = checked = 0
    work = tempfile.mkdtemp(prefix="oracle-")
    try:
        for m in ("batch", "stream") if mode == "both" else (mode,):
            parsed = {}
            scripts = []
            for f in files:
                name = os.path.splitext(os.path.basename(f))[0]
                lines, records = parse(open(f, encoding="utf-8").read())
                parsed[f] = (name, lines, records)
                folder = os.path.join(work, m, name)
                os.makedirs(folder)
                script = os.path.join(work, m, name + ".sql")
                with open(script, "w", encoding="utf-8") as out:
                    out.write(flink_sql(records, m, folder))
                scripts.append(script)
            results = os.path.join(work, m + "-out")
            run_flink(results, m, scripts)
            for f in files:
                name, lines, records = parsed[f]
                b, c = compare(f, lines, records, answers(os.path.join(results, f"{name}.{m}.out"), records), m, args)
                bad, checked = bad + b, checked + c
    finally:
        shutil.rmtree(work)
    print(f"{checked} answers checked, {bad} differ or fail")
    sys.exit(1 if bad else 0)


def compare(path, lines, records, got, mode, args):
    zone, bad, checked, edits = "UTC", 0, 0, []
    for r, a in zip(records, got):
        sql = "\n".join(r.sql)
        m = re.match(r"SET\s+'table.local-time-zone'\s*=\s*'([^']+)'", sql)
        if m:
            zone = m.group(1)
        if r.skip or r.unchecked or (r.only and r.only != {"stream": "streaming"}.get(mode, mode)):
            continue
        if r.streams and mode == "batch":
            continue
        where = f"{os.path.relpath(path)}:{r.start + 1}"

        def complain(text):
            nonlocal bad
            bad += 1
            print(f"{where} [{mode}]: {text}\n    " + sql.replace("\n", "\n    "))

        failed = a is not None and "error" in a
        if r.kind in ("error", "query-error"):
            if not failed:
                complain("Flink accepts it")
            elif args.verbose:
                print(f"{where} [{mode}]: Flink: {a['error'][:300]}")
            checked += 1
        elif failed:
            complain("Flink: " + a["error"][:1500])
        elif r.kind == "query":
            checked += 1
            if a is None:
                complain("Flink returned no rows result")
                continue
            rendered = [(op, [value(v, t, zone) for v, t in zip(row, a["columns"])]) for op, row in a["rows"]]
            if r.changelog:
                rows = [[f"{op}[{', '.join(row)}]"] for op, row in rendered]
            else:
                rows = materialize(rendered)
            if r.sort == "rowsort":
                rows.sort()
            rows = [" ".join(row) for row in rows]
            if any("\n" in row or row == "" for row in rows):
                complain("a value with a line break cannot be written down")
                continue
            if args.update and (mode == "batch" or r.changelog):
                edits.append((r, rows, 1 if r.changelog else len(a["columns"])))
            elif normal(rows) != normal(r.expected):
                complain("answers differ\n  Flink:\n    " + "\n    ".join(rows[:40]) + "\n  file:\n    " + "\n    ".join(r.expected[:40]) + "\n  query:")
    for r, rows, columns in reversed(edits):
        lines[r.start] = re.sub(r"^query \S+", "query " + "T" * columns, lines[r.start])
        if r.result_lines:
            lines[r.result_lines[0] : r.result_lines[1]] = rows
        else:
            end = r.start + 1 + len(r.sql)
            lines[end:end] = ["----", *rows]
    if edits:
        with open(path, "w", encoding="utf-8") as out:
            out.write("\n".join(lines))
    return bad, checked


if __name__ == "__main__":
    main()
