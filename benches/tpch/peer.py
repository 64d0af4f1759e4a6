#!/usr/bin/env python3
"""Runs a query over the Parquet files of TPC-H with another engine: peer.py datafusion|duckdb FOLDER QUERY THREADS.

Prints the number of rows, seconds and CPU seconds of the query, without the start of the process.
"""

import sys
import time

TABLES = "region nation supplier part partsupp customer orders lineitem".split()


def datafusion(folder, threads):
    from datafusion import SessionConfig, SessionContext

    context = SessionContext(SessionConfig().with_target_partitions(threads))
    for table in TABLES:
        context.register_parquet(table, f"{folder}/{table}")
    return lambda sql: sum(batch.to_pyarrow().num_rows for batch in context.sql(sql).execute_stream())


def duckdb(folder, threads):
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"SET threads = {threads}")
    for table in TABLES:
        connection.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet('{folder}/{table}/**')")
    return lambda sql: len(connection.execute(sql).fetchall())


engine, folder, query, threads = sys.argv[1:]
run = {"datafusion": datafusion, "duckdb": duckdb}[engine](folder, int(threads))
sql = open(query).read()
begin, cpu = time.monotonic(), time.process_time()
rows = run(sql)
print(rows, time.monotonic() - begin, time.process_time() - cpu)
