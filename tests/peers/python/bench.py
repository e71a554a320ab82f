#!/usr/bin/env python3
"""CPU seconds a GB of ours beside programs that others wrote.

    bench.py --folder FOLDER --runs RUNS [--output human|json]

FOLDER has our programs `rows` and `jq` (examples of crates/convert and crates/transform), NAME.jsonl and NAME.columns.
Everyone uses one thread. Of the libraries' CPU time what they need to start and to import is not counted; of programs,
ours among them, everything is.
"""

import argparse
import hashlib
import json
import os
import pathlib
import resource
import subprocess
import sys
import time

# Read back by one who wrote none of them but its own.
TABLES = ["flights", "web-log", "github-events"]
QUERIES = [
    ".",
    "{type: .type, actor: .actor.login, repo: .repo.name, at: .created_at}",
    'select(.type == "PushEvent") | .payload.commits |= length',
]


def of_duckdb(lines, like, out):
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    columns = connection.execute(f"DESCRIBE SELECT * FROM '{like}'").fetchall()
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind, *_ in columns)

    def run():
        source = f"read_json('{lines}', format='newline_delimited', columns={{{columns}}})"
        connection.execute(f"COPY (SELECT * FROM {source}) TO '{out}' (FORMAT PARQUET, COMPRESSION SNAPPY)")

    return run


def of_pyarrow(lines, like, out):
    import pyarrow
    import pyarrow.json
    import pyarrow.parquet

    pyarrow.set_cpu_count(1)
    schema = pyarrow.parquet.read_schema(like)

    def run():
        parse = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
        read = pyarrow.json.ReadOptions(use_threads=False, block_size=8 << 20)
        table = pyarrow.json.read_json(lines, read_options=read, parse_options=parse)
        pyarrow.parquet.write_table(table, out, compression="snappy")

    return run


def of_polars(lines, like, out):
    os.environ["POLARS_MAX_THREADS"] = "1"
    import polars

    schema = polars.read_parquet_schema(like)

    def run():
        polars.read_ndjson(lines, schema=schema).write_parquet(out, compression="snappy")

    return run


LIBRARIES = {"DuckDB": of_duckdb, "pyarrow": of_pyarrow, "polars": of_polars}


def library(name, lines, like, out):
    """In a process of its own."""
    run = LIBRARIES[name](lines, like, out)
    begin = time.process_time()
    run()
    print(time.process_time() - begin)


def program(command, out, stdin=None):
    """CPU seconds of a whole process whose output goes into a file."""
    begin = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(out, "wb") as written, open(stdin or os.devnull, "rb") as read:
        subprocess.run([str(part) for part in command], check=True, stdout=written, stdin=read)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    return end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime


def rows(file):
    """How many rows a Parquet file has, and the sum of their hashes, whatever their order."""
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET threads = 1; SET TimeZone = 'UTC'")
    query = f"SELECT count(*), sum(hash(to_json(t)::VARCHAR)::HUGEINT) FROM '{file}' t"
    return connection.execute(query).fetchone()


class Bench:
    def __init__(self, folder, runs):
        self.folder, self.runs, self.found = pathlib.Path(folder), runs, []

    def turns(self, contestants):
        """The least seconds of each; `None` of one that cannot."""
        least = {}
        for _ in range(self.runs):
            for name, run in contestants.items():
                if name in least and least[name] is None:
                    continue
                try:
                    seconds = run()
                except subprocess.CalledProcessError as error:
                    said = (error.stderr or "").strip().splitlines()
                    least[name] = None
                    print(f"{name} cannot: {said[-1][:150] if said else error}", file=sys.stderr)
                    continue
                least[name] = min(seconds, least.get(name, seconds))
        return least

    def tell(self, what, size, least, same, bytes_of):
        for name, seconds in least.items():
            if name == "ours":
                continue
            self.found.append(
                {
                    "what": what,
                    "peer": name,
                    "ours_cpu_seconds_per_gigabyte": round(least["ours"] / size * 1e9, 2),
                    "theirs_cpu_seconds_per_gigabyte": seconds and round(seconds / size * 1e9, 2),
                    "ratio": seconds and round(least["ours"] / seconds, 3),
                    "ours_bytes": bytes_of["ours"],
                    "theirs_bytes": bytes_of.get(name),
                    "same": same.get(name),
                }
            )

    def parquet(self, table):
        lines, columns = self.folder / f"{table}.jsonl", self.folder / f"{table}.columns"
        out = {name: self.folder / f"{table}.{name}.parquet" for name in ["ours", *LIBRARIES]}

        def ours():
            seconds = program([self.folder / "rows", columns, lines, out["ours"]], self.folder / "said")
            said = (self.folder / "said").read_text()
            if " 0 rejected" not in said:
                sys.exit(f"rejected: {said[:500]}")
            return seconds

        def theirs(name):
            command = [sys.executable, __file__, "--library", name, lines, out["ours"], out[name]]
            done = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
            return float(done.stdout)

        contestants = {"ours": ours, **{name: lambda name=name: theirs(name) for name in LIBRARIES}}
        least = self.turns(contestants)
        expected = rows(out["ours"])
        with open(lines, "rb") as text:
            if expected[0] != sum(1 for _ in text):
                sys.exit(f"{table}: {expected[0]} rows are not one a line")
        able = [name for name in LIBRARIES if least.get(name) is not None]
        same = {name: rows(out[name]) == expected for name in able}
        sizes = {name: out[name].stat().st_size for name in ["ours", *able]}
        self.tell(f"parquet {table}", lines.stat().st_size, least, same, sizes)

    def gzip(self, table):
        lines = self.folder / f"{table}.jsonl"
        out = {name: self.folder / f"{table}.{name}.gz" for name in ["ours", "gzip -6"]}
        least = self.turns(
            {
                "ours": lambda: program([self.folder / "rows", "--gzip", lines, out["ours"]], self.folder / "said"),
                "gzip -6": lambda: program(["gzip", "-6", "-c", lines], out["gzip -6"]),
            }
        )
        unpacked = subprocess.run(["gzip", "-dc", str(out["ours"])], check=True, stdout=subprocess.PIPE).stdout
        same = {"gzip -6": unpacked == lines.read_bytes()}
        self.tell(f"gzip {table}", lines.stat().st_size, least, same, {name: file.stat().st_size for name, file in out.items()})

    def jq(self, query):
        lines = self.folder / "once"
        out = {name: self.folder / f"jq.{name}" for name in ["ours", "jq 1.6"]}
        least = self.turns(
            {
                "ours": lambda: program([self.folder / "jq", query], out["ours"], lines),
                "jq 1.6": lambda: program(["jq", "-c", query], out["jq 1.6"], lines),
            }
        )

        def values(file):
            # Numbers have several spellings.
            parsed = (json.dumps(json.loads(line), sort_keys=True) for line in file.open("rb"))
            return hashlib.sha256("\n".join(parsed).encode()).hexdigest()

        same = {"jq 1.6": values(out["ours"]) == values(out["jq 1.6"])}
        name = query if len(query) < 24 else query[:20] + "..."
        self.tell(f"jq {name}", lines.stat().st_size, least, same, {name: file.stat().st_size for name, file in out.items()})


def table(found):
    print(f"{'what':<28} {'peer':<8} {'ours':>7} {'theirs':>7} {'ratio':>6} {'bytes':>6}  values")
    for row in found:
        same = {True: "the same", False: "OTHERS", None: "-"}[row["same"]]
        theirs, ratio, size = "cannot", "-", "-"
        if row["ratio"] is not None:
            theirs, ratio = f"{row['theirs_cpu_seconds_per_gigabyte']:.2f}", f"{row['ratio']:.2f}"
            size = f"{row['ours_bytes'] / row['theirs_bytes']:.2f}"
        ours = f"{row['ours_cpu_seconds_per_gigabyte']:.2f}"
        print(f"{row['what']:<28} {row['peer']:<8} {ours:>7} {theirs:>7} {ratio:>6} {size:>6}  {same}")
    print("CPU seconds for a GB of lines, one thread each; ratio: ours to theirs; bytes: ours to theirs")


def main():
    if sys.argv[1:2] == ["--library"]:
        return library(*sys.argv[2:])
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True)
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--output", choices=["human", "json"], default="human")
    arguments = parser.parse_args()
    bench = Bench(arguments.folder, arguments.runs)
    for name in TABLES:
        bench.parquet(name)
    for name in ["flights", "github-events"]:
        bench.gzip(name)
    for query in QUERIES:
        bench.jq(query)
    if arguments.output == "json":
        print(json.dumps(bench.found))
    else:
        table(bench.found)
    # gzip and jq must agree. What another library makes of odd values in a table is its own; ours has a row a line.
    others = [row for row in bench.found if row["same"] is False and not row["what"].startswith("parquet")]
    sys.exit(1 if others else 0)


main()
