#!/usr/bin/env python3
"""How long shards go unread when a worker ends, and what leases cost: Standpipe beside the Java KCL 2.x and 3.x, on the
same servers at the same time, seen from the servers.

    takeover.py [--short]

Three workers a fleet; Standpipe has two fleets, one with a heartbeat a lease as the KCL has it, one with a heartbeat a
worker. One is stopped (SIGTERM), another killed (`kill -9`); the time runs from the signal until another
worker has its first answer to GetRecords of a shard that the ended one held. Standpipe must be below its goals: 3 s, and
failover + 5 s. The KCL's times are printed and not judged.
"""

import argparse
import collections
import os
import statistics
import time

import aws
from proxy import Journal
from producer import Producer
from settings import Settings, end, say, together
from workers import Place, children_end_with_us, wait

STOP_GOAL = 3.0
# A fleet of ours with one heartbeat a worker, which Java workers could not see.
PER_WORKER = "per-worker"
KILL_GOAL_BEYOND_FAILOVER = 5.0


class Fleet:
    """Workers of one kind on a stream and a table of their own."""

    def __init__(self, settings, name, version, arguments, journal):
        self.settings, self.name, self.version, self.arguments, self.journal = settings, name, version, arguments, journal
        self.place = Place(settings, os.path.join(settings.work, "fleet-" + name), name, name, arguments.failover, interval="60s",
                           heartbeat="per_worker" if name == PER_WORKER else "per_lease")
        self.table = aws.dynamodb(settings.dynamodb)
        self.workers, self.times, self.cost = {}, collections.defaultdict(list), None

    def start(self):
        name = f"{self.name}-{len(self.workers) + 1}"
        doors = {service: self.journal.door(name, getattr(self.settings, service)) for service in ("kinesis", "dynamodb")}
        if self.version is None:
            worker = self.place.ours(name, **doors)
        else:
            # Checkpoints as often as Standpipe commits here.
            worker = self.place.java(name, self.version, checkpoint_millis=60_000, checkpoint_records=1_000_000, **doors)
        self.workers[name] = worker.start()

    def live(self):
        return [worker for worker in self.workers.values() if worker.alive()]

    def run(self):
        self.shards = aws.make_stream(aws.kinesis(self.settings.kinesis), self.name, self.arguments.shards)
        producer = Producer(self.settings.kinesis, self.name, self.arguments.rate).start()
        try:
            for _ in range(3):
                self.start()
            for number in range(self.arguments.rounds):
                took = self.spread()
                readers = len(set(self.holders().values()))
                say(self.name, f"{readers} of three workers read the shards after {took:.1f} s")
                if number == 0:
                    self.measure_cost()
                self.one("stop")
                self.start()
                self.spread()
                self.one("kill")
                self.start()
        finally:
            producer.stopping.set()
            for worker in self.live():
                worker.kill()
        return self.faults()

    def holders(self):
        """Which live worker holds each shard; a KCL 3 also has rows of other kinds."""
        try:
            rows = aws.leases(self.table, self.name)
        except aws.Refused:
            return {}
        names = [worker.name for worker in self.live()]
        held = {shard: row.get("leaseOwner", {"S": ""})["S"] for shard, row in rows.items()}
        return {shard: next((name for name in names if owner == name or owner.startswith(name + "-")), None)
                for shard, owner in held.items()}

    def spread(self):
        """Waits until each worker holds some shards and each shard is read by who holds it. A KCL 3.x that sees no load
        may leave a worker without any for good: there it is enough that every shard is read."""
        everybody = self.version is None or not self.version.startswith("3.")

        def ready():
            now, holders = time.monotonic(), self.holders()
            counts = collections.Counter(holders.values())
            shared = all(counts[worker.name] > 0 for worker in self.live()) or not everybody
            return (len(holders) == len(self.shards) and shared and None not in holders.values()
                    and all(self.journal.first_read(shard, now - 5, [holder]) for shard, holder in holders.items()))
        return wait("shards for every worker", ready, 600, self.live(), every=1)

    def measure_cost(self):
        begin = time.monotonic()
        time.sleep(self.arguments.cost)
        until = time.monotonic()
        counts = self.journal.count(begin, until, list(self.workers))
        per = (until - begin) * len(self.shards)
        kinesis = {"GetRecords", "GetShardIterator", "ListShards", "DescribeStreamSummary", "DescribeStream"}
        self.cost = {name: count / per for name, count in counts.items() if name not in kinesis}

    def leader(self):
        """The leader of a KCL 3 fleet, whose end costs more than a lease."""
        for row in aws.rows(self.table, self.name):
            if row.get("leaseKey", {}).get("S") == "Leader":
                return row.get("ownerName", {}).get("S")
        return None

    def one(self, how):
        """Ends a worker that holds shards and does not lead; how long each of its shards went unread."""
        holders, leader = self.holders(), self.leader()
        victim = next(worker for worker in self.live() if worker.name != leader and worker.name in holders.values())
        shards = [shard for shard, holder in holders.items() if holder == victim.name]
        others = [worker.name for worker in self.live() if worker is not victim]
        begin = time.monotonic()
        if how == "kill":
            victim.kill()
        else:
            victim.process.terminate()
        wait("a read of every shard by another worker",
             lambda: all(self.journal.first_read(shard, begin, others) for shard in shards), 600, every=0.2,
             workers=[self.workers[name] for name in others])
        found = [self.journal.first_read(shard, begin, others) - begin for shard in shards]
        victim.process.wait()
        self.times[how] += found
        say(self.name, f"{how}: {len(shards)} shards, read again after {' '.join(f'{t:.1f}' for t in sorted(found))} s")

    def faults(self):
        if self.version is not None:
            return []
        goals = {"stop": STOP_GOAL, "kill": self.arguments.failover + KILL_GOAL_BEYOND_FAILOVER}
        return [f"{how}: a shard went unread for {max(self.times[how]):.1f} s, and the goal is {goal} s"
                for how, goal in goals.items() if max(self.times[how]) > goal * self.arguments.slack]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="one round without the KCL 3.x, which takes minutes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--failover", type=int, default=10, help="seconds")
    parser.add_argument("--shards", type=int, default=6)
    parser.add_argument("--rate", type=int, default=60, help="records a second and fleet")
    parser.add_argument("--cost", type=int, default=120, help="seconds over which requests are counted")
    parser.add_argument("--slack", type=float, default=2.0, help="times the goal, since a machine may be busy")
    arguments = parser.parse_args()
    if arguments.short:
        arguments.rounds, arguments.cost, arguments.slack = 1, 60, 3.0
    children_end_with_us()
    settings, journal = Settings(), Journal()
    kinds = {"standpipe": None, PER_WORKER: None, f"kcl{settings.kcl2[0]}": settings.kcl2}
    if not arguments.short:
        kinds[f"kcl{settings.kcl3[0]}"] = settings.kcl3
    fleets = [Fleet(settings, name, version, arguments, journal) for name, version in kinds.items()]
    faults = together({fleet.name: fleet.run for fleet in fleets})
    print(f"\nseconds without a read at failover {arguments.failover} s, median and most; DynamoDB requests a second and shard")
    print(f"{'':12}{'SIGTERM':>18}{'kill -9':>18}{'requests':>11}   of which")
    for fleet in fleets:
        cells = [f"{statistics.median(fleet.times[how]):.1f}  {max(fleet.times[how]):.1f}" if fleet.times[how] else "-"
                 for how in ("stop", "kill")]
        cost = sorted((fleet.cost or {}).items(), key=lambda pair: -pair[1])
        print(f"{fleet.name + ' ' + (fleet.version or ''):12}{cells[0]:>18}{cells[1]:>18}{sum(c for _, c in cost):>11.3f}   "
              + ", ".join(f"{name} {value:.3f}" for name, value in cost if value >= 0.0005))
    end(faults)


if __name__ == "__main__":
    main()
