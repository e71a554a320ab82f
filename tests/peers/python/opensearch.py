#!/usr/bin/env python3
"""Web log lines into a real OpenSearch through workers that are killed, and then everything counted at the server.

    opensearch.py [--short]

Every line has a number of its own. A line in 1,000 has a text where the mapping wants a number, and is refused; a line in
500 is hostile: it holds bulk actions in strings, raw line feeds between its tokens, or is no JSON object at all. Workers
are ended by `kill -9` every few seconds and started anew; in the long form the server is stopped for a while. At the end:
every good line is one document, under one id, in the index of the hour in which it arrived; every refused line is one line
of an error object; there is no other document and no other index.
"""

import argparse
import base64
import collections
import glob
import itertools
import json
import os
import re
import sys
import threading
import time

import zstandard

import aws
from opensearch_online import looks
from opensearch_server import BUCKET, INDEX, STREAM, TABLE, Server, children_end_with_us, emulator, started, tail
from settings import end, say

CONFIG = """\
version: 1
http: "off"
aws: {{ region: {region} }}
worker: {{ id: "{worker}", memory: 128MiB, shutdown_grace: 120s }}
pipelines:
  search:
    lease: {{ table: {table}, failover: 3s }}
    source: {{ kinesis: {{ stream: {stream}, start: trim_horizon, read: polling, poll: 250ms }} }}
    destinations:
      - opensearch:
          endpoint: http://127.0.0.1:{port}
          auth: none
          index: {index}
          rotation: hourly
          document_id: {ids}
          compression: {compression}
          buffer: {{ size: 1MiB, interval: 1s }}
          retry: {{ for: forever }}
          backup: {{ bucket: {bucket}, prefix: "refused/", error_prefix: "refused/!{{firehose:error-output-type}}/" }}
"""


class Lines:
    """What is sent: the bytes of each line, and what is to become of it."""

    def __init__(self, count):
        self.count = count
        with open(os.path.join(os.environ["PEERS_DATA"], "web-log.jsonl.zst"), "rb") as packed:
            text = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True).read()
        self.template = [json.loads(line) for line in text.splitlines()]

    def line(self, n):
        """The bytes of a line, and whether it becomes a document."""
        record = {"n": n, "code": n % 600, **self.template[n % len(self.template)]}
        if n % 1000 == 999:
            return json.dumps({**record, "code": "not a number"}).encode(), False
        if n % 500 != 250:
            return json.dumps(record).encode(), True
        smuggled = '\n{"delete":{"_index":"web","_id":"1"}}\n{"create":{"_index":"smuggled","_id":"%d"}}\n{"n":%d}\n' % (n, n)
        kind = n // 500 % 5
        if kind == 0:
            return json.dumps({**record, "text": smuggled + "\u2028\x00"}).encode(), True
        if kind == 1:
            return json.dumps({**record, "text": smuggled}, indent=2).replace("\n", "\r\n").encode(), True
        if kind == 2:
            return json.dumps(record).encode() + smuggled.encode(), False
        if kind == 3:
            return b'["' + str(n).encode() + b'", 1]', False
        return b'{"n": %d, "text": "\xff"}' % n, False

    def all(self):
        return (self.line(n) for n in range(self.count))


class Producer(threading.Thread):
    """Puts the lines, and knows of each in which hours it may have arrived."""

    def __init__(self, url, lines, rate):
        super().__init__(daemon=True)
        self.service, self.lines, self.rate = aws.kinesis(url), lines, rate
        self.hours, self.error = {}, None

    def run(self):
        try:
            begin = time.monotonic()
            numbers = iter(range(self.lines.count))
            while chunk := list(itertools.islice(numbers, 500)):
                self.put(chunk)
                ahead = chunk[-1] / self.rate - (time.monotonic() - begin) if self.rate else 0
                if ahead > 0:
                    time.sleep(ahead)
        except Exception as error:  # told at the end
            self.error = error

    def put(self, chunk):
        while chunk:
            records = [{"Data": base64.b64encode(self.lines.line(n)[0]).decode(), "PartitionKey": str(n)} for n in chunk]
            before = hour()
            answer = self.service.call("PutRecords", StreamName=STREAM, Records=records)
            after = hour()
            refused = [n for n, told in zip(chunk, answer["Records"]) if "ErrorCode" in told]
            for n in set(chunk) - set(refused):
                self.hours[n] = {before, after}
            if refused:
                time.sleep(0.2)
            chunk = refused


def hour():
    return time.strftime("%Y-%m-%d-%H", time.gmtime())


class Fleet:
    """The workers."""

    def __init__(self, work, standpipe, endpoint, port, ids):
        self.work, self.standpipe, self.endpoint, self.port, self.ids = work, standpipe, endpoint, port, ids
        self.number, self.workers, self.ended = 0, [], 0

    def start(self):
        self.number += 1
        name = f"worker-{self.number}"
        config = os.path.join(self.work, name + ".yaml")
        with open(config, "w") as file:
            file.write(CONFIG.format(region=aws.REGION, worker=name, table=TABLE, stream=STREAM, index=INDEX, bucket=BUCKET,
                                     port=self.port, compression="gzip" if self.number % 2 else "none", ids=self.ids))
        log = os.path.join(self.work, name + ".log")
        self.workers.append((name, log, started([self.standpipe, "run", "-c", config], log, AWS_ENDPOINT_URL=self.endpoint)))

    def kill_one(self):
        _, _, process = self.workers.pop(0)
        process.kill()
        process.wait()
        self.ended += 1
        self.start()

    def dead(self):
        return [f"{name} ended by itself: {tail(log)}" for name, log, process in self.workers if process.poll() is not None]

    def stop(self):
        for _, _, process in self.workers:
            process.terminate()
        faults = []
        for name, log, process in self.workers:
            if process.wait(180) != 0:
                faults.append(f"{name} ended with {process.returncode}: {tail(log)}")
        return faults


def refused_lines(folder):
    """The records in error objects, with their codes."""
    for path in glob.glob(os.path.join(folder, "**", "*"), recursive=True):
        if os.path.isfile(path):
            with open(path, "rb") as file:
                for line in file:
                    one = json.loads(line)
                    yield base64.b64decode(one["rawData"]), one, path


def check(server, lines, producer, folder):
    faults = []
    good = {n for n in range(lines.count) if lines.line(n)[1]}
    ids, numbers = set(), collections.Counter()
    for index, ident, n in server.documents():
        if not index.startswith(INDEX + "-"):
            faults.append(f"there is a document in {index}")
        if (index, ident) in ids:
            faults.append(f"{ident} is twice in {index}")
        ids.add((index, ident))
        numbers[n] += 1
        if n in producer.hours and index[len(INDEX) + 1:] not in producer.hours[n]:
            faults.append(f"line {n} arrived in {producer.hours[n]} and is in {index}")
    missing, more = good - set(numbers), [n for n, count in numbers.items() if count > 1]
    wrong = set(numbers) - good
    for what, found in (("missing", missing), ("more than one document", more), ("a document that should be refused", wrong)):
        if found:
            faults.append(f"{len(found)} lines: {what}, such as {sorted(found, key=str)[:5]}")
    if len({ident for _, ident in ids}) != len(ids):
        faults.append("an id is in two indices")
    bad = collections.Counter(lines.line(n)[0] for n in range(lines.count) if n not in good)
    found, codes = collections.Counter(), collections.Counter()
    for data, line, path in refused_lines(folder):
        found[data] += 1
        codes[line["errorCode"]] += 1
        if "AmazonOpenSearchService-failed" not in path or not re.fullmatch(INDEX + r"-\d{4}-\d\d-\d\d-\d\d", line["esIndexName"]):
            faults.append(f"an error record of another shape: {line} in {path}")
    if found != bad:
        faults.append(f"error objects: {sum((bad - found).values())} lines missing, {sum((found - bad).values())} too many")
    say("counted", f"{sum(numbers.values())} documents of {len(good)} good lines, {sum(found.values())} refused of {sum(bad.values())}, codes {dict(codes)}")
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="20,000 lines, the server stays up")
    parser.add_argument("--lines", type=int)
    parser.add_argument("--down", type=float, help="seconds without the server")
    parser.add_argument("--kill-every", type=float, help="seconds between two ends of a worker")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--poison", action="store_true", help="without ids: must end red, or kills repeat nothing here")
    parser.add_argument("--rate", type=float, help="lines a second; default: as many as the stream takes")
    arguments = parser.parse_args()
    count = arguments.lines or (20_000 if arguments.short else 500_000)
    down = arguments.down if arguments.down is not None else (0 if arguments.short else 180)
    kill_every = arguments.kill_every or (5 if arguments.short else 10)
    rate = arguments.rate or (1_000 if arguments.short else 0)
    children_end_with_us()
    work, standpipe = os.environ["PEERS_WORK"], os.environ["PEERS_STANDPIPE"]

    server = Server(work, os.environ["PEERS_CLASSPATH"]).start()
    server.template()
    told = server.lines('{"create":{"_index":"Standpipe Asks"}}\n{}\n')
    if [item["create"]["status"] for item in told.get("items", [])] != [400]:
        sys.exit(f"a request that does nothing is not taken, or does something: {told}")
    endpoint = emulator(standpipe, work)
    say("servers", f"OpenSearch {server.version} at port {server.port}, the stream at {endpoint}")
    if wrong := looks(standpipe, work, server, endpoint):
        end(wrong)

    lines = Lines(count)
    good = sum(1 for _, accepted in lines.all() if accepted)
    fleet = Fleet(work, standpipe, endpoint, server.port, "none" if arguments.poison else "generated")
    for _ in range(arguments.workers):
        fleet.start()
    producer = Producer(endpoint, lines, rate)
    begin = time.monotonic()
    producer.start()
    faults, last, since, last_kill = [], -1, begin, begin
    down_at = begin + 30 if down else None
    while not faults:
        time.sleep(0.5)
        now = time.monotonic()
        faults += fleet.dead()
        if down_at is not None and now > down_at:
            say("server", f"stopped for {down:.0f} s at {server.count()} documents")
            server.stop()
            until = now + down
            while time.monotonic() < until:
                time.sleep(kill_every)
                fleet.kill_one()
            server.start()
            say("server", "started again")
            down_at, since = None, time.monotonic()
            continue
        if now - last_kill > kill_every and last < good:
            fleet.kill_one()
            last_kill = now
        if producer.error is not None:
            faults.append(f"the producer: {producer.error}")
        count_now = server.count()
        if count_now != last:
            last, since = count_now, now
        if not producer.is_alive() and last >= good and now - since > 4:
            break
        if now - since > 120:
            faults.append(f"nothing goes on at {last} documents of {good}: {tail(fleet.workers[0][1])}")
    took = since - begin
    faults += fleet.stop()
    say("workers", f"{fleet.ended} ended by kill -9; the server refused {server.rejected()} writes with 429")
    say("speed", f"{last} documents in {took:.0f} s: {last / max(took, 1):.0f} a second")
    faults += check(server, lines, producer, os.path.join(work, "data", "s3", BUCKET))
    end(faults)


if __name__ == "__main__":
    main()
