#!/usr/bin/env python3
"""A short storm on servers that others wrote: worker processes killed, frozen and started, shards split and merged; then
a quiet drain, and every record is counted from the objects, and the receipts' ranges must chain.

    storm.py --standpipe PROGRAM --dir DIR [--short] [--seconds 180] [--rate 300] [--seed 1]

The rate is in KB/s. The servers are where AWS_ENDPOINT_URL_KINESIS, _DYNAMODB and _S3 say. Exits 1 if anything is wrong.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "readers"))
import bucket
import count
import receipts

STREAM, BUCKET, TABLE, PREFIX = "events", "storm", "standpipe-storm", "out/"
SHARDS, WORKERS = 4, 3
CONFIG = f"""version: 1
worker:
  id: ${{STANDPIPE_WORKER}}
  memory: 128MiB
  shutdown_grace: 60s
http: "off"
telemetry: {{ logs: json }}
pipelines:
  storm:
    lease: {{ table: {TABLE}, failover: 3s }}
    source: {{ kinesis: {{ stream: {STREAM}, start: trim_horizon, read: polling, poll: 500ms }} }}
    destinations:
      - s3: {{ bucket: {BUCKET}, prefix: "{PREFIX}", buffer: {{ size: 1MiB, interval: 1s }} }}
"""


class Producer(threading.Thread):
    """Puts records until told to stop. Nothing is put twice: an answer that does not come ends the run."""

    def __init__(self, kinesis, rate):
        super().__init__(daemon=True)
        self.kinesis, self.rate = kinesis, rate
        self.placed, self.enough, self.error = [], threading.Event(), None

    def run(self):
        try:
            while not self.enough.is_set():
                begin = time.monotonic()
                lines = [count.line(len(self.placed) + n) for n in range(100)]
                entries = [{"Data": line, "PartitionKey": f"{random.random()}"} for line in lines]
                answer = self.kinesis.put_records(StreamName=STREAM, Records=entries)
                if answer["FailedRecordCount"]:
                    raise RuntimeError(f"records were refused: {answer['Records'][0]}")
                self.placed += [(record["ShardId"], int(record["SequenceNumber"])) for record in answer["Records"]]
                rest = sum(map(len, lines)) / self.rate - (time.monotonic() - begin)
                self.enough.wait(max(0, rest))
        except Exception as error:
            self.error = error

    def write(self, path):
        """What was produced, as count.py reads it."""
        shards, order = {}, {}
        for place, (shard, _) in enumerate(self.placed):
            shards.setdefault(shard, len(shards))
            order.setdefault(shard, []).append(place)
        places = [0] * len(self.placed)
        for shard, ids in order.items():
            for place, number in enumerate(sorted(ids, key=lambda number: self.placed[number][1])):
                places[number] = place
        with open(path, "w", encoding="ascii") as file:
            for (shard, _), place in zip(self.placed, places):
                file.write(f"{shards[shard]}\t{place}\n")


class Storm:
    def __init__(self, arguments):
        self.arguments = arguments
        self.random = random.Random(arguments.seed)
        url = os.environ.__getitem__
        self.urls = {name: url(f"AWS_ENDPOINT_URL_{name.upper()}") for name in ("kinesis", "dynamodb", "s3")}
        self.kinesis = bucket.client("kinesis", self.urls["kinesis"])
        self.events, self.born, self.workers, self.frozen = {}, 0, {}, {}
        self.known, self.found = set(), 0
        os.makedirs(arguments.dir, exist_ok=True)
        with open(os.path.join(arguments.dir, "standpipe.yaml"), "w", encoding="utf-8") as file:
            file.write(CONFIG)

    def count(self, event):
        self.events[event] = self.events.get(event, 0) + 1

    def start(self):
        self.born += 1
        name = f"worker-{self.born:03}"
        log = open(os.path.join(self.arguments.dir, f"{name}.log"), "wb")
        command = [self.arguments.standpipe, "run", "-c", os.path.join(self.arguments.dir, "standpipe.yaml")]
        environment = dict(os.environ, STANDPIPE_WORKER=name)
        self.workers[name] = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL,
                                              stdout=subprocess.DEVNULL, stderr=log)

    def awake(self):
        return [name for name in self.workers if name not in self.frozen]

    def watch(self):
        for name, process in self.workers.items():
            if process.poll() is not None:
                raise SystemExit(f"{name} ended by itself with {process.returncode}")

    def thaw(self, name):
        del self.frozen[name]
        self.workers[name].send_signal(signal.SIGCONT)

    def reshard(self):
        shards = self.kinesis.list_shards(StreamName=STREAM)["Shards"]
        shards = [shard for shard in shards if "EndingSequenceNumber" not in shard["SequenceNumberRange"]]
        span = lambda shard: tuple(int(shard["HashKeyRange"][end]) for end in ("StartingHashKey", "EndingHashKey"))
        shards.sort(key=span)
        if len(shards) <= SHARDS:
            shard = self.random.choice(shards)
            low, high = span(shard)
            self.kinesis.split_shard(StreamName=STREAM, ShardToSplit=shard["ShardId"],
                                     NewStartingHashKey=str(low + (high - low) // 2 + 1))
            self.count("shards split")
        else:
            at = self.random.randrange(len(shards) - 1)
            self.kinesis.merge_shards(StreamName=STREAM, ShardToMerge=shards[at]["ShardId"],
                                      AdjacentShardToMerge=shards[at + 1]["ShardId"])
            self.count("pairs of shards merged")

    def rage(self):
        now = time.monotonic()
        end, kill, freeze, reshard = now + self.arguments.seconds, now + 8, now + 12, now + 10
        while (now := time.monotonic()) < end:
            time.sleep(0.1)
            self.watch()
            if now >= kill:
                name = self.random.choice(self.awake())
                process = self.workers.pop(name)
                process.kill()
                process.wait()
                self.count("killed with -9")
                self.start()
                kill = now + self.random.uniform(3, 8)
            for name in [name for name, until in self.frozen.items() if now >= until]:
                self.thaw(name)
                freeze = now + self.random.uniform(4, 10)
            if not self.frozen and now >= freeze:
                name = self.random.choice(self.awake())
                self.workers[name].send_signal(signal.SIGSTOP)
                self.frozen[name] = now + self.random.uniform(6, 12)
                self.count("frozen for 6 to 12 s")
            if now >= reshard:
                self.reshard()
                reshard = now + self.random.uniform(8, 14)

    def look(self):
        """Counts lines in objects that are new."""
        s3 = bucket.client("s3", self.urls["s3"])
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            for item in page.get("Contents", []):
                if item["Key"] not in self.known:
                    self.known.add(item["Key"])
                    self.found += s3.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read().count(b"\n")
        return self.found

    def quiet(self, produced):
        begin = last = time.monotonic()
        for name in list(self.frozen):
            self.thaw(name)
        before = self.look()
        behind = produced - before
        while self.look() < produced and time.monotonic() < last + 60:
            self.watch()
            if self.found > before:
                before, last = self.found, time.monotonic()
            time.sleep(1)
        print(f"{behind:10} records behind at the end of it, found {time.monotonic() - begin:.1f} s later")
        wrong = []
        for process in self.workers.values():
            process.terminate()
        for name, process in self.workers.items():
            try:
                if process.wait(90):
                    wrong.append(f"{name} ended with {process.returncode} after SIGTERM")
            except subprocess.TimeoutExpired:
                wrong.append(f"{name} did not end within 90 s of SIGTERM")
        return wrong

    def logs(self):
        """Recoveries by kind and takes, and lines of level ERROR or none at all."""
        wrong = []
        for name in sorted(os.listdir(self.arguments.dir)):
            if not name.endswith(".log"):
                continue
            with open(os.path.join(self.arguments.dir, name), "rb") as file:
                lines = file.read().decode(errors="replace").split("\n")[:-1]
            for text in lines:
                try:
                    line = json.loads(text)
                except ValueError:
                    if not text.startswith("stopping: "):
                        wrong.append(f"{name}: {text}")
                    continue
                if line.get("message") == "recovered":
                    self.count(f"recovered: {line['recovery']}")
                elif line.get("message") == "lease taken":
                    self.count("leases taken")
                if line.get("level") == "ERROR":
                    wrong.append(f"{name}: {text}")
        return wrong

    def run(self):
        self.kinesis.create_stream(StreamName=STREAM, ShardCount=SHARDS)
        self.kinesis.get_waiter("stream_exists").wait(StreamName=STREAM, WaiterConfig={"Delay": 1})
        bucket.client("s3", self.urls["s3"]).create_bucket(Bucket=BUCKET)
        producer = Producer(bucket.client("kinesis", self.urls["kinesis"]), self.arguments.rate * 1000)
        try:
            for _ in range(WORKERS):
                self.start()
            producer.start()
            self.rage()
            producer.enough.set()
            producer.join()
            if producer.error:
                raise producer.error
            wrong = self.quiet(len(producer.placed))
        finally:
            for process in self.workers.values():
                process.kill()
        wrong += self.logs()
        for event, times in sorted(self.events.items()):
            print(f"{times:10} {event}")
        listed = os.path.join(self.arguments.dir, "produced.tsv")
        producer.write(listed)
        counted, lines = count.Count(listed), {}
        for key, body in bucket.objects(self.urls["s3"], BUCKET):
            counted.object(key, body)
            lines[key] = body.count(b"\n")
        if not counted.tell(bucket.open_uploads(self.urls["s3"], BUCKET)):
            wrong.append("not every record is there once")
        shards = self.kinesis.list_shards(StreamName=STREAM)["Shards"]
        shards = [s["ShardId"] for s in shards if "EndingSequenceNumber" not in s["SequenceNumberRange"]]
        wrong += receipts.check(self.urls["dynamodb"], TABLE, "sp_s3", lines, shards)
        if not self.events.get("killed with -9") or not self.events.get("frozen for 6 to 12 s"):
            wrong.append("nobody was killed, or nobody frozen: that proves nothing")
        for text in wrong[:20]:
            print(f"WRONG: {text[:400]}")
        print("NOT RIGHT" if wrong else "all is right")
        return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--standpipe", required=True)
    parser.add_argument("--dir", required=True)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--rate", type=float, default=300)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.seconds is None:
        arguments.seconds = 45 if arguments.short else 180
    return Storm(arguments).run()


if __name__ == "__main__":
    sys.exit(main())
