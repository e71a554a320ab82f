#!/usr/bin/env python3
"""Rows a second beside psql's \\copy of the same rows into the same PostgreSQL: of COPY from S3 through the endpoint, and of
Standpipe from a stream into the table, one worker from its start to its end."""

import csv
import gzip
import io
import itertools
import json
import os
import subprocess
import time

import zstandard

from redshift_peer import client, copy, manifest, one, psql, put, run
from redshift_storm import HEAD, pipeline
from settings import end, say

TYPES = {"carrier": "VARCHAR(2)", "tailnum": "VARCHAR(6)", "origin": "VARCHAR(3)", "dest": "VARCHAR(3)", "time_hour": "TIMESTAMP"}
PART = 125_000
OURS = "swift"


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


def standpipe(lines):
    """Seconds that a worker takes from its start to its end, everything in the stream delivered."""
    work = os.environ["PEERS_WORK"]
    program, config = os.path.join(work, "standpipe"), os.path.join(work, "speed.yaml")
    client("kinesis").create_stream(StreamName=OURS, ShardCount=4)
    subprocess.run([program, "put", OURS, lines, "--output", "json"], check=True, capture_output=True)
    with open(config, "w") as file:
        # Defaults, but for an interval that is not waited for: what is there is delivered at once.
        file.write(HEAD + pipeline(OURS, "1h").replace("size: 4MiB, interval: 2s", "size: 128MiB, interval: 1m"))
    begin = time.monotonic()
    done = subprocess.run([program, "run", "-c", config, "--until", "caught-up"], env=dict(os.environ, STANDPIPE_WORKER="speed"),
                          capture_output=True, text=True)
    seconds = time.monotonic() - begin
    if done.returncode:
        raise SystemExit(f"standpipe ended with {done.returncode}: {done.stderr[-2000:]}")
    say("standpipe", f"{one(f'SELECT count(DISTINCT cid) FROM standpipe_ledger_{OURS}')} loads")
    return seconds


def main():
    count = int(os.environ["PEERS_ROWS"])
    entries, columns, part = [], None, []
    plain, lines = (os.path.join(os.environ["PEERS_WORK"], name) for name in ("flights.csv", "flights.jsonl"))
    with open(plain, "w", newline="") as file, open(lines, "w") as json_file:
        writer = csv.writer(file)
        for row in flights(count):
            columns = columns or list(row)
            writer.writerow(["" if value is None else value for value in row.values()])
            part.append(json.dumps(row))
            json_file.write(part[-1] + "\n")
            if len(part) == PART or row["id"] == count - 1:
                entries.append(put(f"speed/{len(entries)}.json.gz", gzip.compress("\n".join(part).encode(), 1)))
                part = []
    definition = ", ".join(f"{name} {TYPES.get(name, 'BIGINT')}" for name in columns)
    url = manifest("speed/manifest", *entries)
    for name in ("speed_copy", "speed_psql", OURS):
        run(f"CREATE TABLE {name} ({definition})")
    begin = time.monotonic()
    psql(f"\\copy speed_psql FROM '{plain}' CSV")
    theirs = time.monotonic() - begin
    begin = time.monotonic()
    told = run(copy("speed_copy", url, "JSON 'auto' GZIP"))
    copied = time.monotonic() - begin
    faults = [] if told["Status"] == "FINISHED" else [f"COPY: {told}"]
    ours = standpipe(lines)
    for name, seconds in (("psql \\copy", theirs), ("COPY from S3", copied), ("standpipe", ours)):
        ratio = f", {theirs / seconds:.2f} of psql's" if seconds != theirs else ""
        say(name, f"{count:,} rows in {seconds:.1f} s: {count / seconds:,.0f} rows/s{ratio}")
    for name in ("speed_copy", OURS):
        if one(f"SELECT count(*) FROM (TABLE {name} EXCEPT ALL TABLE speed_psql) x") != "0" \
                or one(f"SELECT count(*) FROM {name}") != str(count):
            faults.append(f"{name} differs from psql's table")
    psql(f"DROP TABLE speed_copy, speed_psql, {OURS}")
    end(faults)


if __name__ == "__main__":
    main()
