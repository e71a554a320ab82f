"""Checks what `tests/ci/transforms` delivered against its input, by readers that share no code with us.

make DIR       writes web.log (Apache's combined lines of web-log.jsonl) and envelopes/ (CloudWatch Logs, gzip)
check DIR      the objects under DIR/data/s3
envelopes DIR  the objects under DIR/envelopes-out
"""

import collections
import datetime
import glob
import gzip
import json
import subprocess
import sys

import pyarrow.orc
import pyarrow.parquet


def lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def apache(r):
    text = lambda name: "-" if r.get(name) in (None, "") else r[name]
    return '%s - %s [%s] "%s" %s %s "%s" "%s"' % (
        r["remote_ip"], text("remote_user"), r["time"], r["request"], r["response"], text("bytes"), text("referrer"), text("agent"))


def make(work):
    with open(f"{work}/web.log", "w", encoding="utf-8") as file:
        for record in lines(f"{work}/web-log.jsonl"):
            file.write(apache(record) + "\n")
        file.write("this is no line of a log\n")
    subprocess.run(["mkdir", f"{work}/envelopes"], check=True)
    for number in range(20):
        kind = "CONTROL_MESSAGE" if number % 5 == 0 else "DATA_MESSAGE"
        events = [{"id": str(i), "timestamp": 1, "message": f"line {number}.{i} é"} for i in range(3)]
        envelope = {"messageType": kind, "owner": "111122223333", "logGroup": "g", "logStream": "s",
                    "subscriptionFilters": ["f"], "logEvents": events}
        with open(f"{work}/envelopes/{number:02}", "wb") as file:
            file.write(gzip.compress(json.dumps(envelope).encode()))
    with open(f"{work}/envelopes/broken", "wb") as file:
        file.write(b"\x1f\x8b broken")


def same(what, found, wanted):
    if found != wanted:
        sys.exit(f"{what}: {found!r} instead of {wanted!r}")
    print(f"{what}: as it should be")


def struct(value, names):
    return None if value is None else {name: value.get(name) for name in names}


def event(r):
    """A row as it should be."""
    payload = r.get("payload") or {}
    commits = payload.get("commits")
    return {
        "id": str(r["id"]), "type": r["type"], "actor": struct(r.get("actor"), ["id", "login"]),
        "repo": struct(r.get("repo"), ["id", "name"]), "public": r.get("public"),
        "created_at": datetime.datetime.strptime(r["created_at"], "%Y-%m-%dT%H:%M:%SZ"),
        "payload": {"ref": payload.get("ref"), "size": payload.get("size"),
                    "commits": None if commits is None else [struct(c, ["sha", "message"]) for c in commits]},
    }


def check(work):
    lake = f"{work}/data/s3/lake"
    wanted = collections.defaultdict(list)
    source = lines(f"{work}/github-events.jsonl")
    for record in source:
        if record["type"] != "WatchEvent":
            wanted[f"type={record['type']}/day={record['created_at'][:10]}"].append(event(record))
    found = collections.defaultdict(list)
    for path in glob.glob(f"{lake}/events/*/*/*.parquet"):
        for row in pyarrow.parquet.read_table(path, partitioning=None).to_pylist():
            row["created_at"] = row["created_at"].replace(tzinfo=None)
            found["/".join(path.split("/")[-3:-1])].append(row)
    key = lambda row: json.dumps(row, default=str, sort_keys=True)
    same("partitions of events", sorted(found), sorted(wanted))
    for partition in wanted:
        if sorted(map(key, found[partition])) != sorted(map(key, wanted[partition])):
            sys.exit(f"{partition}: other rows than it should have")
    print(f"{sum(map(len, wanted.values()))} events value by value in {len(wanted)} partitions: as they should be")
    kept = b"".join(gzip.open(path).read() for path in glob.glob(f"{work}/data/s3/raw/events/**/*.gz", recursive=True))
    decoder, kept, at, backup = json.JSONDecoder(), kept.decode(), 0, []
    while at < len(kept):
        value, at = decoder.raw_decode(kept, at)
        backup.append(json.dumps(value, sort_keys=True))
    same("backup of events", sorted(backup) == sorted(json.dumps(r, sort_keys=True) for r in source), True)

    log = [json.loads(line) for path in glob.glob(f"{lake}/web/**/*.gz", recursive=True) for line in gzip.open(path)]
    row = lambda r: (r["host"], r["request"], r["response"], r["bytes"], r["referrer"], r["agent"])
    text = lambda value: "-" if value in (None, "") else value
    wanted = [(r["remote_ip"], r["request"], int(r["response"]), int(r.get("bytes") or 0), text(r.get("referrer")), text(r.get("agent")))
              for r in lines(f"{work}/web-log.jsonl")]
    same("lines of the log", collections.Counter(map(row, log)) == collections.Counter(wanted), True)
    errors = [json.loads(line) for path in glob.glob(f"{lake}/web/processing-failed/**/web-log-*", recursive=True) for line in open(path)]
    same("errors of the log", [error["errorCode"] for error in errors], ["Parse.ApacheLog"])

    flights = lines(f"{work}/flights.jsonl")
    names = ["carrier", "flight", "dep_delay", "distance", "origin", "dest"]
    tables = [pyarrow.orc.read_table(path) for path in glob.glob(f"{lake}/flights/**/*.orc", recursive=True)]
    rows = collections.Counter(tuple(row[name] for name in names) for table in tables for row in table.to_pylist())
    same("flights as ORC", rows == collections.Counter(tuple(r.get(name) for name in names) for r in flights), True)
    late = 0
    for path in glob.glob(f"{lake}/late/**/*.zst", recursive=True):
        text = subprocess.run(["zstd", "-dcq", path], check=True, capture_output=True, text=True).stdout
        late += sum(1 for line in text.splitlines() if json.loads(line)["dep_delay"] > 60)
    same("late flights", late, sum(1 for r in flights if (r.get("dep_delay") or 0) > 60))


def envelopes(work):
    out = f"{work}/envelopes-out/acme-logs/app"
    text = b"".join(gzip.open(path).read() for path in sorted(glob.glob(f"{out}/**/*.gz", recursive=True))).decode()
    wanted = [f"line {n}.{i} é" for n in range(20) if n % 5 for i in range(3)]
    same("messages of the envelopes", text.splitlines(), wanted)
    errors = [json.loads(line) for path in glob.glob(f"{out}/decompression-failed/**/app-logs-*", recursive=True) for line in open(path)]
    same("errors of the envelopes", [error["errorCode"] for error in errors], ["Decompression.MalformedData"])


{"make": make, "check": check, "envelopes": envelopes}[sys.argv[1]](sys.argv[2])
