#!/usr/bin/env python3
"""Reads back what was delivered and compares it, as a multiset and value by value, with what was sent.

    read_back.py FOLDER INPUT [INPUT ...] [--columns id,total] [--with-errors] [--times N]

FOLDER  every object below it: JSON lines (plain, .gz, .zst) or Parquet, told apart by their first bytes.
INPUT   what was sent: JSON lines, plain or compressed.

Shares no code with Standpipe. JSON lines and gzip need Python alone (3.9 or later); zstd needs the package `zstandard`
or the program `zstd`; Parquet needs the package `pyarrow` or `duckdb`.

What counts as equal: the order of members does not, and a number is its value (1, 1.0 and 1e0 are one). In Parquet a
value is compared in the type of its column, an absent member is a null, and a member without a column is a difference
unless --columns says what to compare. A line that is no JSON is its bytes. Lines without content are no rows.

Prints rows, missing (sent, not found), extra (found, never sent) and duplicates (found more often than sent).
Exit code: 0 all equal, 1 a difference, 2 cannot be told.
"""

import argparse
import base64
import collections
import datetime
import decimal
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import traceback

FAILED_FOLDER = re.compile(r"(^|/)[A-Za-z0-9_-]+[-_]failed/")
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
EXACT = decimal.Context(prec=1000, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN)

if hasattr(sys, "set_int_max_str_digits"):
    sys.set_int_max_str_digits(0)


class CannotTell(Exception):
    """Neither equal nor different: something is missing here, or the folder is not what was expected."""


# Bytes

def zstd_stream(file):
    try:
        import zstandard
    except ImportError:
        if not shutil.which("zstd"):
            raise CannotTell(f"{file.name}: zstd needs the package `zstandard` or the program `zstd`") from None
        done = subprocess.run(["zstd", "-dcq", file.name], capture_output=True)
        if done.returncode != 0:
            raise CannotTell(f"{file.name}: {done.stderr.decode(errors='replace').strip()}") from None
        return io.BytesIO(done.stdout)
    # One object may hold several frames.
    return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True))


def kind_of(path):
    with open(path, "rb") as file:
        head = file.read(4)
    if head[:2] == b"\x1f\x8b":
        return "gzip"
    return {b"\x28\xb5\x2f\xfd": "zstd", b"PAR1": "parquet"}.get(head, "plain")


def lines_of(path):
    """The lines of a file that have content, without their line ends."""
    kind = kind_of(path)
    with open(path, "rb") as file:
        stream = {"gzip": lambda: gzip.GzipFile(fileobj=file), "zstd": lambda: zstd_stream(file)}.get(kind, lambda: file)()
        try:
            for line in stream:
                line = line.rstrip(b"\r\n")
                if line.strip():
                    yield line
        except (EOFError, OSError) as error:
            raise CannotTell(f"{path}: {error}") from error


# JSON values

class Whole(int):
    """An integral number that was written with a point or an exponent; `text` is how."""


class Fraction(dict):
    """A number that is no integer, by its value; `text` is how it was written."""


def number(text):
    """A number with a point or an exponent, by its value."""
    value = decimal.Decimal(text)
    if value == value.to_integral_value(context=EXACT) and value.adjusted() < 400:
        parsed = Whole(value)
    else:
        parsed = Fraction({"\0number": str(value.normalize(EXACT))})
    parsed.text = text
    return parsed


def no_constant(text):
    raise ValueError(f"{text} is not JSON")


def parse(line):
    return json.loads(line.decode("utf-8"), parse_float=number, parse_constant=no_constant)


def digest(text):
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def raw_digest(line):
    return hashlib.blake2b(b"\0raw" + line, digest_size=16).digest()


class JsonRows:
    """Rows as JSON values, or only some members of them."""

    def __init__(self, columns, fold):
        self.columns, self.fold = columns, fold

    def of_line(self, line):
        try:
            value = parse(line)
        except (ValueError, RecursionError):
            return raw_digest(line)
        if self.fold:
            value = folded(value)
        if self.columns and isinstance(value, dict):
            value = {name: value.get(name) for name in self.columns}
        return digest(json.dumps(value, sort_keys=True, ensure_ascii=False))


def folded(value):
    """Member names in lower case, as a Hive table has them."""
    if isinstance(value, dict) and not isinstance(value, Fraction):
        return {name.lower(): folded(inner) for name, inner in value.items()}
    return [folded(inner) for inner in value] if isinstance(value, list) else value


# Values in the type of a column. A type is a name, or a tuple: ("list", type), ("map", key, value), ("struct", fields)

def arrow_type(kind):
    import pyarrow.types as t

    if t.is_struct(kind):
        return ("struct", [(field.name, arrow_type(field.type)) for field in kind])
    if t.is_list(kind) or t.is_large_list(kind):
        return ("list", arrow_type(kind.value_type))
    if t.is_map(kind):
        return ("map", arrow_type(kind.key_type), arrow_type(kind.item_type))
    tests = [("bool", t.is_boolean), ("int", t.is_integer), ("float32", t.is_float32), ("float64", t.is_float64)]
    tests += [("decimal", t.is_decimal), ("date", t.is_date), ("timestamp", t.is_timestamp), ("null", t.is_null)]
    tests += [("string", lambda k: t.is_string(k) or t.is_large_string(k))]
    tests += [("binary", lambda k: t.is_binary(k) or t.is_large_binary(k))]
    for name, test in tests:
        if test(kind):
            return name
    raise CannotTell(f"a column of type {kind} cannot be compared")


def duckdb_type(kind):
    names = {"boolean": "bool", "float": "float32", "double": "float64", "varchar": "string", "blob": "binary"}
    names.update({"date": "date", "decimal": "decimal"})
    if kind.id == "struct":
        return ("struct", [(name, duckdb_type(inner)) for name, inner in kind.children])
    if kind.id == "list":
        return ("list", duckdb_type(kind.children[0][1]))
    if kind.id == "map":
        return ("map", duckdb_type(kind.children[0][1]), duckdb_type(kind.children[1][1]))
    if kind.id.startswith("timestamp"):
        return "timestamp"
    if kind.id.endswith(("int", "integer")):
        return "int"
    if kind.id in names:
        return names[kind.id]
    raise CannotTell(f"a column of type {kind} cannot be compared")


def in_type(value, kind):
    """The value as a column of this type has it, in a form whose `repr` is one per value."""
    if value is None:
        return None
    if isinstance(kind, tuple):
        return nested_in_type(value, kind)
    try:
        return SCALARS[kind](value)
    except (ValueError, TypeError, ArithmeticError):
        return ("no " + kind, repr(value))


def nested_in_type(value, kind):
    if kind[0] == "list":
        # A value stands for the list of it.
        items = value if isinstance(value, (list, tuple)) else [value]
        return ("list", [in_type(item, kind[1]) for item in items])
    if kind[0] == "map":
        pairs = value.items() if isinstance(value, dict) else value
        return ("map", sorted(((in_type(k, kind[1]), in_type(v, kind[2])) for k, v in pairs), key=repr))
    if isinstance(value, (list, tuple)):
        # A list fills a struct by position.
        value = {name: item for (name, _), item in zip(kind[1], value)}
    if not isinstance(value, dict) or isinstance(value, Fraction):
        return ("no struct", repr(value))
    return ("struct", [(name, in_type(value.get(name), inner)) for name, inner in kind[1]])


def plain(value):
    """A number as it was written, which every numeric type reads; other values as they are."""
    return getattr(value, "text", value)


def as_bool(value):
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}[value.strip().lower()]


def as_int(value):
    whole = decimal.Decimal(plain(value) if not isinstance(value, bool) else int(value))
    if whole != whole.to_integral_value(context=EXACT):
        raise ValueError("not whole")
    return int(whole)


def as_float(value):
    value = float(plain(value))
    return ("float", repr(value + 0.0 if value else 0.0))


def as_float32(value):
    return as_float(struct.unpack("f", struct.pack("f", float(plain(value))))[0])


def as_decimal(value):
    return ("decimal", str(decimal.Decimal(str(plain(value))).normalize(EXACT) + 0))


def as_string(value):
    """Text; of a JSON value that is none, its JSON text. Objects and arrays within text are compared as JSON."""
    value = plain(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if text[:1] in ("{", "["):
        try:
            return "json:" + json.dumps(parse(text.encode("utf-8", "surrogatepass")), sort_keys=True, ensure_ascii=False)
        except (ValueError, RecursionError):
            pass
    return "text:" + text


def as_binary(value):
    return bytes(value) if isinstance(value, (bytes, bytearray, memoryview)) else value.encode("utf-8", "surrogatepass")


def as_date(value):
    if isinstance(value, datetime.date):
        return ("date", value.isoformat()[:10])
    return ("date", datetime.date.fromisoformat(value.strip()[:10]).isoformat())


def as_timestamp(value):
    """Microseconds since 1970; text without a zone is UTC; a bare number is seconds, or from 100,000,000,000 on milliseconds."""
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{4}-.*", value):
        value = instant(value.strip())
    if isinstance(value, datetime.datetime):
        value = value.replace(tzinfo=datetime.timezone.utc) if value.tzinfo is None else value
        return ("timestamp", (value - EPOCH) // datetime.timedelta(microseconds=1))
    seconds = decimal.Decimal(str(plain(value)).strip())
    return ("timestamp", int(seconds * (1_000 if abs(seconds) >= 100_000_000_000 else 1_000_000)))


def instant(text):
    parts = re.fullmatch(
        r"(\d{4})-(\d\d?)-(\d\d?)(?:[T ](\d\d?):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?\s*(Z|UTC|[+-]\d\d(?::?\d\d)?)?", text)
    if not parts:
        raise ValueError("no timestamp")
    year, month, day, hour, minute, second, fraction, zone = parts.groups()
    micros = int((fraction or "0").ljust(6, "0")[:6])
    at = datetime.datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), micros)
    offset = datetime.timedelta()
    if zone and zone not in ("Z", "UTC"):
        digits = zone[1:].replace(":", "").ljust(4, "0")
        offset = datetime.timedelta(hours=int(digits[:2]), minutes=int(digits[2:])) * (-1 if zone[0] == "-" else 1)
    return at.replace(tzinfo=datetime.timezone.utc) - offset


SCALARS = {
    "bool": as_bool, "int": as_int, "float64": as_float, "float32": as_float32, "decimal": as_decimal,
    "string": as_string, "binary": as_binary, "date": as_date, "timestamp": as_timestamp, "null": lambda value: repr(value),
}


class TypedRows:
    """Rows as a table with these columns has them."""

    def __init__(self, fields, columns, fold):
        wanted = set(columns or [name for name, _ in fields])
        if not wanted <= {name for name, _ in fields}:
            raise CannotTell(f"the files have no column {', '.join(sorted(wanted - {name for name, _ in fields}))}")
        self.fields = [(name, kind) for name, kind in fields if name in wanted]
        self.strict, self.fold = not columns, fold
        self.without_column = collections.Counter()

    def of_row(self, row):
        return digest(repr([in_type(row.get(name), kind) for name, kind in self.fields]))

    def of_line(self, line):
        try:
            value = parse(line)
        except (ValueError, RecursionError):
            return raw_digest(line)
        if not isinstance(value, dict) or isinstance(value, Fraction):
            return raw_digest(line)
        value = folded(value) if self.fold else value
        if self.strict:
            known = {name for name, _ in self.fields}
            self.without_column.update(name for name, inner in value.items() if name not in known and inner is not None)
        return self.of_row(value)


# Parquet files

def parquet_reader():
    """How to read a file: a function from a path to its fields and its rows."""
    try:
        import pyarrow.parquet
    except ImportError:
        try:
            import duckdb
        except ImportError:
            raise CannotTell("Parquet needs the package `pyarrow` or `duckdb`") from None
        return "duckdb", lambda path: read_duckdb(duckdb, path)
    return "pyarrow", lambda path: read_pyarrow(pyarrow.parquet, path)


def read_pyarrow(parquet, path):
    file = parquet.ParquetFile(path)
    fields = [(field.name, arrow_type(field.type)) for field in file.schema_arrow]
    return fields, (row for batch in file.iter_batches() for row in batch.to_pylist())


def read_duckdb(duckdb, path):
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    relation = connection.from_parquet(path, hive_partitioning=False)
    names = relation.columns
    fields = [(name, duckdb_type(kind)) for name, kind in zip(names, relation.types)]

    def rows():
        result = connection.execute("SELECT * FROM read_parquet(?, hive_partitioning = false)", [path])
        while batch := result.fetchmany(10_000):
            yield from (dict(zip(names, row)) for row in batch)

    return fields, rows()


# Comparing

class Folder:
    """The objects below a folder, without hidden ones."""

    def __init__(self, root, skip):
        if not os.path.isdir(root):
            raise CannotTell(f"{root} is no folder")
        self.data, self.errors = [], []
        for base, folders, names in os.walk(root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                path = os.path.join(base, name)
                inner = os.path.relpath(path, root).replace(os.sep, "/")
                if name.startswith(".") or any(inner.startswith(prefix) for prefix in skip) or not os.path.getsize(path):
                    continue
                (self.errors if FAILED_FOLDER.search(inner) else self.data).append(path)
        kinds = {kind_of(path) == "parquet" for path in self.data}
        if len(kinds) > 1:
            raise CannotTell(f"{root} holds Parquet files and others")
        self.is_parquet = kinds == {True}


def failed_lines(path):
    """The records of an error object, as they were sent."""
    for line in lines_of(path):
        record = base64.b64decode(json.loads(line)["rawData"], validate=True)
        yield from (part.rstrip(b"\r") for part in record.split(b"\n") if part.strip())


def found_rows(folder, rows, read):
    """The digest of every row of the data objects, with where it stands."""
    for path in folder.data:
        if not folder.is_parquet:
            for line in lines_of(path):
                yield rows.of_line(line), path, line
            continue
        fields, found = read(path)
        if {name: kind for name, kind in fields if name in dict(rows.fields)} != dict(rows.fields):
            raise CannotTell(f"{path} has other columns than the files before")
        for row in found:
            yield rows.of_row(row), path, row


def rows_of(folder, arguments):
    columns = arguments.columns.split(",") if arguments.columns else None
    if not folder.is_parquet:
        return JsonRows(columns, arguments.ignore_case), None
    name, read = parquet_reader()
    fields, _ = read(folder.data[0])
    print(f"columns     {', '.join(name for name, _ in fields)} (read with {name})")
    return TypedRows(fields, columns, arguments.ignore_case), read


def show(label, some):
    for text in some:
        print(f"  {label}: {text[:300]}")


def compare(arguments):
    folder = Folder(arguments.folder, arguments.skip)
    rows, read = rows_of(folder, arguments)
    sent = collections.Counter(rows.of_line(line) for path in arguments.input for line in lines_of(path))
    if arguments.times > 1:
        sent = collections.Counter({key: count * arguments.times for key, count in sent.items()})
    found, samples = collections.Counter(), []
    for key, path, row in found_rows(folder, rows, read):
        found[key] += 1
        if key not in sent and len(samples) < arguments.show:
            samples.append(f"{os.path.basename(path)}: {row}")
    failed = [line for path in folder.errors for line in failed_lines(path)]
    if arguments.with_errors:
        found.update(rows.of_line(line) for line in failed)
    missing = sent - found
    extra = sum(count for key, count in found.items() if key not in sent)
    duplicates = sum(count - sent[key] for key, count in found.items() if key in sent and count > sent[key])
    unmatched = getattr(rows, "without_column", {})
    print(f"objects     {len(folder.data)}, and {len(folder.errors)} error objects with {len(failed)} records")
    print(f"sent        {sum(sent.values())}")
    print(f"rows        {sum(found.values())}{', error records among them' if arguments.with_errors else ''}")
    print(f"missing     {sum(missing.values())}")
    print(f"extra       {extra}")
    print(f"duplicates  {duplicates}")
    if unmatched:
        print("no column   " + ", ".join(f"{name} ({count} values)" for name, count in sorted(unmatched.items())))
    if missing and arguments.show:
        lines = (line for path in arguments.input for line in lines_of(path) if rows.of_line(line) in missing)
        show("missing", (line.decode(errors="replace") for line, _ in zip(lines, range(arguments.show))))
    show("extra", samples)
    return 1 if missing or extra or duplicates or unmatched else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="where the objects lie")
    parser.add_argument("input", nargs="+", help="what was sent: JSON lines, plain, gzip or zstd")
    parser.add_argument("--columns", help="compare these members alone, separated by commas")
    parser.add_argument("--ignore-case", action="store_true", help="take member names in lower case")
    parser.add_argument("--with-errors", action="store_true", help="records in error objects count as found")
    parser.add_argument("--skip", action="append", default=[], metavar="PREFIX", help="leave out objects below; repeatable")
    parser.add_argument("--times", type=int, default=1, metavar="N", help="the input was sent N times")
    parser.add_argument("--show", type=int, default=3, metavar="N", help="print so many missing and extra rows (3)")
    try:
        return compare(parser.parse_args())
    except (CannotTell, OSError) as error:
        print(f"read_back: {error}", file=sys.stderr)
    except Exception:
        # Not 1: a fault of this program is no difference.
        traceback.print_exc()
    return 2


if __name__ == "__main__":
    sys.exit(main())
