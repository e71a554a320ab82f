"""What the runs prove: what was sent and what was got are joined by the bytes of each record, and rows are looked at
with the eyes of a KCL. Shares no code with Standpipe.
"""

import collections

import aws

# What a stop without warning may have done twice on a shard: positions after `low`, up to `high`.
Window = collections.namedtuple("Window", "change shard low high")


class Report:
    """The join of what was sent with what was got."""

    def __init__(self, producer, got, windows=()):
        self.sent = producer.sent
        self.got = got
        counts = collections.Counter(record.hash for record in got)
        self.missing = [key for key in self.sent if key not in counts]
        self.foreign = sum(1 for key in counts if key not in self.sent and key not in producer.unsure)
        self.repeated = {key: count - 1 for key, count in counts.items() if count > 1}
        self.repeats = sum(self.repeated.values())
        own = collections.Counter(record.hash for record in got if record.worker == "standpipe")
        # A record that is twice in objects of ours: never allowed.
        self.twice = [key for key, count in own.items() if count > 1]
        self.by_change = collections.Counter()
        # None stands for a run in which leases move between live workers: its repeats are counted only.
        self.unexplained = [] if windows is None else [
            key for key, more in self.repeated.items() if self.explained(key, windows) < more]
        # A consumer that tells where it read from must tell the truth.
        self.misplaced = sum(1 for record in got if record.shard and record.hash in self.sent
                             and (record.shard, record.position) != self.sent[record.hash])

    def explained(self, key, windows):
        if key not in self.sent:
            return len(windows)
        shard, position = self.sent[key]
        hits = [window for window in windows if window.shard == shard and window.low < position <= window.high]
        for window in hits[:self.repeated[key]]:
            self.by_change[window.change] += 1
        return len(hits)

    def faults(self):
        """What is wrong, as lines for people; none is well."""
        found = []
        if self.missing:
            found.append(f"{len(self.missing)} records are missing: " + self.examples(self.missing))
        if self.foreign:
            found.append(f"{self.foreign} records were never sent")
        if self.twice:
            found.append(f"{len(self.twice)} records are twice in Standpipe's objects: " + self.examples(self.twice))
        if self.unexplained:
            found.append(f"{len(self.unexplained)} records repeat, and no kill explains them: " + self.examples(self.unexplained))
        if self.misplaced:
            found.append(f"{self.misplaced} records came with another shard or sequence number than they were put with")
        return found

    def examples(self, keys):
        some = sorted(self.sent[key] for key in keys if key in self.sent)
        who = {record.hash: [] for record in self.got}
        for record in self.got:
            who[record.hash].append(record.worker)
        first = next(iter(keys))
        return f"{some[:1]} to {some[-1:]}, the first got by {who.get(first, 'nobody')}"


def unreadable(table_rows):
    """Rows that a KCL 2.x or 3.x could not read as leases, as lines for people. Rows of the KCL's own other kinds carry
    `entityType`; ours are leases always."""
    found = []
    for row in table_rows:
        key = row.get("leaseKey", {}).get("S", "?")
        if row.get("entityType", {"S": "LEASE"})["S"] != "LEASE":
            continue
        kinds = {"leaseKey": "S", "leaseCounter": "N", "checkpoint": "S", "checkpointSubSequenceNumber": "N",
                 "ownerSwitchesSinceCheckpoint": "N"}
        for name, kind in kinds.items():
            if list(row.get(name, {})) != [kind]:
                found.append(f"{key}: {name} is {row.get(name)}")
        for name, kind in {"leaseOwner": "S", "parentShardId": "SS", "childShardIds": "SS", "startingHashKey": "S",
                           "endingHashKey": "S", "throughputKBps": "N", "checkpointOwner": "S"}.items():
            if name in row and list(row[name]) != [kind]:
                found.append(f"{key}: {name} is {row[name]}")
        try:
            aws.checkpoint_of(row)
        except (KeyError, ValueError):
            found.append(f"{key}: checkpoint is {row.get('checkpoint')}")
    return found
