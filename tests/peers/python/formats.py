#!/usr/bin/env python3
"""Objects in every format and compression, read by programs that others wrote.

    formats.py generate ROWS PREFIX           records with a value of every Hive type: PREFIX.jsonl and PREFIX.columns
    formats.py check FOLDER --java CLASSPATH --go READER NAME [NAME ...]

check: of each NAME, FOLDER has NAME.jsonl (what was encoded) and the folder NAME with the objects that the program `formats`
wrote. Lines are compared byte for byte, rows value by value and in order. Prints each kind of object and reader with its
seconds; exits 1 if anything differs or cannot be read.
"""

import argparse
import datetime
import gzip
import io
import itertools
import json
import os
import random
import struct
import subprocess
import sys
import time
import zipfile

sys.path.insert(0, "tests/readers")
import read_back


# What is generated

class Raw(str):
    """A number as it is to stand in the JSON text."""


def dump(value):
    if isinstance(value, dict):
        return "{" + ",".join(f"{dump(name)}:{dump(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(dump, value)) + "]"
    return value if isinstance(value, Raw) else json.dumps(value, ensure_ascii=isinstance(value, str) and len(value) % 2 == 0)


class Values:
    """Random values, the extremes of a type among them."""

    CHARACTERS = "abcXYZ 019 \t\n\"\\/{}[]äßéΩж漢字\u0000\u001f\u00a0\u2028\uffff😀𝄞"

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.row = 0

    def integer(self, bits):
        low, high = -(1 << bits - 1), (1 << bits - 1) - 1
        return self.random.choice([low, high, 0, -1, 1, self.random.randint(low, high), self.random.randint(-99, 99)])

    def floating(self, kind, extremes):
        while True:
            size = struct.calcsize(kind)
            value, = struct.unpack(kind, self.random.randbytes(size))
            if value == value and abs(value) != float("inf"):
                return self.random.choice([Raw(repr(value)), Raw(self.random.choice(extremes)), self.random.randint(-9, 9)])

    def decimal(self, precision, scale):
        digits = self.random.choice([precision, self.random.randint(1, precision)])
        whole = str(self.random.randint(0, 10 ** digits - 1)).rjust(scale + 1, "0")
        text = f"{whole[:-scale]}.{whole[-scale:]}" if scale else whole
        return Raw(self.random.choice(["", "-"]) + text)

    def text(self, longest=30):
        return "".join(self.random.choices(self.CHARACTERS, k=self.random.randint(0, longest)))

    def date(self):
        day = self.random.choice([1, datetime.date.max.toordinal(), 577736, self.random.randint(1, 3652059)])
        return datetime.date.fromordinal(day).isoformat()

    def timestamp(self):
        # Within the years of pyarrow's nanoseconds. The second before 1970 has no form in ORC.
        low, high = -8_500_000_000 * 1_000_000, 9_100_000_000 * 1_000_000
        micros = self.random.choice([0, -1_000_000, -2_000_001, 1_420_070_400_000_000, self.random.randint(low, high)])
        micros = self.random.choice([micros, micros // 1_000_000 * 1_000_000, micros // 1000 * 1000])
        if -1_000_000 < micros < 0:
            micros = 0
        at = read_back.EPOCH + datetime.timedelta(microseconds=micros)
        return at.strftime(self.random.choice(["%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S.%fZ"]))

    def list(self, value, longest=5):
        return [self.maybe(value) for _ in range(self.random.choice([0, 1, self.random.randint(0, longest)]))]

    def map(self, key, value):
        return {str(key()): self.maybe(value) for _ in range(self.random.randint(0, 4))}

    def maybe(self, value):
        return None if self.random.random() < 0.15 else value()


FLOATS = ["3.4028234663852886e38", "-1e-45", "1.17549435e-38", "-0.0"]
DOUBLES = ["1.7976931348623157e308", "5e-324", "2.2250738585072014e-308", "-0.0", "0.1"]

# Column, type, value. Some are of one shape all through: what rises, runs, repeats, or is never null.
COLUMNS = [
    ("id", "bigint", lambda v: v.row),
    ("at", "timestamp", lambda v: f"2026-01-01T{v.row // 3600 % 24:02}:{v.row // 60 % 60:02}:{v.row % 60:02}.000Z"),
    ("runs", "int", lambda v: v.row // 700),
    ("falls", "bigint", lambda v: 9_000_000_000 - v.row * v.row),
    ("few", "string", lambda v: v.random.choice(["GET", "POST", "", "Ärger"])),
    ("nothing", "double", lambda v: None),
    ("yes", "boolean", lambda v: True),
    ("b", "boolean", lambda v: v.random.random() < 0.5),
    ("t", "tinyint", lambda v: v.integer(8)),
    ("s", "smallint", lambda v: v.integer(16)),
    ("i", "int", lambda v: v.integer(32)),
    ("l", "bigint", lambda v: v.integer(64)),
    ("f", "float", lambda v: v.floating("<f", FLOATS)),
    ("d", "double", lambda v: v.floating("<d", DOUBLES)),
    ("d38", "decimal(38,10)", lambda v: v.decimal(38, 10)),
    ("d18", "decimal(18,0)", lambda v: v.decimal(18, 0)),
    ("d5", "decimal(5,2)", lambda v: v.decimal(5, 2)),
    ("text", "string", lambda v: v.text()),
    ("large", "varchar(60000)", lambda v: v.text(60_000 if v.row % 997 == 0 else 3)),
    ("bytes", "binary", lambda v: v.text()),
    ("day", "date", lambda v: v.date()),
    ("moment", "timestamp", lambda v: v.timestamp()),
    ("list", "array<int>", lambda v: v.list(lambda: v.integer(32), 700 if v.row % 499 == 0 else 5)),
    ("lists", "array<array<string>>", lambda v: v.list(lambda: v.list(v.text))),
    ("map", "map<string,double>", lambda v: v.map(lambda: "k" + str(v.random.randint(0, 99)), lambda: v.floating("<d", DOUBLES))),
    ("times", "map<int,timestamp>", lambda v: v.map(lambda: v.integer(32), v.timestamp)),
    (
        "struct",
        "struct<a:tinyint,b:struct<c:decimal(20,4),d:boolean>,e:array<date>>",
        lambda v: {
            "a": v.maybe(lambda: v.integer(8)),
            "b": v.maybe(lambda: {"c": v.maybe(lambda: v.decimal(20, 4)), "d": v.random.random() < 0.5}),
            "e": v.maybe(lambda: v.list(v.date)),
        },
    ),
    (
        "structs",
        "array<struct<x:float,y:map<string,array<bigint>>>>",
        lambda v: v.list(
            lambda: {
                "x": v.floating("<f", FLOATS),
                "y": v.maybe(lambda: v.map(lambda: v.random.choice("abcdé"), lambda: v.list(lambda: v.integer(64)))),
            }
        ),
    ),
]
NEVER_NULL = {"id", "at", "runs", "falls", "few", "yes"}


def generate(rows, prefix):
    values = Values(20260)
    with open(prefix + ".columns", "w") as file:
        file.write(",\n".join(f"`{name}` {kind}" for name, kind, _ in COLUMNS))
    with open(prefix + ".jsonl", "w", encoding="utf-8") as file:
        for values.row in range(rows):
            record = {}
            for name, _, value in COLUMNS:
                if name in NEVER_NULL or values.random.random() < 0.8:
                    record[name] = value(values) if name in NEVER_NULL else values.maybe(lambda: value(values))
            file.write(dump(record) + "\n")


# Readers of lines: from a path to bytes

def program(*command):
    return lambda path: subprocess.run([*command, path], check=True, stdout=subprocess.PIPE).stdout


def tested(*command):
    """A program that only looks whether the file is whole."""
    def read(path):
        subprocess.run([*command, path], check=True, stdout=subprocess.DEVNULL)

    return read


def python_gzip(path):
    with gzip.open(path) as file:
        return file.read()


def python_zip(path):
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if len(names) != 1 or archive.testzip():
            raise ValueError(f"{names}: not one entry, or a bad one")
        return archive.read(names[0])


def python_zstd(path):
    with open(path, "rb") as file:
        return read_back.zstd_stream(file).read()


def python_hadoop(path):
    from snappy.snappy import hadoop_stream_decompress

    out = io.BytesIO()
    with open(path, "rb") as file:
        hadoop_stream_decompress(file, out)
    return out.getvalue()


def line_readers(arguments):
    return {
        "gzip": {"gzip -t": tested("gzip", "-t"), "zcat": program("zcat"), "Python gzip": python_gzip,
                 "Go compress/gzip": program(arguments.go, "gzip")},
        "zip": {"unzip -t": tested("unzip", "-tqq"), "unzip -p": program("unzip", "-p"), "Python zipfile": python_zip,
                "Go archive/zip": program(arguments.go, "zip")},
        "snappy": {"Go go-xerial-snappy": program(arguments.go, "snappy")},
        "hadoopsnappy": {"Python python-snappy": python_hadoop},
        "zstd": {"zstd -t": tested("zstd", "-tq"), "zstd -dc": program("zstd", "-dcq"), "Python zstandard": python_zstd},
        "none": {"cat": program("cat")},
    }


JAVA = {
    "gzip": {"gzip": "Java GZIPInputStream"},
    "zip": {"zip": "Java ZipInputStream", "zipfile": "Java ZipFile"},
    "snappy": {"snappy": "Java snappy-java"},
    "hadoopsnappy": {"hadoop_snappy": "Java Hadoop SnappyCodec"},
}


# Readers of rows: from a path to fields and rows

def pyarrow_orc(path):
    import pyarrow.orc

    file = pyarrow.orc.ORCFile(path)
    fields = [(field.name, read_back.arrow_type(field.type)) for field in file.schema]
    return fields, itertools.chain.from_iterable(file.read_stripe(at).to_pylist() for at in range(file.nstripes))


def pyarrow_parquet(path):
    import pyarrow.parquet

    return read_back.read_pyarrow(pyarrow.parquet, path)


def duckdb_parquet(path):
    import duckdb

    return read_back.read_duckdb(duckdb, path)


# Checks

class Checks:
    def __init__(self):
        self.table, self.failed = {}, 0

    def of(self, kind, reader, path, check, seconds=0.0):
        """Runs one check; what it returns, if anything, is what is wrong. `seconds` were spent before."""
        begin = time.monotonic()
        try:
            wrong = check()
        except Exception as error:  # whatever a reader throws
            wrong = f"{type(error).__name__}: {error}"
        row = self.table.setdefault((kind, reader), [0, 0.0, 0])
        row[0] += 1
        row[1] += time.monotonic() - begin + seconds
        if wrong:
            row[2] += 1
            self.failed += 1
            print(f"WRONG {path} by {reader}: {wrong[:500]}", file=sys.stderr)

    def print(self):
        print(f"{'object':<22} {'read by':<26} {'objects':>7} {'seconds':>8}")
        for (kind, reader), (objects, seconds, failed) in sorted(self.table.items()):
            print(f"{kind:<22} {reader:<26} {objects:>7} {seconds:>8.2f}  {f'{failed} WRONG' if failed else 'same'}")


class Input:
    """What was encoded, and what each object of it must give."""

    def __init__(self, folder, name):
        self.folder, self.name = os.path.join(folder, name), name
        with open(os.path.join(folder, name + ".jsonl"), "rb") as file:
            self.lines = file.read()
        self.digests = {}

    def objects(self):
        for name in sorted(os.listdir(self.folder)):
            kind = name.split(".")[0]
            yield kind, os.path.join(self.folder, name)

    def bytes_of(self, kind):
        return self.lines if kind.startswith("lines-") else b"".join(self.lines.split(b"\n"))

    def same_bytes(self, kind, found):
        if found is not None and found != self.bytes_of(kind):
            return f"{len(found)} bytes, and {len(self.bytes_of(kind))} were to come"
        return None

    def same_rows(self, fields, rows):
        typed = read_back.TypedRows(fields, None, True)
        key = repr(fields)
        if key not in self.digests:
            self.digests[key] = [typed.of_line(line) for line in io.BytesIO(self.lines)]
            if typed.without_column:
                return f"no column {', '.join(typed.without_column)}"
        wanted = self.digests[key]
        count = -1
        for count, row in enumerate(rows):
            if count >= len(wanted) or typed.of_row(row) != wanted[count]:
                return self.difference(fields, count, row)
        return None if count + 1 == len(wanted) else f"{count + 1} rows, and {len(wanted)} were to come"

    def difference(self, fields, count, row):
        lines = self.lines.split(b"\n")
        if count >= len(lines) - 1:
            return f"row {count} is one too many"
        sent = read_back.folded(read_back.parse(lines[count]))
        for name, kind in fields:
            wanted, found = read_back.in_type(sent.get(name), kind), read_back.in_type(row.get(name), kind)
            if repr(wanted) != repr(found):
                return f"row {count}, column {name}: {found!r} in place of {wanted!r}"
        return f"row {count} differs"


def java_tasks(inputs, folder):
    """(input, kind, path, kind of the task, reader, file for the output)"""
    tasks = []
    for one in inputs:
        for kind, path in one.objects():
            family, variant = kind.split("-")
            wanted = {"orc": "Java ORC"} if family == "orc" else JAVA.get(variant, {}) if family in ("raw", "lines") else {}
            for task, reader in wanted.items():
                tasks.append((one, kind, path, task, reader, os.path.join(folder, f"java-{len(tasks)}")))
    return tasks


def check_java(arguments, inputs, checks):
    tasks = java_tasks(inputs, arguments.folder)
    names = os.path.join(arguments.folder, "tasks")
    with open(names, "w") as file:
        file.writelines(f"{task} {path} {out}\n" for _, _, path, task, _, out in tasks)
    command = ["java", "-Xmx3g", "-cp", arguments.java, "Reader", names]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    seconds = {}
    for line in done.stdout.splitlines():
        if line.startswith("searches "):
            print(line)
        else:
            task, path, spent = line.split(" ")
            seconds[task, path] = float(spent)
    for one, kind, path, task, reader, out in tasks:
        def check():
            if (task, path) not in seconds:
                return "not read"
            if task != "orc":
                with open(out, "rb") as file:
                    return one.same_bytes(kind, file.read())
            fields, _ = pyarrow_orc(path)
            with open(out, "rb") as file:
                return one.same_rows(fields, map(java_row, file))

        checks.of(kind, reader, path, check, seconds.get((task, path), 0.0))
        if os.path.exists(out):
            os.remove(out)


def java_row(line):
    return read_back.parse(line)


def check(arguments):
    inputs = [Input(arguments.folder, name) for name in arguments.name]
    checks = Checks()
    by_compression = line_readers(arguments)
    row_readers = {
        "parquet": {"pyarrow.parquet": pyarrow_parquet, "DuckDB": duckdb_parquet},
        "orc": {"pyarrow.orc": pyarrow_orc},
    }
    for one in inputs:
        for kind, path in one.objects():
            family, variant = kind.split("-")
            if family in row_readers:
                for reader, read in row_readers[family].items():
                    checks.of(kind, reader, path, lambda: one.same_rows(*read(path)))
            else:
                for reader, read in by_compression[variant].items():
                    checks.of(kind, reader, path, lambda: one.same_bytes(kind, read(path)))
    check_java(arguments, inputs, checks)
    checks.print()
    return 1 if checks.failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    generating = commands.add_parser("generate")
    generating.add_argument("rows", type=int)
    generating.add_argument("prefix")
    checking = commands.add_parser("check")
    checking.add_argument("folder")
    checking.add_argument("--java", required=True, help="the class path of Reader")
    checking.add_argument("--go", required=True, help="the program made from reader.go")
    checking.add_argument("name", nargs="+")
    arguments = parser.parse_args()
    if arguments.command == "generate":
        return generate(arguments.rows, arguments.prefix)
    return check(arguments)


if __name__ == "__main__":
    sys.exit(main())
