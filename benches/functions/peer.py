#!/usr/bin/env python3
"""CPU seconds of expressions in DataFusion, less those of reading their columns: peer.py JOBS.json, answers in JSON."""

import json
import sys
import time

from datafusion import SessionConfig, SessionContext

jobs = json.load(open(sys.argv[1]))
context = SessionContext(SessionConfig().with_target_partitions(1))
context.register_parquet("data", jobs["folder"])


def seconds(expressions):
    """The least of several runs."""
    best = None
    for _ in range(jobs["repeat"]):
        begin = time.process_time()
        for batch in context.sql(f"SELECT {expressions} FROM data").execute_stream():
            batch.to_pyarrow()
        took = time.process_time() - begin
        best = took if best is None else min(best, took)
    return best


answers = {"seconds": {}, "errors": {}}
baselines = {}
for job in jobs["jobs"]:
    try:
        over = ", ".join(job["columns"])
        if over not in baselines:
            baselines[over] = seconds(over)
        answers["seconds"][job["name"]] = seconds(f"{job['expression']} AS made") - baselines[over]
    except Exception as e:
        answers["errors"][job["name"]] = str(e).splitlines()[0][:300]
json.dump(answers, sys.stdout)
