"""A producer that knows what it sent: every record that the stream took, by the SHA-256 of its bytes, with its place.

Some of what it puts are aggregates, as the Kinesis Producer Library makes them: several user records in one record of
the stream, told apart by their sub-sequence numbers.
"""

import base64
import hashlib
import http.client
import threading
import time

import aws


MAGIC = b"\xf3\x89\x9a\xc2"


def field(number, data):
    """A length-delimited field of a protobuf message."""
    length, size = b"", len(data)
    while size > 127:
        length, size = length + bytes([size % 128 + 128]), size // 128
    return bytes([number << 3 | 2]) + length + bytes([size]) + data


def aggregate(key, users):
    """User records under one partition key as an aggregate: the magic, AggregatedRecord as protobuf, and its MD5."""
    # Of each user record: the index of its partition key (field 1), and its data (field 3).
    message = field(1, key.encode()) + b"".join(field(3, bytes([1 << 3, 0]) + field(3, data)) for data in users)
    return MAGIC + message + hashlib.md5(message).digest()


class Producer:
    """Puts small records, `rate` a second, from a thread until it is told to stop."""

    def __init__(self, url, stream, rate, batch=25):
        self.service, self.stream, self.rate, self.batch = aws.kinesis(url), stream, rate, batch
        # Of every record that was taken: its shard, and its position there.
        self.sent = {}
        # Records whose put had no clear answer: they may be in the stream.
        self.unsure = set()
        self.number, self.puts, self.failure = 0, 0, None
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def start(self):
        self.thread.start()
        return self

    def stop(self):
        self.stopping.set()
        self.thread.join()
        if self.failure:
            raise self.failure

    def run(self):
        begin, due = time.monotonic(), 0
        try:
            while not self.stopping.is_set():
                due += self.batch
                ahead = begin + due / self.rate - time.monotonic()
                # After a pause it does not run after what it missed.
                if ahead < -2:
                    begin -= ahead
                self.stopping.wait(max(0, ahead))
                self.put([self.users() for _ in range(self.batch)])
        except Exception as error:
            self.failure = error

    def users(self):
        """The user records of the next record of the stream: one, or of every fifth some more."""
        self.puts += 1
        return [self.record() for _ in range(2 + self.puts % 7 if self.puts % 5 == 0 else 1)]

    def record(self):
        self.number += 1
        return f'{{"id":{self.number},"stream":"{self.stream}","at":{time.time_ns()}}}'.encode()

    def put(self, records):
        """Puts records of the stream, each a list of user records, until all are taken or an answer is unclear."""
        for _ in range(5):
            entries = []
            for users in records:
                key = hashlib.md5(users[0]).hexdigest()
                data = aggregate(key, users) if len(users) > 1 else users[0]
                entries.append({"Data": base64.b64encode(data).decode(), "PartitionKey": key})
            try:
                answer = self.service.call("PutRecords", StreamName=self.stream, Records=entries)
            except (OSError, http.client.HTTPException, aws.Refused):
                self.unsure.update(hashlib.sha256(data).digest() for users in records for data in users)
                time.sleep(1)
                return
            left = []
            for users, result in zip(records, answer["Records"]):
                if "SequenceNumber" not in result:
                    left.append(users)
                    continue
                for sub, data in enumerate(users):
                    place = (result["ShardId"], aws.position(result["SequenceNumber"], sub))
                    self.sent[hashlib.sha256(data).digest()] = place
            if not left:
                return
            records = left
            time.sleep(0.2)
