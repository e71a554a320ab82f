#!/usr/bin/env python3
"""What read_back.py finds and what it does not. Python alone: `python3 tests/readers/test_read_back.py`."""

import base64
import contextlib
import datetime
import decimal
import gzip
import io
import json
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import read_back  # noqa: E402

SENT = [json.dumps({"id": i, "text": f"x{i}", "half": i / 2, "nested": {"list": [1, 2.0, None]}}) for i in range(20)]


class JsonLines(unittest.TestCase):
    def setUp(self):
        held = tempfile.TemporaryDirectory()
        self.addCleanup(held.cleanup)
        self.root = pathlib.Path(held.name)
        self.sent = self.put("sent.jsonl", SENT)

    def put(self, name, lines, pack=bytes):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pack("".join(line + "\n" for line in lines).encode()))
        return str(path)

    def run_it(self, *options, sent=None):
        out, before = io.StringIO(), sys.argv
        sys.argv = ["read_back.py", str(self.root / "out"), sent or self.sent, *options]
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
                code = read_back.main()
        finally:
            sys.argv = before
        words = [line.split(maxsplit=1) for line in out.getvalue().splitlines() if line[:1].isalpha()]
        return code, {word[0]: word[1] for word in words if len(word) == 2}

    def test_the_same_values_in_another_order_and_form_are_equal(self):
        self.put("out/2024/a.gz", SENT[:9], lambda lines: gzip.compress(lines[:100]) + gzip.compress(lines[100:]))
        turned = [json.dumps(dict(reversed(json.loads(line).items())), separators=(",", ":")) for line in SENT[9:]]
        self.put("out/2024/b", [line.replace("2.0", "2") for line in reversed(turned)])
        code, counts = self.run_it()
        self.assertEqual((code, counts["rows"], counts["missing"]), (0, "20", "0"))

    def test_missing_extra_and_duplicates_are_told_apart(self):
        self.put("out/a", SENT[1:] + SENT[5:7] + ['{"id": 1000}'])
        code, counts = self.run_it()
        self.assertEqual((code, counts["missing"], counts["extra"], counts["duplicates"]), (1, "1", "1", "2"))

    def test_what_is_sent_twice_is_found_twice(self):
        twice = self.put("twice.jsonl", SENT + SENT[:1])
        self.put("out/a", SENT)
        self.assertEqual(self.run_it(sent=twice)[0], 1)
        self.put("out/b", SENT[:1])
        self.assertEqual(self.run_it(sent=twice)[0], 0)
        self.put("out/b", SENT)
        self.assertEqual(self.run_it("--times", "2")[0], 0)

    def test_one_value_is_a_difference_unless_left_out(self):
        self.put("out/a", [line.replace('"half": 2.5', '"half": 2.6') for line in SENT])
        code, counts = self.run_it()
        self.assertEqual((code, counts["missing"], counts["extra"]), (1, "1", "1"))
        self.assertEqual(self.run_it("--columns", "id,text,nested")[0], 0)

    def test_records_in_error_objects_count_only_when_asked_for(self):
        bad = ["not json", '{"a":', '{"id":NaN}']
        sent = self.put("bad.jsonl", SENT + bad)
        self.put("out/a", SENT)
        error = [json.dumps({"rawData": base64.b64encode(line.encode()).decode()}) for line in bad]
        self.put("out/errors/format-conversion-failed/2024/e", error)
        self.assertEqual(self.run_it(sent=sent)[0], 1)
        self.assertEqual(self.run_it("--with-errors", sent=sent)[0], 0)

    def test_what_cannot_be_read_is_no_verdict(self):
        self.assertEqual(self.run_it()[0], 2)
        self.put("out/a", SENT, lambda lines: gzip.compress(lines)[:-9])
        self.assertEqual(self.run_it()[0], 2)


class Columns(unittest.TestCase):
    """Pairs of what was sent and what a Parquet reader gives, and values that must not pass for them."""

    def check(self, kind, sent, found, *others):
        rows = read_back.TypedRows([("c", kind)], None, False)
        line = rows.of_line(('{"c": %s}' % sent).encode())
        self.assertEqual(line, rows.of_row({"c": found}), f"{sent} as {kind}")
        for other in others:
            self.assertNotEqual(line, rows.of_row({"c": other}), f"{sent} is not {other!r}")

    def test_scalars(self):
        self.check("int", "5", 5, 6, None)
        self.check("int", '"5"', 5, 6)
        self.check("int", "9007199254740993", 9007199254740993, 9007199254740992)
        self.check("float64", "0.1", 0.1, 0.1 + 2e-17 + 1e-16)
        self.check("float32", "0.1", 0.10000000149011612, 0.2)
        self.check("decimal", "1.50", decimal.Decimal("1.5000"), decimal.Decimal("1.5001"))
        self.check("bool", '"TRUE"', True, False, None)
        self.check("date", '"2024-02-29"', datetime.date(2024, 2, 29), datetime.date(2024, 3, 1))
        self.check("int", "null", None, 0)

    def test_strings(self):
        self.check("string", '"a"', "a", "a ", "A")
        self.check("string", '"1.0"', "1.0", "1", "1.00")
        self.check("string", "1.50", "1.50", "1.5")
        self.check("string", "true", "true", "True")
        self.check("string", '{"b": [1, 2.0]}', '{"b":[1,2.0]}', '{"b":[1,3]}')

    def test_timestamps(self):
        utc = datetime.timezone.utc
        at = datetime.datetime(2013, 1, 1, 10, 0, 0, 123456, utc)
        off = at + datetime.timedelta(microseconds=1)
        self.check("timestamp", '"2013-01-01 12:00:00.123456+02"', at, off)
        self.check("timestamp", '"2013-01-01T10:00:00.123456Z"', at.replace(tzinfo=None), off)
        whole = at.replace(microsecond=0)
        for text in ["1357034400", "1357034400000", '"2013-01-01 10:00:00"', "1357034400.0"]:
            self.check("timestamp", text, whole, at)

    def test_nested(self):
        struct = ("struct", [("x", "int"), ("y", ("list", "string"))])
        self.check(struct, '{"x": 1}', {"x": 1, "y": None}, {"x": 1, "y": []}, {"x": None, "y": None})
        self.check(struct, '{"y": ["a", null], "x": 1}', {"x": 1, "y": ["a", None]}, {"x": 1, "y": [None, "a"]})
        pairs = ("map", "string", "int")
        self.check(pairs, '{"b": 1, "a": 2}', [("a", 2), ("b", 1)], [("a", 1), ("b", 2)], [("a", 2)])

    def test_a_member_without_a_column_is_noticed(self):
        rows = read_back.TypedRows([("c", "int")], None, False)
        rows.of_line(b'{"c": 1, "lost": 2, "empty": null}')
        self.assertEqual(dict(rows.without_column), {"lost": 1})


if __name__ == "__main__":
    unittest.main()
