#!/usr/bin/env python3
"""Two workers of the Java KCL 2.x and two of Standpipe on one lease table, killed and stopped and started.

    rolling.py [--short] [--minutes N]

All shards are read, nothing is missing, nothing is twice in our objects, no row that a KCL could not read is ever in the
table, and the Java workers log no exception but those that lost races bring. Printed: repeats, and who held how many
leases.
"""

import argparse
import collections
import os
import random
import re
import time

import aws
import check
from producer import Producer
from settings import Settings, end, say
from workers import Failed, Objects, Place, children_end_with_us, wait

# What a KCL 2.x logs when it loses a race for a lease, or is stopped; by the class, and where it was logged.
EXPECTED = re.compile(
    r"LeaseLostException|ShutdownException|InterruptedException|ConditionalCheckFailedException|RejectedExecutionException"
    r"|CancellationException")


class Rolling:
    def __init__(self, settings, arguments):
        self.settings, self.arguments = settings, arguments
        self.random = random.Random(arguments.seed)
        self.place = Place(settings, os.path.join(settings.work, "rolling"), "rolling", "rolling", arguments.failover)
        self.table = aws.dynamodb(settings.dynamodb)
        self.objects, self.all, self.slots = Objects(self.place), [], {}
        self.unreadable, self.samples, self.ends = collections.Counter(), [], collections.Counter()

    def say(self, text):
        say("rolling", text)

    def run(self):
        arguments = self.arguments
        self.shards = aws.make_stream(aws.kinesis(self.settings.kinesis), "rolling", arguments.shards)
        self.producer = Producer(self.settings.kinesis, "rolling", arguments.rate).start()
        self.start("java1")
        wait("the lease table", self.rows_or_none, workers=self.live())
        for slot in ("ours1", "java2", "ours2"):
            self.start(slot)
        took = wait("a lease for every worker", lambda: self.look() and min(self.held().values()) > 0, workers=self.live())
        self.say(f"all four hold leases after {took:.1f} s: {self.shares()}")
        if arguments.poison:
            # Whether a row of ours that is no lease would be noticed: this run must end red.
            self.table.call("PutItem", TableName="rolling", Item={"leaseKey": {"S": "a heartbeat"}})
        self.storm(time.monotonic() + 60 * arguments.minutes)
        took = self.settle()
        self.producer.stop()
        missing = wait("all that was sent", lambda: not self.producer.sent.keys() - {r.hash for r in self.got()},
                       workers=self.live())
        self.say(f"all read {missing:.1f} s after the last record was put; at the end {self.shares()}, {took}")
        for worker in self.live():
            worker.stop()
        self.look()
        return self.result()

    def start(self, slot):
        number = sum(worker.name.startswith(slot) for worker in self.all) + 1
        name = f"{slot}.{number}"
        worker = self.place.java(name, self.settings.kcl2) if slot.startswith("java") else self.place.ours(name)
        self.slots[slot] = worker.start()
        self.all.append(worker)

    def live(self):
        return list(self.slots.values())

    def rows_or_none(self):
        try:
            return aws.rows(self.table, "rolling")
        except aws.Refused:
            return None

    def look(self):
        """One look at the lease table: every row must be one that a KCL can read."""
        self.now = aws.rows(self.table, "rolling")
        self.unreadable.update(check.unreadable(self.now))
        self.samples.append(dict(self.held()))
        return True

    def held(self):
        held = dict.fromkeys((worker.name for worker in self.live()), 0)
        for row in self.now:
            owner = row.get("leaseOwner", {"S": "nobody"})["S"]
            # Ours is the worker's name and an id.
            name = next((name for name in held if owner == name or owner.startswith(name + "-")), "gone")
            held[name] = held.get(name, 0) + 1
        return held

    def shares(self):
        return " ".join(f"{name}:{count}" for name, count in sorted(self.held().items()))

    def storm(self, until):
        """Ends one worker after the other, of each kind in turn, with `kill -9` and SIGTERM in turn."""
        order = [(kind, how) for how in ("kill", "stop") for kind in ("ours", "java")]
        while time.monotonic() < until:
            kind, how = order[sum(self.ends.values()) % len(order)]
            slot = kind + self.random.choice("12")
            self.pause(self.random.uniform(*self.arguments.calm))
            worker = self.slots.pop(slot)
            if not worker.alive():
                raise Failed(f"{worker.name} ended by itself with {worker.process.returncode}", worker.log)
            worker.kill() if how == "kill" else worker.stop()
            self.ends[f"{kind} {how}"] += 1
            self.look()
            self.say(f"{how} of {worker.name}: {self.shares()}")
            self.pause(self.random.uniform(1, 5))
            self.start(slot)

    def pause(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.look()
            time.sleep(1)

    def settle(self):
        """Waits until everybody has its share, within one lease; a KCL 2.x steals one lease in two failovers."""
        most = -(-self.arguments.shards // 4) + 1
        least = self.arguments.shards // 4 - 1

        def even():
            self.look()
            counts = self.held()
            return "gone" not in counts and all(least <= count <= most for count in counts.values())
        try:
            return f"even {wait('even shares', even, self.arguments.settle, self.live(), every=1):.1f} s after the last start"
        except Failed as failed:
            if "passed without" not in str(failed):
                raise
            self.uneven = f"no even shares within {self.arguments.settle} s: {self.shares()}"
            return self.uneven

    def got(self):
        return [r for worker in self.all if hasattr(worker, "got") for r in worker.got()] + self.objects.got()

    def result(self):
        got = self.got()
        report = check.Report(self.producer, got, None)
        readers = collections.Counter(report.sent[record.hash][0] for record in got if record.hash in report.sent)
        moves = sum(1 for a, b in zip(self.samples, self.samples[1:]) if a != b)
        java = sum(record.worker != "standpipe" for record in got)
        self.say(f"ended: {', '.join(f'{name} {count}' for name, count in sorted(self.ends.items()))}")
        self.say(f"sent {len(report.sent)}, missing {len(report.missing)}, repeats {report.repeats}, twice in our objects "
                 f"{len(report.twice)}, through Java {java}, through Standpipe {len(got) - java}")
        self.say(f"shards read {len(readers)} of {len(self.shards)}; looks at the table {len(self.samples)}, changes {moves}")
        faults = report.faults()
        if set(readers) != set(self.shards):
            faults.append(f"not read: {sorted(set(self.shards) - set(readers))}")
        faults += [f"a row that a KCL cannot read, seen {count} times: {row}" for row, count in self.unreadable.items()]
        if hasattr(self, "uneven") and not self.arguments.short:
            faults.append(self.uneven)
        return faults + self.java_faults()

    def java_faults(self):
        """Exceptions in the Java workers' logs that lost races do not explain, each with its line."""
        found, usual = [], collections.Counter()
        for worker in self.all:
            if not hasattr(worker, "out"):
                continue
            with open(worker.log, errors="replace") as file:
                lines = file.read().split("\n")
            for number, line in enumerate(lines):
                name = re.search(r"\b([A-Za-z]+(?:Exception|Error))\b", line)
                if not name or line.startswith(("\tat ", "\t...")):
                    continue
                around = "\n".join(lines[max(0, number - 1):number + 12])
                if EXPECTED.search(around):
                    usual[name[1]] += 1
                else:
                    found.append(f"{worker.name}: {around[:1500]}")
        self.say("exceptions of lost races in Java's logs: " + (", ".join(f"{n} {c}" for n, c in usual.items()) or "none"))
        return found[:5] + ([f"{len(found)} such exceptions"] if len(found) > 5 else [])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="one minute, four ends")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--failover", type=int, default=10, help="seconds")
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--rate", type=int, default=300, help="records a second")
    parser.add_argument("--settle", type=int, default=300, help="seconds until shares must be even")
    parser.add_argument("--poison", action="store_true", help="put a row that is no lease into the table: must end red")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.calm = (8, 20)
    if arguments.short:
        arguments.minutes, arguments.calm, arguments.settle = 0.8, (5, 10), 60
    children_end_with_us()
    try:
        faults = Rolling(Settings(), arguments).run()
    except Failed as failed:
        faults = [str(failed)]
    end(faults)


if __name__ == "__main__":
    main()
