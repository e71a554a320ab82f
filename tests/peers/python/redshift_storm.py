#!/usr/bin/env python3
"""Real flights through worker processes into Redshift, workers killed, every fault of the endpoint on, PostgreSQL ended and
started again: afterwards every row is there once, every column is what was sent, and the ledger has one row a shard and
commit. A fault that never struck makes the run red: it would prove nothing.
"""

import hashlib
import io
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import zstandard

import redshift_peer as peer
from redshift import finished, restart_postgres
from redshift_peer import client, counts, one, psql, run
from settings import end, say

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "readers"))
import receipts

SHARDS = 4
KINDS = {"carrier": "VARCHAR(2)", "tailnum": "VARCHAR(6)", "origin": "VARCHAR(3)", "dest": "VARCHAR(3)", "time_hour": "TIMESTAMP"}
HEAD = """version: 1
worker:
  id: ${STANDPIPE_WORKER}
  memory: 128MiB
  shutdown_grace: 60s
http: "off"
telemetry: { logs: json }
pipelines:
"""
PIPELINE = """  {name}:
    lease: {{ table: standpipe-{name}, failover: 3s }}
    source: {{ kinesis: {{ stream: {name}, start: trim_horizon, read: polling, poll: 500ms }} }}
    destinations:
      - redshift:
          cluster: cluster
          database: dev
          auth: {{ iam: {{ db_user: loader }} }}
          staging: {{ bucket: {bucket}, prefix: {name}/, compression: gzip }}
          copy: {{ table: public.{name}, role: "{role}", options: "JSON 'auto' TIMEFORMAT 'auto'" }}
          buffer: {{ size: 4MiB, interval: 2s }}
          retry: {{ for: {retry} }}
"""
# Beside these, one that has not struck yet is made to strike once, every other second.
FAULTS = [
    {"fault": "throttle", "probability": 0.03}, {"fault": "internal", "probability": 0.03},
    {"fault": "internal_after", "probability": 0.03, "operation": "BatchExecuteStatement", "with_copy": True},
    {"fault": "drop_request", "probability": 0.03},
    {"fault": "drop_accepted", "probability": 0.05, "operation": "BatchExecuteStatement", "with_copy": True},
    {"fault": "drop_ended", "probability": 0.08, "with_copy": True},
    {"fault": "active_statements", "probability": 0.05, "with_copy": True},
    {"fault": "database_connection", "probability": 0.03, "with_copy": True},
    {"fault": "forgotten", "probability": 0.02, "operation": "DescribeStatement"},
    {"fault": "aborted", "probability": 0.06, "with_copy": True},
    {"fault": "serialization", "probability": 0.06, "with_copy": True},
    {"fault": "commit_unclear", "probability": 0.08, "with_copy": True},
    {"fault": "connection_gone", "probability": 0.06, "with_copy": True},
    {"fault": "slow_copy", "probability": 0.06, "seconds": 3},
]


class Input:
    """Flights with an id each; of every column the sum of what `id:value` hashes to."""

    def __init__(self, count):
        self.count, self.number, self.columns, self.sums = count, 0, None, {}

    def lines(self):
        path = os.path.join(os.environ["PEERS_DATA"], "flights.jsonl.zst")
        while self.number < self.count:
            with open(path, "rb") as packed:
                text = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True))
                for line in itertools.islice(text, self.count - self.number):
                    row = {"id": self.number, **json.loads(line)}
                    self.add(row)
                    self.number += 1
                    yield json.dumps(row).encode()

    def add(self, row):
        if self.columns is None:
            self.columns = list(row)
            self.sums = dict.fromkeys(self.columns, 0)
        for name, value in row.items():
            shown = "null" if value is None else str(value)[:19] if name == "time_hour" else str(value)
            digest = hashlib.md5(f"{row['id']}:{shown}".encode()).hexdigest()
            self.sums[name] += int(digest[:8], 16)

    def definition(self):
        return ", ".join(f"{name} {KINDS.get(name, 'BIGINT')}" for name in self.columns)


def first_columns():
    """The columns, before anything is sent."""
    some = Input(1)
    list(some.lines())
    return some


class Producer(threading.Thread):
    """Puts every record once, within so many seconds; an answer that does not come ends the run."""

    def __init__(self, input, seconds, stream="flights"):
        super().__init__(daemon=True)
        self.input, self.rate, self.error, self.done = input, input.count / seconds, None, threading.Event()
        self.stream = stream

    def run(self):
        try:
            kinesis, begin = client("kinesis"), time.monotonic()
            for lines in iter_chunks(self.input.lines(), 500):
                entries = [{"Data": line, "PartitionKey": hashlib.md5(line).hexdigest()} for line in lines]
                answer = kinesis.put_records(StreamName=self.stream, Records=entries)
                if answer["FailedRecordCount"]:
                    raise RuntimeError("records were refused")
                time.sleep(max(0, begin + self.input.number / self.rate - time.monotonic()))
        except Exception as error:
            self.error = error
        self.done.set()


def iter_chunks(items, size):
    items = iter(items)
    while chunk := list(itertools.islice(items, size)):
        yield chunk


def pipeline(name, retry):
    return PIPELINE.format(name=name, bucket=peer.BUCKET, role=peer.ROLE, retry=retry)


class Fleet:
    """Worker processes of one config."""

    def __init__(self, name, pipelines, count, seed):
        self.count, self.random, self.born, self.workers, self.killed = count, random.Random(seed), 0, {}, 0
        self.folder = os.path.join(os.environ["PEERS_WORK"], name)
        os.makedirs(self.folder, exist_ok=True)
        self.config = os.path.join(self.folder, "standpipe.yaml")
        with open(self.config, "w") as file:
            file.write(HEAD + pipelines)

    def start(self):
        while len(self.workers) < self.count:
            self.born += 1
            name = f"worker-{self.born:03}"
            with open(os.path.join(self.folder, f"{name}.log"), "wb") as log:
                self.workers[name] = subprocess.Popen(
                    [os.path.join(os.environ["PEERS_WORK"], "standpipe"), "run", "-c", self.config],
                    env=dict(os.environ, STANDPIPE_WORKER=name), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)

    def watch(self):
        for name, process in self.workers.items():
            if process.poll() is not None:
                with open(os.path.join(self.folder, f"{name}.log"), errors="replace") as log:
                    raise SystemExit(f"{name} ended by itself with {process.returncode}:\n{log.read()[-3000:]}")

    def kill(self):
        name = self.random.choice(list(self.workers))
        process = self.workers.pop(name)
        process.kill()
        process.wait()
        self.killed += 1
        self.start()

    def stop(self):
        """Asks all of them to end; what is wrong with how they did."""
        wrong = []
        for process in self.workers.values():
            process.send_signal(signal.SIGTERM)
        for name, process in self.workers.items():
            try:
                if process.wait(120):
                    wrong.append(f"{name} ended with {process.returncode} after SIGTERM")
            except subprocess.TimeoutExpired:
                process.kill()
                wrong.append(f"{name} did not end within 120 s of SIGTERM")
        return wrong


def until(fleet, what, condition, most=120):
    begin = time.monotonic()
    while not condition():
        fleet.watch()
        if time.monotonic() - begin > most:
            raise SystemExit(f"{most} s passed without {what}")
        time.sleep(0.3)


def loaded(table="flights"):
    """Rows in the table; -1 while PostgreSQL is away."""
    try:
        return int(one(f"SELECT count(*) FROM {table}"))
    except peer.Psql:
        return -1


def storm(fleet, producer, random_, short):
    """Kills, and once PostgreSQL ends, until everything was put and enough went wrong."""
    begin = time.monotonic()
    kill, restart, force, most = begin + 6, begin + 15, begin + 4, begin + (150 if short else 900)
    while True:
        now = time.monotonic()
        fleet.watch()
        if producer.error:
            raise producer.error
        missing = [rule["fault"] for rule in FAULTS if not counts()["faults"].get(rule["fault"])]
        if producer.done.is_set() and not missing and not restart and fleet.killed >= 3 or now > most:
            return missing
        if now >= force:
            forced = [{**rule, "probability": 1, "times": 1} for rule in FAULTS if rule["fault"] in missing[:1]]
            peer.faults(*forced, *FAULTS)
            force = now + 2
        if now >= kill:
            fleet.kill()
            kill = now + random_.uniform(3, 7)
        if restart and now >= restart:
            restart_postgres()
            say("postgresql", "ended as by a crash, started again")
            restart = None
        time.sleep(0.3)


def check_ledger(input, name="flights"):
    wrong = []
    ledger = f"standpipe_ledger_{name}"
    told = psql(f"SELECT cid, shard, records, manifest FROM {ledger}")
    pairs = [(row[0].strip(), row[1]) for row in told]
    if len(set(pairs)) != len(pairs):
        wrong.append(f"the ledger has {len(pairs)} rows for {len(set(pairs))} shards of commits")
    named, total = set(), 0
    for receipt in receipts.rows(os.environ["AWS_ENDPOINT_URL_DYNAMODB"], f"standpipe-{name}-standpipe-commits"):
        if "state" not in receipt or receipt["state"] == "RETRACTED":
            continue
        if receipt["state"] != "DONE":
            wrong.append(f"receipt {receipt['cid']} is {receipt['state']}")
        total += int(receipt["records"])
        if int(receipt["records"]):
            named.update((receipt["cid"], shard["lease"]) for shard in receipt["shards"])
    if total != input.count:
        wrong.append(f"the receipts cover {total} records of {input.count}")
    if named - set(pairs):
        wrong.append(f"{len(named - set(pairs))} of {len(named)} shards of commits are not in the ledger")
    if set(pairs) - named:
        wrong.append(f"the ledger has {len(set(pairs) - named)} rows that no receipt names")
    say("ledger", f"{len(pairs)} rows, {len({cid for cid, _ in pairs})} commits")
    return wrong


def check_columns(input, table="flights"):
    sums = ", ".join(f"coalesce(sum(('x' || substr(md5(id || ':' || coalesce({name}::text, 'null')), 1, 8))::bit(32)::bigint), 0)"
                     for name in input.columns)
    found = psql(f"SELECT count(*), count(DISTINCT id), {sums} FROM {table}")[0]
    say("rows", f"{found[0]} rows, {found[1]} ids, {input.count} sent")
    wrong = [] if found[:2] == [str(input.count)] * 2 else [f"{found[0]} rows and {found[1]} ids of {input.count}"]
    for name, value in zip(input.columns, found[2:]):
        if value != str(input.sums[name]):
            wrong.append(f"column {name} is not what was sent")
    return wrong


def poison():
    """A ledger that forgets what is written into it: the run must end red."""
    psql("CREATE TABLE standpipe_ledger_flights (cid VARCHAR(26), shard VARCHAR(256), from_position VARCHAR(256), "
         "to_position VARCHAR(256), stream VARCHAR(512), table_name VARCHAR(512), records BIGINT, loaded_at TIMESTAMP, "
         "manifest VARCHAR(2048)); CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; "
         "CREATE TRIGGER forget BEFORE INSERT ON standpipe_ledger_flights FOR EACH ROW EXECUTE FUNCTION forget()")


def given_up():
    """A table that is away for longer than a load may be refused: what was given up is loaded later, once."""
    kinesis = client("kinesis")
    kinesis.create_stream(StreamName="away", ShardCount=2)
    finished(run("CREATE TABLE away (id BIGINT)"))
    fleet = Fleet("away", pipeline("away", "5s"), 1, 1)

    def put(first):
        for number in range(first, first + 1000, 500):
            entries = [{"Data": b'{"id": %d}' % n, "PartitionKey": str(n)} for n in range(number, number + 500)]
            assert not kinesis.put_records(StreamName="away", Records=entries)["FailedRecordCount"]

    def manifests():
        listed = peer.S3.list_objects_v2(Bucket=peer.BUCKET, Prefix="away/errors/manifests/").get("Contents", [])
        return [json.load(peer.S3.get_object(Bucket=peer.BUCKET, Key=item["Key"])["Body"])["standpipe"] for item in listed]

    def fence(of):
        """As a worker would that had lost its leases: it finds something of the commit lost, after another gave it up."""
        psql(f"INSERT INTO standpipe_ledger_away VALUES ('{of['cid']}', '{of['ranges'][0]['shard']}', '', '', '', '', 0, now(), "
             "'retracted')")

    def count(table="away"):
        return int(one(f"SELECT count(*) FROM {table}"))

    def redrive():
        command = [os.path.join(os.environ["PEERS_WORK"], "standpipe"), "redrive", "-c", fleet.config, "--yes"]
        done = subprocess.run(command, env=dict(os.environ, STANDPIPE_WORKER="redrive"), capture_output=True, text=True)
        return [] if done.returncode == 0 else [f"redrive ended with {done.returncode}: {done.stdout} {done.stderr}"]

    try:
        fleet.start()
        put(0)
        until(fleet, "the first rows", lambda: count() == 1000)
        psql("ALTER TABLE away RENAME TO gone")
        put(1000)
        until(fleet, "manifests of what was given up", lambda: sum(of["records"] for of in manifests()) == 1000)
        psql("ALTER TABLE gone RENAME TO away")
        put(2000)
        until(fleet, "the rows behind it", lambda: count() == 2000)
        fence(manifests()[0])
        wrong = redrive()
        if (rows := psql("SELECT count(*), count(DISTINCT id) FROM away")) != [["3000", "3000"]]:
            wrong.append(f"after redrive the table has {rows}")
        wrong += redrive()
        if count() != 3000:
            wrong.append(f"a second redrive makes it {count()} rows")
        if manifests():
            wrong.append(f"{len(manifests())} manifests are left")
        wrong += fleet.stop()
    finally:
        for process in fleet.workers.values():
            process.kill()
    say("given up", "1,000 rows given up while the table was away, loaded once by two redrives" if not wrong else "WRONG")
    return wrong


def teeth(input):
    """What the comparison must find: a value changed, and a row twice in the place of another."""
    psql("UPDATE flights SET dest = 'XXX' WHERE id = 7")
    wrong = [] if check_columns(input) == ["column dest is not what was sent"] else ["a changed value is not found"]
    psql("DELETE FROM flights WHERE id = 8; INSERT INTO flights SELECT * FROM flights WHERE id = 9")
    told = f"{input.count} rows and {input.count - 1} ids of {input.count}"
    return wrong if check_columns(input)[:1] == [told] else wrong + ["a row that is there twice is not found"]


def main():
    short = bool(os.environ["PEERS_SHORT"])
    input = Input(int(os.environ["PEERS_STORM_ROWS"]))
    random_ = random.Random(int(os.environ.get("STANDPIPE_SEED", "1")))
    peer.client("kinesis").create_stream(StreamName="flights", ShardCount=SHARDS)
    finished(run(f"CREATE TABLE flights ({first_columns().definition()}) DISTSTYLE EVEN SORTKEY (id)"))
    if os.environ.get("PEERS_POISON"):
        poison()
    before = counts()
    peer.faults(*FAULTS)
    fleet = Fleet("flights", pipeline("flights", "1h"), int(os.environ["PEERS_WORKERS"]), random_.random())
    producer = Producer(input, 45 if short else 300)
    begin = time.monotonic()
    try:
        fleet.start()
        producer.start()
        missing = storm(fleet, producer, random_, short)
        peer.control("DELETE", "/faults")
        producer.join()
        behind, last, since = input.count - loaded(), -1, time.monotonic()
        while (now := loaded()) < input.count and time.monotonic() < since + 90:
            fleet.watch()
            if now > last:
                last, since = now, time.monotonic()
            time.sleep(0.5)
        seconds = time.monotonic() - begin
        wrong = fleet.stop()
    finally:
        for process in fleet.workers.values():
            process.kill()
    wrong += [f"the fault {fault} never struck" for fault in missing]
    after = counts()
    struck = {name: count - before["faults"].get(name, 0) for name, count in after["faults"].items()}
    say("storm", f"{fleet.killed} workers killed with -9, {behind} rows behind at its end, all there after {seconds:.0f} s")
    say("faults", json.dumps(struck))
    say("endpoint", json.dumps({name: count - before["counts"].get(name, 0) for name, count in after["counts"].items()}))
    wrong += check_columns(input) + check_ledger(input)
    if short and not wrong:
        wrong += teeth(input)
    end(wrong + given_up())


if __name__ == "__main__":
    main()
