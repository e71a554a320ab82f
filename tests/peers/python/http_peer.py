#!/usr/bin/env python3
"""Metrics to the OpenTelemetry collector's Firehose receiver through a door with faults, by workers that are killed.

    http_peer.py [--short]

The door reads every request as the protocol has it, keeps which records each request id stands for, makes faults by dice, and
passes on what is left: its answer is the receiver's own. At the end: every record is counted by the receiver; every record is
under exactly one request id that was acknowledged; no id ever stood for two sets of records; no record comes more often at the
receiver than its request was passed on; the receiver accepted everything that was passed on.
"""

import argparse
import atexit
import base64
import collections
import glob
import gzip
import hashlib
import http.client
import http.server
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import aws
from settings import end, say

STREAM, TABLE, BUCKET, KEY = "metrics", "metrics", "failed", "a-key-of-the-peer"
RECORDS_MAX = 150
CONFIG = """\
version: 1
http: "off"
aws: {{ region: {region} }}
worker: {{ id: "{worker}", memory: 128MiB, shutdown_grace: 120s }}
pipelines:
  http:
    lease: {{ table: {table}, failover: 3s }}
    source: {{ kinesis: {{ stream: {stream}, start: trim_horizon, read: polling, poll: 250ms }} }}
    destinations:
      - http:
          url: http://127.0.0.1:{port}/firehose?from=standpipe
          allow_private: true
          access_key: {{ env: PEER_KEY }}
          content_encoding: {encoding}
          common_attributes: {{ env: peer }}
          buffer: {{ size: 1MiB, interval: 1s }}
          retry: {{ for: 1h }}
          backup: {{ bucket: {bucket}, prefix: "refused/", error_prefix: "refused/!{{firehose:error-output-type}}/" }}
"""
RUNNING = []


def children_end_with_us():
    def finish():
        for process in RUNNING:
            if process.poll() is None:
                process.kill()
    atexit.register(finish)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: (finish(), os._exit(130)))


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def started(command, log, **environment):
    with open(log, "ab") as out:
        process = subprocess.Popen(command, env=dict(os.environ, **aws.KEYS, **environment), stdin=subprocess.DEVNULL,
                                   stdout=out, stderr=out, start_new_session=True)
    RUNNING.append(process)
    return process


def tail(path):
    with open(path, errors="replace") as file:
        return " | ".join(line.strip()[:300] for line in collections.deque(file, 5))


def record(n):
    """A metric as a CloudWatch metric stream writes it."""
    value = {"max": n, "min": 0.0, "sum": float(n), "count": 1.0}
    return json.dumps({"metric_stream_name": "peer", "account_id": "111122223333", "region": aws.REGION, "namespace": "Peer",
                       "metric_name": "Number", "dimensions": {"n": str(n)}, "timestamp": 1790000000000, "value": value,
                       "unit": "Count"}).encode() + b"\n"


class Receiver:
    """The collector's receiver."""

    def __init__(self, program, work):
        self.port, self.ask_port, self.log = free_port(), free_port(), os.path.join(work, "receiver.log")
        started([program, f"127.0.0.1:{self.port}", KEY, f"127.0.0.1:{self.ask_port}"], self.log)
        for _ in range(300):
            try:
                self.count()
                return
            except OSError:
                time.sleep(0.1)
        sys.exit("the receiver does not start: " + tail(self.log))

    def count(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.ask_port, timeout=10)
        try:
            connection.request("GET", "/count")
            lines = connection.getresponse().read().decode().splitlines()
            return {int(n): int(times) for n, times in (line.split() for line in lines)}
        finally:
            connection.close()

    def post(self, path, headers, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheader("Content-Type"), answer.read()
        finally:
            connection.close()


class Door(http.server.ThreadingHTTPServer):
    """Before the receiver: knows what each id stands for, and makes faults."""
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, receiver, seed):
        super().__init__(("127.0.0.1", 0), Request)
        self.receiver, self.dice, self.lock = receiver, random.Random(seed), threading.Lock()
        self.stands_for, self.numbers, self.faults = {}, {}, []
        self.passed, self.acknowledged = collections.Counter(), set()
        self.outcomes = collections.Counter()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def roll(self):
        with self.lock:
            return self.dice.random()

    def fault(self, text):
        with self.lock:
            self.faults.append(text)

    def know(self, ident, records):
        digest = hashlib.sha256(b"".join(hashlib.sha256(record).digest() for record in records)).hexdigest()
        with self.lock:
            if self.stands_for.setdefault(ident, digest) != digest:
                self.faults.append(f"{ident} stands for two sets of records")
            self.numbers[ident] = [int(json.loads(record)["dimensions"]["n"]) for record in records]


class Request(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(405, b"")

    def do_POST(self):
        door = self.server
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            ident, records = self.read(raw)
        except Exception as error:
            door.fault(f"a request that is not the protocol's: {error!r}")
            return self.answer(500, b"")
        door.know(ident, records)
        roll = door.roll()
        if len(records) > RECORDS_MAX:
            return self.outcome("413", lambda: self.answer(413, b"<html>"))
        if roll < 0.05:
            return self.outcome("503", lambda: self.answer(503, b""))
        if roll < 0.10:
            return self.outcome("429", lambda: self.answer(429, b"", ("Retry-After", "1")))
        if roll < 0.14:
            return self.outcome("cut before", self.cut)
        status, kind, body = door.receiver.post(self.path, dict(self.headers.items()), raw)
        with door.lock:
            door.passed[ident] += 1
        if status != 200:
            door.fault(f"the receiver answered {status}: {body[:200]!r}")
        if roll < 0.20:
            return self.outcome("cut after", self.cut)
        if roll < 0.24:
            other = b'{"requestId":"00000000-0000-4000-8000-000000000000","timestamp":1}'
            return self.outcome("wrong id", lambda: self.answer(200, other, ("Content-Type", "application/json")))
        if roll < 0.27:
            return self.outcome("page", lambda: self.answer(200, b"<html>", ("Content-Type", "text/html")))
        with door.lock:
            door.acknowledged.add(ident)
        self.outcome("taken", lambda: self.answer(status, body, ("Content-Type", kind)))

    def read(self, raw):
        """Id and records; what is not as the protocol has it raises."""
        h = self.headers
        assert self.path == "/firehose?from=standpipe", self.path
        assert h["X-Amz-Firehose-Protocol-Version"] == "1.0" and h["Content-Type"] == "application/json"
        assert h["X-Amz-Firehose-Access-Key"] == KEY
        assert re.fullmatch(r"arn:aws:firehose:[a-z0-9-]+:\d{12}:deliverystream/http", h["X-Amz-Firehose-Source-Arn"])
        assert json.loads(h["X-Amz-Firehose-Common-Attributes"]) == {"commonAttributes": {"env": "peer"}}
        assert h["Content-Encoding"] in (None, "gzip"), h["Content-Encoding"]
        body = json.loads(gzip.decompress(raw) if h["Content-Encoding"] else raw)
        assert set(body) == {"requestId", "timestamp", "records"} and isinstance(body["timestamp"], int)
        assert body["requestId"] == h["X-Amz-Firehose-Request-Id"]
        assert 1 <= len(body["records"]) <= 10_000
        return body["requestId"], [base64.b64decode(one["data"], validate=True) for one in body["records"]]

    def outcome(self, name, answer):
        with self.server.lock:
            self.server.outcomes[name] += 1
        answer()

    def cut(self):
        self.close_connection = True
        self.connection.close()

    def answer(self, status, body, *headers):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Fleet:
    def __init__(self, work, standpipe, endpoint, port):
        self.work, self.standpipe, self.endpoint, self.port = work, standpipe, endpoint, port
        self.workers, self.number, self.ended = [], 0, 0

    def start(self):
        self.number += 1
        name = f"worker-{self.number}"
        config = os.path.join(self.work, name + ".yaml")
        with open(config, "w") as file:
            file.write(CONFIG.format(region=aws.REGION, worker=name, table=TABLE, stream=STREAM, bucket=BUCKET, port=self.port,
                                     encoding="gzip" if self.number % 2 else "none"))
        log = os.path.join(self.work, name + ".log")
        process = started([self.standpipe, "run", "-c", config], log, AWS_ENDPOINT_URL=self.endpoint, PEER_KEY=KEY)
        self.workers.append((name, log, process))

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
        return [f"{name} ended with {process.returncode}: {tail(log)}"
                for name, log, process in self.workers if process.wait(180) != 0]


def produce(url, count, rate, failed):
    try:
        service, begin = aws.kinesis(url), time.monotonic()
        for first in range(0, count, 250):
            chunk = list(range(first, min(first + 250, count)))
            while chunk:
                records = [{"Data": base64.b64encode(record(n)).decode(), "PartitionKey": str(n)} for n in chunk]
                answer = service.call("PutRecords", StreamName=STREAM, Records=records)
                chunk = [n for n, told in zip(chunk, answer["Records"]) if "ErrorCode" in told]
            ahead = first / rate - (time.monotonic() - begin)
            if ahead > 0:
                time.sleep(ahead)
    except Exception as error:  # told at the end
        failed.append(f"the producer: {error}")


def check(count, counted, door, folder):
    faults = list(door.faults[:10])
    missing = [n for n in range(count) if n not in counted]
    if missing:
        faults.append(f"{len(missing)} records are not at the receiver, such as {missing[:5]}")
    under = collections.defaultdict(set)
    for ident in door.acknowledged:
        for n in door.numbers[ident]:
            under[n].add(ident)
    twice = {n: idents for n, idents in under.items() if len(idents) > 1}
    if twice:
        faults.append(f"{len(twice)} records are under several ids, such as {sorted(twice.items())[:2]}")
    unacknowledged = [n for n in range(count) if n not in under]
    if unacknowledged:
        faults.append(f"{len(unacknowledged)} records are under no id that was acknowledged, such as {unacknowledged[:5]}")
    passed = collections.Counter()
    for ident, times in door.passed.items():
        for n in door.numbers[ident]:
            passed[n] += times
    more = [n for n, times in counted.items() if times != passed[n]]
    if more:
        faults.append(f"{len(more)} records are at the receiver in another number than passed the door, such as {more[:5]}")
    refused = [path for path in glob.glob(os.path.join(folder, "**", "*"), recursive=True) if os.path.isfile(path)]
    if refused:
        faults.append(f"there are error objects: {refused[:3]}")
    for log in glob.glob(os.path.join(os.environ["PEERS_WORK"], "worker-*.log")):
        with open(log, errors="replace") as file:
            text = file.read()
        if KEY in text or "from=standpipe" in text or "metric_stream_name" in text:
            faults.append(f"{log} shows a key, a query or a record")
    repeats = sum(times - 1 for times in counted.values())
    say("counted", f"{len(counted)} of {count} records at the receiver, {repeats} repeats, each under its one id")
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="10,000 records")
    parser.add_argument("--records", type=int)
    parser.add_argument("--kill-every", type=float, help="seconds between two ends of a worker")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    count = arguments.records or (10_000 if arguments.short else 60_000)
    kill_every = arguments.kill_every or 5
    children_end_with_us()
    work, standpipe = os.environ["PEERS_WORK"], os.environ["PEERS_STANDPIPE"]
    receiver = Receiver(os.environ["PEERS_RECEIVER"], work)
    door = Door(receiver, arguments.seed)
    log = os.path.join(work, "emulator.log")
    started([standpipe, "emulator", "--listen", "127.0.0.1:0", "--data", os.path.join(work, "data"), "--no-limits",
             "--stream", f"{STREAM}:4", "--bucket", BUCKET], log)
    endpoint = None
    for _ in range(600):
        time.sleep(0.1)
        with open(log) as file:
            text = file.read()
        found = re.search(r"AWS_ENDPOINT_URL[A-Z_0-9]*=(\S+)", text)
        if found and "ready" in text:
            endpoint = found.group(1)
            break
    if endpoint is None:
        sys.exit("the emulator does not start: " + tail(log))
    say("servers", f"the receiver at port {receiver.port}, the door at {door.server_address[1]}, the stream at {endpoint}")
    fleet = Fleet(work, standpipe, endpoint, door.server_address[1])
    for _ in range(arguments.workers):
        fleet.start()
    faults = []
    producer = threading.Thread(target=produce, args=(endpoint, count, 400, faults), daemon=True)
    begin = last_kill = since = time.monotonic()
    producer.start()
    last = -1
    while not faults:
        time.sleep(0.5)
        now = time.monotonic()
        faults += fleet.dead()
        if now - last_kill > kill_every and last < count:
            fleet.kill_one()
            last_kill = now
        with door.lock:
            there = len({n for ident in door.acknowledged for n in door.numbers[ident]})
        if there != last:
            last, since = there, now
        if not producer.is_alive() and last >= count and now - since > 4:
            break
        if now - since > 180:
            faults.append(f"nothing goes on at {last} records of {count}: {tail(fleet.workers[0][1])}")
    took = since - begin
    faults += fleet.stop()
    say("workers", f"{fleet.ended} ended by kill -9; requests by outcome: {dict(door.outcomes)}")
    say("speed", f"{last} records in {took:.0f} s")
    faults += check(count, receiver.count(), door, os.path.join(work, "data", "s3", BUCKET, "refused"))
    end(faults)


main()
