#!/usr/bin/env python3
"""Records through every form of a Redshift load: JSON by gzip with MAXERROR, CSV by zstd, Parquet by position; the rows of
each table against what was sent, and the rows that COPY refuses against the object that tells them."""

import json

import redshift_peer as peer
from redshift_peer import client, one, psql, run
from redshift_storm import Fleet, until
from settings import end, say

ROWS = 3000
PIPELINE = """  {name}:
    lease: {{ table: standpipe-{name}, failover: 3s }}
    source: {{ kinesis: {{ stream: {stream}, start: trim_horizon, read: polling, poll: 500ms }} }}
    transforms: [{transforms}]
    destinations:
      - redshift:
          workgroup: workgroup
          database: dev
          auth: {{ secretsmanager: "arn:aws:secretsmanager:us-east-1:111122223333:secret:loader" }}
          staging: {{ bucket: {bucket}, prefix: {name}/, compression: {compression} }}
          copy: {{ table: public.{name}, columns: [{columns}], role: "{role}"{options} }}
          buffer: {{ size: 4MiB, interval: 2s }}
          {form}
"""
COLUMNS = ["id", "name", "score", "ok", "at"]
SCHEMA = "id bigint, name string, score double, ok boolean, at timestamp"


def pipeline(name, stream, form, compression="none", options="", transforms=""):
    return PIPELINE.format(name=name, stream=stream, bucket=peer.BUCKET, role=peer.ROLE, columns=", ".join(COLUMNS), form=form,
                           compression=compression, transforms=transforms, options=f', options: "{options}"' if options else "")


def row(n):
    return {"id": n, "name": f"na\"me, {n}\té" if n % 7 else None, "score": n / 8, "ok": n % 2 == 0,
            "at": f"2013-01-{n % 28 + 1:02} 10:00:00"}


def check(table, wanted):
    found = psql(f"SELECT json_build_array(id, name, score, ok, at::text) FROM {table} ORDER BY id")
    found = [json.loads("\t".join(line)) for line in found]
    wanted = [[one[column] for column in COLUMNS] for one in wanted]
    say(table, f"{len(found)} rows")
    return [] if found == wanted else [f"{table} has {len(found)} rows that are not the {len(wanted)} sent: {found[:2]} {wanted[:2]}"]


def refusals(names):
    """Lines of the objects that tell of rows that COPY left out, by column; `names` are those that must be there."""
    told = {}
    for item in peer.S3.list_objects_v2(Bucket=peer.BUCKET, Prefix="formjson/errors/rows/").get("Contents", []):
        for line in peer.S3.get_object(Bucket=peer.BUCKET, Key=item["Key"])["Body"].read().splitlines():
            load = json.loads(line)["load"]
            told.setdefault(load["column"], set()).add((load["file"], load["line"], load["code"]))
    counts = {name: len(lines) for name, lines in told.items()}
    say("refused rows", json.dumps(counts))
    return [] if counts == names else [f"refused rows are told as {told}, and should be {names}"]


def main():
    pipelines = [
        pipeline("formjson", "refused", "format: json_lines", "gzip", "JSON 'auto' TIMEFORMAT 'auto' MAXERROR 100"),
        pipeline("formcsv", "forms", "format: csv", "zstd", "CSV EMPTYASNULL",
                 f"{{ json_to_csv: {{ columns: [{', '.join(COLUMNS)}] }} }}"),
        pipeline("formparquet", "forms", f'format: parquet\n          schema: {{ columns: "{SCHEMA}" }}'),
    ]
    for name in ("formjson", "formcsv", "formparquet"):
        told = run(f"CREATE TABLE {name} (id BIGINT NOT NULL, name VARCHAR(40), score FLOAT8, ok BOOL, at TIMESTAMP)")
        assert told["Status"] == "FINISHED", told
    good = [row(n) for n in range(1, ROWS + 1)]
    # Too long a name, a column that must not be null, a time that is none.
    bad = ([{**row(n), "name": "x" * 41} for n in range(10)] + [{**row(n), "id": None} for n in range(5)]
           + [{**row(n), "at": "not a time"} for n in range(7)])
    kinesis = client("kinesis")
    for stream, records in (("forms", good), ("refused", good + bad)):
        kinesis.create_stream(StreamName=stream, ShardCount=2)
        for at in range(0, len(records), 500):
            entries = [{"Data": json.dumps(one).encode(), "PartitionKey": json.dumps(one)} for one in records[at:at + 500]]
            assert not kinesis.put_records(StreamName=stream, Records=entries)["FailedRecordCount"]
    fleet = Fleet("forms", "".join(pipelines), 1, 1)
    try:
        fleet.start()
        for name in ("formjson", "formcsv", "formparquet"):
            until(fleet, f"the rows of {name}", lambda: int(one(f"SELECT count(*) FROM {name}")) >= ROWS)
        wrong = fleet.stop()
    finally:
        for process in fleet.workers.values():
            process.kill()
    for name in ("formjson", "formcsv", "formparquet"):
        wrong += check(name, good)
    wrong += refusals({"name": 10, "id": 5, "at": 7})
    end(wrong)


if __name__ == "__main__":
    main()
