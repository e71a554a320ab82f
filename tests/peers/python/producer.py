"""A producer that knows what it sent: every record that the stream took, by the SHA-256 of its bytes, with its place."""

import base64
import hashlib
import http.client
import threading
import time

import aws


class Producer:
    """Puts small records, `rate` a second, from a thread until it is told to stop."""

    def __init__(self, url, stream, rate, batch=25):
        self.service, self.stream, self.rate, self.batch = aws.kinesis(url), stream, rate, batch
        # Of every record that was taken: its shard, and its position there.
        self.sent = {}
        # Records whose put had no clear answer: they may be in the stream.
        self.unsure = set()
        self.number, self.failure = 0, None
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
                self.put([self.record() for _ in range(self.batch)])
        except Exception as error:
            self.failure = error

    def record(self):
        self.number += 1
        return f'{{"id":{self.number},"stream":"{self.stream}","at":{time.time_ns()}}}'.encode()

    def put(self, records):
        for _ in range(5):
            entries = [{"Data": base64.b64encode(data).decode(), "PartitionKey": hashlib.md5(data).hexdigest()}
                       for data in records]
            try:
                answer = self.service.call("PutRecords", StreamName=self.stream, Records=entries)
            except (OSError, http.client.HTTPException, aws.Refused):
                self.unsure.update(hashlib.sha256(data).digest() for data in records)
                time.sleep(1)
                return
            left = []
            for data, result in zip(records, answer["Records"]):
                if "SequenceNumber" in result:
                    place = (result["ShardId"], aws.position(result["SequenceNumber"]))
                    self.sent[hashlib.sha256(data).digest()] = place
                else:
                    left.append(data)
            if not left:
                return
            records = left
            time.sleep(0.2)
