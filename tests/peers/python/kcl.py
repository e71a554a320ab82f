#!/usr/bin/env python3
"""Java KCL -> Standpipe -> Java -> Standpipe on one lease table, under load.

    kcl.py [--short]

Clean stops: nothing is missing and nothing repeats. Kills in mid-batch: nothing is missing, nothing is twice in our
objects, and what repeats lies between the row's checkpoint and how far the killed worker had come. Both for a KCL 2.x
and a 3.x. `--short` has clean stops and kills in one story a version.
"""

import argparse
import os
import subprocess
import time

import aws
import check
from producer import Producer
from settings import Settings, end, say, together
from workers import Objects, Place, children_end_with_us, tail, wait


class Story:
    """Workers one after the other on one table, each ended in its way."""

    def __init__(self, settings, name, version, steps, arguments):
        self.name, self.version, self.steps, self.arguments = name, version, steps, arguments
        self.place = Place(settings, os.path.join(settings.work, name), name, name, failover=arguments.failover)
        self.table = aws.dynamodb(settings.dynamodb)
        self.objects, self.javas, self.windows, self.faults, self.kills = Objects(self.place), [], [], [], 0

    def say(self, text):
        say(self.name, text)

    def got(self):
        return [record for java in self.javas for record in java.got()] + self.objects.got()

    def hashes(self):
        return {record.hash for record in self.got()}

    def run(self):
        settings = self.place.settings
        self.shards = aws.make_stream(aws.kinesis(settings.kinesis), self.place.stream, self.arguments.shards)
        self.producer = Producer(settings.kinesis, self.place.stream, self.arguments.rate).start()
        worker = None
        try:
            for number, (kind, ending) in enumerate(self.steps, 1):
                worker = self.make(kind, f"{kind}{number}")
                self.step(worker, ending, last=number == len(self.steps))
            worker = None
        finally:
            self.producer.stopping.set()
            if worker and worker.alive():
                worker.kill()
        return self.result()

    def make(self, kind, name):
        if kind == "standpipe":
            return self.place.ours(name)
        # A leader of KCL 3 that was killed holds its place for 120 s, unless it is told another time.
        java = self.place.java(name, self.version, leader_millis=8_000)
        self.javas.append(java)
        return java

    def step(self, worker, ending, last):
        before = self.hashes()
        begin = time.monotonic()
        worker.start()
        first = wait(f"a record through {worker.name}", lambda: self.hashes() - before, workers=[worker])
        wait(f"{self.arguments.records} records of every shard through {worker.name}",
             lambda: self.enough(before), workers=[worker])
        if worker.name in ("kcl21", "kcl31"):
            self.refused(worker)
        if last:
            self.producer.stop()
            wait("all that was sent", lambda: not self.producer.sent.keys() - self.hashes(), workers=[worker])
        how = self.finish(worker, ending)
        self.say(f"{worker.kind:<10} first record after {first:.1f} s, {len(self.hashes() - before)} records in "
                 f"{time.monotonic() - begin:.1f} s, {how}")
        self.faults += [f"after {worker.name}: {fault}" for fault in check.unreadable(aws.rows(self.table, self.place.table))]

    def refused(self, java):
        """Beside a live KCL 3.x Standpipe does not start, nor beside any with heartbeats that Java cannot see."""
        heartbeat = "per_worker" if java.name == "kcl21" else "per_lease"
        uninvited = self.place.ours("uninvited", heartbeat=heartbeat).start()
        try:
            code = uninvited.process.wait(180)
        except subprocess.TimeoutExpired:
            uninvited.kill()
            code = "a kill, for it went on"
        if code == 3:
            self.say(f"beside a live {java.kind} a worker with heartbeats {heartbeat} refuses to start")
        else:
            self.faults.append(f"beside a live {java.kind} a worker with heartbeats {heartbeat} ended with {code}"
                               + tail(uninvited.log))

    def enough(self, before):
        count = dict.fromkeys(self.shards, 0)
        for key in self.hashes() - before:
            if key in self.producer.sent:
                count[self.producer.sent[key][0]] += 1
        return min(count.values()) >= self.arguments.records

    def finish(self, worker, ending):
        if ending == "stop":
            return f"stopped in {worker.stop():.1f} s"
        if worker.kind == "standpipe":
            return self.kill_ours(worker)
        wait("a checkpoint within an aggregate", lambda: self.open_records(worker), workers=[worker], every=0.001)
        worker.kill()
        return self.note(worker, "with records after its checkpoint", self.ends(worker))

    def open_records(self, java):
        """Whether some shard has records after its checkpoint, and the checkpoint stands within an aggregate."""
        checkpoints, after = {}, {}
        for fields in java.lines():
            if fields[0] == "C":
                checkpoints[fields[2]] = fields[3]
                after.pop(fields[2], None)
            elif fields[0] == "R":
                after.setdefault(fields[2], fields[3])
        return any(checkpoints.get(shard) == sequence for shard, sequence in after.items())

    def kill_ours(self, worker):
        """Kills it where a batch is committed and not finalized, or where one is staged and not committed."""
        self.kills += 1
        if self.kills % 2:
            def pending():
                rows = aws.leases(self.table, self.place.table).values()
                return any("cid" in value["M"] for row in rows for name, value in row.items() if name.startswith("sp_"))
            wait("a commit that is not finalized", pending, workers=[worker], every=0)
            where = "with a commit that is not finalized"
        else:
            wait("an open upload", lambda: aws.open_uploads(self.place.settings.s3, "lake"), workers=[worker], every=0)
            where = "with an open upload"
        worker.kill()
        rows = aws.leases(self.table, self.place.table)
        return self.note(worker, where, {shard: aws.reached(row) for shard, row in rows.items()})

    def ends(self, java):
        found = {}
        for record in java.got():
            found[record.shard] = max(record.position, found.get(record.shard, record.position))
        return found

    def note(self, worker, where, ends):
        """What the kill leaves for others to do again: what lies after the row's checkpoint."""
        new = [check.Window(worker.name, shard, aws.checkpoint_of(row), ends[shard])
               for shard, row in aws.leases(self.table, self.place.table).items() if shard in ends]
        self.windows += new
        last = {}
        for shard, (sequence, sub) in list(self.producer.sent.values()):
            last[shard, sequence] = max(sub, last.get((shard, sequence), 0))
        within = sum(window.low[1] < last.get((window.shard, window.low[0]), 0) for window in new)
        return (f"killed {where}: at most {self.bound(new)} records to do again"
                + (f", {within} checkpoints within an aggregate" if within else ""))

    def bound(self, windows):
        return sum(1 for shard, position in list(self.producer.sent.values()) for window in windows
                   if window.shard == shard and window.low < position <= window.high)

    def result(self):
        report = check.Report(self.producer, self.got(), self.windows)
        kills = sum(ending == "kill" for _, ending in self.steps)
        self.say(f"sent {len(report.sent)}, missing {len(report.missing)}, repeats {report.repeats} of at most "
                 f"{self.bound(self.windows)} ({kills} kills, {len(self.steps) - kills} clean stops), "
                 f"twice in our objects {len(report.twice)}, unsure {len(self.producer.unsure)}")
        for change, count in sorted(report.by_change.items()):
            self.say(f"repeats after the kill of {change}: {count}")
        if kills == 0 and report.repeats:
            self.faults.append(f"{report.repeats} repeats, and every stop was clean")
        return self.faults + report.faults()


def stories(settings, arguments):
    found = {}
    for version in (settings.kcl2, settings.kcl3):
        java = "kcl" + version[0]
        plans = {"clean": [(java, "stop"), ("standpipe", "stop")] * 2, "kill": [(java, "kill"), ("standpipe", "kill")] * 2}
        if arguments.short:
            plans = {"short": [(java, "stop"), ("standpipe", "stop"), (java, "kill"), ("standpipe", "kill"), (java, "stop"),
                               ("standpipe", "stop")]}
        else:
            # After its kills Standpipe must have the chance to finish what it left.
            plans["kill"] += [(java, "stop"), ("standpipe", "kill"), (java, "kill"), ("standpipe", "stop")]
        for plan, steps in plans.items():
            name = f"{java}-{plan}"
            found[name] = Story(settings, name, version, steps, arguments).run
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="one story a version")
    parser.add_argument("--only", help="one story alone, such as kcl2-clean")
    parser.add_argument("--failover", type=int, default=10, help="seconds")
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--rate", type=int, default=200, help="records a second and story")
    parser.add_argument("--records", type=int, default=100, help="records of every shard through each worker")
    arguments = parser.parse_args()
    children_end_with_us()
    found = stories(Settings(), arguments)
    end(together({name: run for name, run in found.items() if arguments.only in (None, name)}))


if __name__ == "__main__":
    main()
