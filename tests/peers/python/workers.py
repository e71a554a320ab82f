"""The workers of a run as processes: the Java KCL's consumer, and Standpipe's program. A worker is started, asked to stop
(SIGTERM) or killed (`kill -9`), and what it has got so far is read from what it left: a file, or objects in a bucket.
"""

import atexit
import collections
import glob
import hashlib
import os
import signal
import subprocess
import time

import aws

# A record as somebody got it; `hash` is the SHA-256 of its bytes. Objects do not tell the shard.
Got = collections.namedtuple("Got", "worker hash shard position")

CONFIG = """\
version: 1
http: "off"
aws: {{ region: {region} }}
worker: {{ id: "{worker}", memory: 64MiB, shutdown_grace: 120s }}
pipelines:
  peers:
    lease: {{ table: {table}, failover: {failover}s, heartbeat: {heartbeat} }}
    source: {{ kinesis: {{ stream: {stream}, start: trim_horizon, read: polling, poll: 250ms }} }}
    destinations:
      - s3: {{ bucket: lake, prefix: "{table}/", buffer: {{ size: 1MiB, interval: {interval} }} }}
"""


RUNNING = []


def children_end_with_us():
    """Whatever ends this program, its workers end first."""
    def end():
        for worker in RUNNING:
            if worker.alive():
                worker.process.kill()
    atexit.register(end)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: (end(), os._exit(130)))


class Worker:
    """A process, with the files that it leaves."""

    def __init__(self, place, name, kind):
        self.place, self.name, self.kind = place, name, kind
        self.log = os.path.join(place.folder, f"{name}.log")
        self.process = None

    def start(self):
        environment = dict(os.environ, **aws.KEYS, **self.environment())
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command(), env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        RUNNING.append(self)
        return self

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def stop(self, timeout=180):
        """Asks it to end by itself; the seconds that took."""
        begin = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout)
        if code not in self.good_codes:
            raise Failed(f"{self.name} ended with {code} when it was asked to stop", self.log)
        return time.monotonic() - begin

    def kill(self):
        self.process.kill()
        self.process.wait()


class Failed(Exception):
    """A check that failed, with the log that belongs to it."""

    def __init__(self, what, log=None):
        super().__init__(what + (tail(log) if log else ""))


def tail(path, lines=25):
    with open(path, errors="replace") as file:
        return "".join(f"\n    {line.rstrip()[:240]}" for line in collections.deque(file, lines))


class Place:
    """Where a group of workers works: servers, a stream, a lease table, a folder for files."""

    def __init__(self, settings, folder, stream, table, failover=10, interval="1s", heartbeat="per_lease"):
        self.settings, self.folder, self.stream, self.table = settings, folder, stream, table
        # How Standpipe's workers show that they are alive.
        self.failover, self.interval, self.heartbeat = failover, interval, heartbeat
        self.kinesis, self.dynamodb = settings.kinesis, settings.dynamodb
        os.makedirs(folder, exist_ok=True)

    def java(self, name, version, **special):
        return Java(self, name, version, special)

    def ours(self, name, **special):
        return Ours(self, name, special)

    def objects(self):
        return os.path.join(self.settings.bucket, self.table)


class Java(Worker):
    good_codes = (0, 143)

    def __init__(self, place, name, version, special):
        super().__init__(place, name, f"kcl {version}")
        self.version, self.special = version, special
        self.out = os.path.join(place.folder, f"{name}.tsv")
        self.offset, self.read = 0, []

    def environment(self):
        return {}

    def command(self):
        place, home = self.place, os.path.join(self.place.settings.kcl, self.version)
        values = {
            "out": self.out, "worker": self.name, "stream": place.stream, "table": place.table, "region": aws.REGION,
            "kinesis": self.special.get("kinesis", place.kinesis), "dynamodb": self.special.get("dynamodb", place.dynamodb),
            "failover.millis": place.failover * 1000, "aws.cborEnabled": "false",
            "checkpoint.millis": self.special.get("checkpoint_millis", 1000),
            "checkpoint.records": self.special.get("checkpoint_records", 100),
            "leader.millis": self.special.get("leader_millis", 0),
            "org.slf4j.simpleLogger.showDateTime": "true", "org.slf4j.simpleLogger.dateTimeFormat": "HH:mm:ss.SSS",
            "org.slf4j.simpleLogger.defaultLogLevel": "warn", "org.slf4j.simpleLogger.log.software.amazon.kinesis": "info",
        }
        flags = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xss512k", "-Xshare:auto"]
        return (["java"] + flags + [f"-D{name}={value}" for name, value in values.items()]
                + ["-cp", f"{home}/classes:{home}/lib/*", "Consumer"])

    def lines(self):
        """The file's whole lines so far, split; the last may be torn by a kill."""
        if os.path.exists(self.out):
            with open(self.out, "rb") as file:
                file.seek(self.offset)
                for line in file:
                    if line.endswith(b"\n"):
                        self.offset += len(line)
                        self.read.append(line.decode().rstrip("\n").split("\t"))
        return self.read

    def got(self):
        return [Got(self.name, bytes.fromhex(fields[5]), fields[2], aws.position(fields[3], fields[4]))
                for fields in self.lines() if fields[0] == "R"]


class Ours(Worker):
    good_codes = (0,)

    def __init__(self, place, name, special):
        super().__init__(place, name, "standpipe")
        self.special = special
        self.config = os.path.join(place.folder, f"{name}.yaml")
        with open(self.config, "w") as file:
            file.write(CONFIG.format(region=aws.REGION, worker=name, table=place.table, stream=place.stream,
                                     failover=place.failover, interval=place.interval, heartbeat=special.get("heartbeat", place.heartbeat)))

    def environment(self):
        place = self.place
        return {
            "AWS_ENDPOINT_URL_KINESIS": self.special.get("kinesis", place.kinesis),
            "AWS_ENDPOINT_URL_DYNAMODB": self.special.get("dynamodb", place.dynamodb),
            "AWS_ENDPOINT_URL_S3": place.settings.s3, "NO_COLOR": "1",
        }

    def command(self):
        return [self.place.settings.standpipe, "run", "-c", self.config]


class Objects:
    """What lies in a bucket below a table's prefix: one line a record. Each object is read once; it never changes."""

    def __init__(self, place):
        self.place, self.known, self.found = place, set(), []

    def got(self):
        for path in sorted(glob.glob(os.path.join(self.place.objects(), "**"), recursive=True)):
            if path in self.known or not os.path.isfile(path):
                continue
            self.known.add(path)
            with open(path, "rb") as file:
                for line in file.read().split(b"\n"):
                    if line:
                        self.found.append(Got("standpipe", hashlib.sha256(line).digest(), None, None))
        return self.found


def wait(what, condition, timeout=300, workers=(), every=0.25):
    """Waits for a condition, long enough for a slow machine; a worker that ends meanwhile is a failure."""
    begin = time.monotonic()
    while True:
        found = condition()
        if found:
            return time.monotonic() - begin
        for worker in workers:
            if not worker.alive():
                raise Failed(f"{worker.name} ended with {worker.process.returncode} while we waited for {what}", worker.log)
        if time.monotonic() - begin > timeout:
            logs = "".join(f"\n  {worker.name}:" + tail(worker.log) for worker in workers)
            raise Failed(f"{timeout} s passed without {what}{logs}")
        time.sleep(every)
