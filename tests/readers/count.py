#!/usr/bin/env python3
"""Counts what a storm delivered, record by record, from the objects.

    count.py ENDPOINT BUCKET PRODUCED [--prefix out/]

PRODUCED  a line a record in the order of ids, from 0: the number of its shard, a tab, how many records of that shard come
          before it.

A record is the JSON line that its id stands for (`line` says how). Every line of every object must be one that was
produced, byte for byte, each must be there once, and within an object the records of a shard must ascend.

Shares no code with Standpipe. Exit code: 0 all right, 1 not.
"""

import argparse
import array
import re
import sys

import bucket

LETTERS = b"abcdefghijklmnopqrstuvwxyz0123456789-ABCDEFGHIJKLMNOPQRSTUVWXYZ"
TEXT = LETTERS * 40
ID = re.compile(rb'\{"id":(\d+),')


def line(number):
    """The line of an id: 900 to 1,155 letters, which begin and end where the id says."""
    length = 900 + (((number * 0x9E3779B9) & 0xFFFFFFFFFFFFFFFF) >> 8) % 256
    at = number % len(LETTERS)
    return b'{"id":%d,"text":"%s"}' % (number, TEXT[at:at + length])


class Count:
    def __init__(self, produced):
        self.shards, self.places = array.array("H"), array.array("L")
        with open(produced, encoding="ascii") as file:
            for text in file:
                shard, place = text.split("\t")
                self.shards.append(int(shard))
                self.places.append(int(place))
        self.times = bytearray(len(self.shards))
        self.objects = self.lines = self.bytes = 0
        self.wrong = []

    def object(self, key, body):
        self.objects += 1
        self.bytes += len(body)
        if body and not body.endswith(b"\n"):
            self.wrong.append(f"{key}: the last line has no end")
        last = {}
        for found in body.splitlines():
            self.lines += 1
            match = ID.match(found)
            number = int(match[1]) if match else len(self.times)
            if number >= len(self.times) or found != line(number):
                self.wrong.append(f"{key}: a line that was never produced: {found[:40]!r}")
                continue
            shard, place = self.shards[number], self.places[number]
            if last.get(shard, -1) >= place:
                self.wrong.append(f"{key}: the records of a shard do not ascend, at {number}")
            last[shard] = place
            self.times[number] = min(255, self.times[number] + 1)

    def tell(self, uploads):
        lost = self.times.count(0)
        repeated = sum(times - 1 for times in self.times if times > 1)
        print(f"{len(self.times):10} records produced, as an independent reader counts")
        print(f"{self.lines:10} lines in {self.objects} objects, {self.bytes / 1e6:.1f} MB")
        print(f"{lost:10} lost")
        print(f"{repeated:10} repeated")
        print(f"{len(self.wrong):10} lines foreign or out of order")
        print(f"{len(uploads):10} uploads open")
        for text in self.wrong[:5]:
            print(f"  {text}")
        if lost:
            print(f"  the first that is lost: {self.times.index(0)}")
        return not (lost or repeated or self.wrong)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("endpoint")
    parser.add_argument("bucket")
    parser.add_argument("produced")
    parser.add_argument("--prefix", default="", help="only objects below it")
    arguments = parser.parse_args()
    count = Count(arguments.produced)
    for key, body in bucket.objects(arguments.endpoint, arguments.bucket, arguments.prefix):
        count.object(key, body)
    return 0 if count.tell(bucket.open_uploads(arguments.endpoint, arguments.bucket)) else 1


if __name__ == "__main__":
    sys.exit(main())
