#!/usr/bin/env python3
"""Rows a second of COPY from S3 through the endpoint, beside psql's \\copy of the same rows into the same PostgreSQL."""

import csv
import gzip
import io
import itertools
import json
import os
import time

import zstandard

from redshift_peer import copy, manifest, one, psql, put, run
from settings import end, say

TYPES = {"carrier": "VARCHAR(2)", "tailnum": "VARCHAR(6)", "origin": "VARCHAR(3)", "dest": "VARCHAR(3)", "time_hour": "TIMESTAMP"}
PART = 125_000


def flights(count):
    """Lines of the real flights with an id, over and over until there are enough."""
    path = os.path.join(os.environ["PEERS_DATA"], "flights.jsonl.zst")
    number = 0
    while number < count:
        with open(path, "rb") as packed:
            lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True))
            for line in itertools.islice(lines, count - number):
                row = {"id": number, **json.loads(line)}
                row["time_hour"] = row["time_hour"][:19]
                yield row
                number += 1


def main():
    count = int(os.environ["PEERS_ROWS"])
    entries, columns, part = [], None, []
    plain = os.path.join(os.environ["PEERS_WORK"], "flights.csv")
    with open(plain, "w", newline="") as file:
        writer = csv.writer(file)
        for row in flights(count):
            columns = columns or list(row)
            writer.writerow(["" if value is None else value for value in row.values()])
            part.append(json.dumps(row))
            if len(part) == PART or row["id"] == count - 1:
                entries.append(put(f"speed/{len(entries)}.json.gz", gzip.compress("\n".join(part).encode(), 1)))
                part = []
    definition = ", ".join(f"{name} {TYPES.get(name, 'BIGINT')}" for name in columns)
    url = manifest("speed/manifest", *entries)
    faults = []
    for name in ("speed_copy", "speed_psql"):
        run(f"CREATE TABLE {name} ({definition})")
    begin = time.monotonic()
    told = run(copy("speed_copy", url, "JSON 'auto' GZIP"))
    ours = time.monotonic() - begin
    if told["Status"] != "FINISHED":
        faults.append(f"COPY: {told}")
    begin = time.monotonic()
    psql(f"\\copy speed_psql FROM '{plain}' CSV")
    theirs = time.monotonic() - begin
    for name, seconds in (("COPY from S3", ours), ("psql \\copy", theirs)):
        say(name, f"{count:,} rows in {seconds:.1f} s: {count / seconds:,.0f} rows/s")
    if one("SELECT count(*) FROM (TABLE speed_copy EXCEPT ALL TABLE speed_psql) x") != "0" \
            or one("SELECT count(*) FROM speed_copy") != str(count):
        faults.append("the two tables differ")
    psql("DROP TABLE speed_copy, speed_psql")
    end(faults)


if __name__ == "__main__":
    main()
