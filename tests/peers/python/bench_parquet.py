#!/usr/bin/env python3
"""CPU seconds a GB of records to Parquet, beside pyarrow, DuckDB and polars.

    bench_parquet.py ROWS SCHEMA LINES RUNS

ROWS is the program of crates/convert/examples/rows.rs. Everyone has the columns given, reads LINES from a file, uses one
thread, and writes snappy; what others need to start and to import is not counted. The least of RUNS counts.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time


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
        return table.num_rows

    return run


def of_duckdb(lines, like, out):
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    columns = connection.execute(f"DESCRIBE SELECT * FROM '{like}'").fetchall()
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind, *_ in columns)

    def run():
        source = f"read_json('{lines}', format='newline_delimited', columns={{{columns}}})"
        connection.execute(f"COPY (SELECT * FROM {source}) TO '{out}' (FORMAT PARQUET, COMPRESSION SNAPPY)")
        return connection.execute(f"SELECT count(*) FROM '{out}'").fetchone()[0]

    return run


def of_polars(lines, like, out):
    os.environ["POLARS_MAX_THREADS"] = "1"
    import polars

    schema = polars.read_parquet_schema(like)

    def run():
        table = polars.read_ndjson(lines, schema=schema)
        table.write_parquet(out, compression="snappy")
        return table.height

    return run


OTHERS = {"pyarrow": of_pyarrow, "DuckDB": of_duckdb, "polars": of_polars}


def other(name, lines, like, out):
    """In a process of its own."""
    run = OTHERS[name](lines, like, out)
    begin = time.process_time()
    rows = run()
    print(time.process_time() - begin, rows)


def ours(rows, schema, lines, out):
    begin = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([rows, schema, lines, out], check=True, stdout=subprocess.PIPE, text=True)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    if " 0 rejected" not in done.stdout:
        sys.exit(f"rejected: {done.stdout[:500]}")
    return end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime, int(done.stdout.split()[0])


def bench(rows, schema, lines, runs):
    size = os.path.getsize(lines)
    with tempfile.TemporaryDirectory() as folder:
        like, out = os.path.join(folder, "ours.parquet"), os.path.join(folder, "out.parquet")
        seconds, count = min(ours(rows, schema, lines, like) for _ in range(runs))
        print(f"{os.path.basename(lines)}: {size} bytes, {count} records")
        print(f"  {'standpipe':<10} {seconds / size * 1e9:>7.2f} CPU s/GB  {os.path.getsize(like):>10} bytes")
        for name in OTHERS:
            found = []
            for _ in range(runs):
                command = [sys.executable, __file__, "--other", name, lines, like, out]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    break
                spent, number = done.stdout.split()
                found.append((float(spent), int(number)))
            if len(found) < runs:
                print(f"  {name:<10} cannot: {done.stderr.strip().splitlines()[-1][:150]}")
                continue
            spent, number = min(found)
            wrong = "" if number == count else f"  {number} ROWS"
            print(f"  {name:<10} {spent / size * 1e9:>7.2f} CPU s/GB  {os.path.getsize(out):>10} bytes"
                  f"  {spent / seconds:>5.2f} times ours{wrong}")


if __name__ == "__main__":
    if sys.argv[1] == "--other":
        other(*sys.argv[2:])
    else:
        bench(*sys.argv[1:4], int(sys.argv[4]))
