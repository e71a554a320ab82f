"""Runs queries over records with the jq program and with ours, and compares what comes out, byte for byte."""

import argparse
import json
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent.parent / "jq.d"


def lines(name):
    for line in (HERE / name).read_text().splitlines():
        if line and not line.startswith("#"):
            yield line


def theirs(query, text):
    """Outputs and whether the last one was followed by an error."""
    try:
        done = subprocess.run(["jq", "-c", query], input=text.encode(), capture_output=True, timeout=20)
    except subprocess.TimeoutExpired:
        return [], 1
    return done.stdout.decode().splitlines(), done.returncode


def cases_of(query, records):
    """What the jq program gives for each record: a list of outputs, or "error"."""
    # One process for all: a separator that no query sees marks where a record's outputs end.
    program = f"try ([{query}] | {{o: map(tojson)}}) catch {{e: 1}}"
    outputs, code = theirs(program, "\n".join(records))
    if code == 0 and len(outputs) == len(records):
        for output in map(json.loads, outputs):
            yield output["o"] if "o" in output else "error"
        return
    for record in records:
        outputs, code = theirs(query, record)
        yield outputs if code == 0 else "error"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ours", required=True)
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--data", required=True)
    args = parser.parse_args()
    odd = list(lines("records.txt"))
    real = []
    for name in ["github-events", "web-log", "flights"]:
        path = f"{args.data}/{name}.jsonl.zst"
        cat = subprocess.Popen(["zstd", "-dcq", path], stdout=subprocess.PIPE, text=True)
        real += [next(cat.stdout).rstrip("\n") for _ in range(args.records)]
        cat.kill()
    allowed = {}
    for line in lines("differences.txt"):
        query, reason = line.split("\t#")
        allowed[query.strip()] = reason.strip()
    ours = subprocess.Popen([args.ours, "--cases"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def our(query, record):
        ours.stdin.write(json.dumps({"program": query, "input": record}) + "\n")
        ours.stdin.flush()
        result = json.loads(ours.stdout.readline())
        # What does not compile gives an error there, too.
        return result.get("outputs", "error")

    compared = differ = 0
    seen = set()
    kinds = [("queries.txt", real + odd), ("language.txt", ["null"])]
    for name, records in kinds:
        for query in lines(name):
            for record, expected in zip(records, cases_of(query, records), strict=True):
                got = our(query, record)
                compared += 1
                if got == expected:
                    continue
                seen.add(query)
                if query not in allowed:
                    differ += 1
                    print(f"{query}\n  record {record[:200]}\n  jq     {str(expected)[:300]}\n  ours   {str(got)[:300]}")
                break
    gone = [query for query in allowed if query not in seen]
    for query in gone:
        print(f"no longer different: {query}")
    queries = sum(1 for name, _ in kinds for _ in lines(name))
    print(f"{queries} queries, {compared} results compared, {len(allowed)} known differences, {differ} unknown")
    sys.exit(1 if differ or gone else 0)


main()
