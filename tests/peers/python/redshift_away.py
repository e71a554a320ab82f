#!/usr/bin/env python3
"""PostgreSQL goes away under a fleet: ended as by a crash in the middle of a COPY, then stopped for minutes while records
come in and a worker is killed. Afterwards every row is there once, every column is what was sent, the ledger has one row a
shard and commit, and nothing was given up: a warehouse that is away refuses nothing.
"""

import random
import time

import redshift_peer as peer
from redshift import finished, in_mid_copy, pg_ctl, restart_postgres
from redshift_peer import counts, one, run
from redshift_storm import Fleet, Input, Producer, check_columns, check_ledger, first_columns, loaded, pipeline, until
from settings import end, say

NAME, SHARDS, WORKERS = "outage", 4, 2
ROWS, SECONDS = 200_000, 280
AWAY = 180


def crash_in_mid_copy(fleet):
    """Ends PostgreSQL while a COPY of ours waits between its rows; that load must come again."""
    already = counts()["faults"].get("slow_copy", 0)
    peer.faults({"fault": "slow_copy", "times": 1, "seconds": 15, "with_copy": True})
    until(fleet, "a slow COPY", lambda: counts()["faults"].get("slow_copy", 0) > already)
    in_mid_copy()
    before = loaded(NAME)
    restart_postgres()
    peer.control("DELETE", "/faults")
    until(fleet, "rows after the crash", lambda: loaded(NAME) > before)
    say("crash", f"in the middle of a COPY, with {before} rows there; loading goes on")


def stopped_for_minutes(fleet):
    """Stops it, and starts it again after minutes; a worker is killed in between."""
    pg_ctl("stop")
    begin = time.monotonic()
    time.sleep(AWAY / 3)
    fleet.kill()
    while time.monotonic() < begin + AWAY:
        fleet.watch()
        time.sleep(0.5)
    pg_ctl("start")
    say("stopped", f"for {time.monotonic() - begin:.0f} s, a worker killed meanwhile; {loaded(NAME)} rows there when it is back")


def main():
    input = Input(ROWS)
    peer.client("kinesis").create_stream(StreamName=NAME, ShardCount=SHARDS)
    finished(run(f"CREATE TABLE {NAME} ({first_columns().definition()})"))
    fleet = Fleet(NAME, pipeline(NAME, "5s"), WORKERS, random.Random(1).random())
    producer = Producer(input, SECONDS, NAME)
    try:
        fleet.start()
        producer.start()
        until(fleet, "the first rows", lambda: loaded(NAME) > 0)
        crash_in_mid_copy(fleet)
        stopped_for_minutes(fleet)
        producer.join()
        if producer.error:
            raise producer.error
        until(fleet, "all rows", lambda: loaded(NAME) >= input.count)
        wrong = fleet.stop()
    finally:
        for process in fleet.workers.values():
            process.kill()
    wrong += check_columns(input, NAME) + check_ledger(input, NAME)
    given_up = peer.S3.list_objects_v2(Bucket=peer.BUCKET, Prefix=f"{NAME}/errors/").get("Contents", [])
    if given_up:
        wrong.append(f"{len(given_up)} objects under {NAME}/errors/, though Redshift was only away")
    retracted = one(f"SELECT count(*) FROM standpipe_ledger_{NAME} WHERE manifest = 'retracted'")
    if retracted != "0":
        wrong.append(f"{retracted} rows of the ledger take a commit back")
    end(wrong)


if __name__ == "__main__":
    main()
