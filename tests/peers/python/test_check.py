"""Whether the checks can fail: each fault that they look for, made by hand."""

import hashlib
import unittest

import aws
import check
import producer
from workers import Got


class Sent:
    """A producer that sent ten records to one shard."""

    def __init__(self):
        self.unsure = set()
        self.sent = {key(n): ("s", aws.position(str(100 + n))) for n in range(10)}


def key(number):
    return hashlib.sha256(str(number).encode()).digest()


def java(number, at=None):
    return Got("java", key(number), "s", aws.position(str(at if at else 100 + number)))


def ours(number):
    return Got("standpipe", key(number), None, None)


ALL = [java(n) for n in range(5)] + [ours(n) for n in range(5, 10)]
# A kill that left the records 3 and 4 to do again.
KILL = check.Window("java", "s", aws.position("102"), aws.position("104"))


def faults(got, windows=()):
    return check.Report(Sent(), got, windows).faults()


class Checks(unittest.TestCase):
    def test_all_once_is_well(self):
        self.assertEqual(faults(ALL), [])

    def test_a_missing_record(self):
        self.assertIn("1 records are missing", faults(ALL[1:])[0])

    def test_a_record_that_was_never_sent(self):
        self.assertIn("never sent", faults(ALL + [ours(11)])[0])

    def test_a_record_twice_in_our_objects_even_after_a_kill(self):
        self.assertIn("twice in Standpipe's objects", faults(ALL + [ours(4), ours(4)], [KILL, KILL])[0])

    def test_a_repeat_needs_a_kill_that_explains_it(self):
        self.assertIn("no kill explains", faults(ALL + [ours(4)])[0])
        self.assertEqual(faults(ALL + [ours(4), ours(3)], [KILL]), [])
        self.assertIn("no kill explains", faults(ALL + [ours(2)], [KILL])[0])

    def test_a_kill_explains_one_repeat(self):
        self.assertIn("no kill explains", faults(ALL + [ours(4), java(4)], [KILL])[0])
        self.assertEqual(faults(ALL + [ours(4), java(4)], [KILL, KILL]), [])

    def test_repeats_are_counted_by_kill(self):
        report = check.Report(Sent(), ALL + [ours(4), ours(3)], [KILL])
        self.assertEqual((report.repeats, dict(report.by_change)), (2, {"java": 2}))

    def test_a_wrong_sequence_number(self):
        self.assertIn("another shard or sequence number", faults([java(0, at=777)] + ALL[1:])[0])

    def test_positions_are_ordered_as_numbers(self):
        ordered = [("AT_TIMESTAMP", 0), ("TRIM_HORIZON", 0), ("LATEST", 0), ("99", 0), ("99", 1), ("100", 0), ("SHARD_END", 0)]
        places = [aws.position(*pair) for pair in ordered]
        self.assertEqual(places, sorted(places))

    def test_rows_that_a_kcl_cannot_read(self):
        good = {"leaseKey": {"S": "s"}, "leaseCounter": {"N": "1"}, "checkpoint": {"S": "100"},
                "checkpointSubSequenceNumber": {"N": "0"}, "ownerSwitchesSinceCheckpoint": {"N": "0"}}
        self.assertEqual(check.unreadable([good, dict(good, sp_s3={"M": {}})]), [])
        for bad in ({"leaseCounter": {"S": "1"}}, {"parentShardId": {"L": []}}, {"checkpoint": {"S": "x"}}):
            self.assertEqual(len(check.unreadable([dict(good, **bad)])), 1, bad)
        # A row of another kind in a lease table stops every KCL 2.x.
        self.assertTrue(check.unreadable([{"leaseKey": {"S": "heartbeat"}}]))

    def test_an_aggregate_has_the_form_of_the_producer_library(self):
        made = producer.aggregate("k", [b"a", b"x" * 300])
        message = b"\x0a\x01k" + b"\x1a\x05\x08\x00\x1a\x01a" + b"\x1a\xb1\x02\x08\x00\x1a\xac\x02" + b"x" * 300
        self.assertEqual(made, b"\xf3\x89\x9a\xc2" + message + hashlib.md5(message).digest())


if __name__ == "__main__":
    unittest.main()
