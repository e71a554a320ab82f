#!/usr/bin/env python3
"""The peer for Redshift by itself, before anything is tested on it: every operation, COPY of every format, load errors,
tokens, cancels, conflicts, and each fault, by boto3 from outside and psql from behind."""

import datetime
import decimal
import gzip
import io
import json
import os
import subprocess
import time

import botocore.exceptions
import pyarrow
import pyarrow.parquet
import zstandard

import redshift_peer as peer
from redshift_peer import BUCKET, DATA, PLACE, S3, copy, counts, ended, manifest, one, psql, put, rows, run, submit
from settings import end, say

TESTS = []


def test(function):
    TESTS.append(function)
    return function


def refused(kind, call, **more):
    try:
        call(**more)
    except botocore.exceptions.ClientError as error:
        found = error.response["Error"]["Code"]
        assert found == kind, f"{found} instead of {kind}: {error}"
        return str(error)
    raise AssertionError(f"{kind} did not come: {more}")


def failed(told, *words):
    assert told["Status"] == "FAILED", told
    for word in words:
        assert word in told["Error"], f"{word!r} is not in {told['Error']!r}"


def finished(told):
    assert told["Status"] == "FINISHED", told
    return told


def quiet():
    """Until nothing runs any more."""
    while any(DATA.list_statements(Status=status)["Statements"] for status in ("SUBMITTED", "PICKED", "STARTED")):
        time.sleep(0.05)


def guarded(cid, *load, ledger="ledger"):
    return (f"LOCK {ledger}", f"SELECT 1/(1-LEAST(COUNT(*),1)) FROM {ledger} WHERE cid = '{cid}'", *load,
            f"INSERT INTO {ledger} VALUES ('{cid}', SYSDATE)")


@test
def results_have_types_and_pages():
    told = finished(run("SELECT 7::int AS i, 2.5::float8 AS f, 1.50::numeric(5,2) AS n, true AS b, NULL AS x, 'a' AS t, "
                        "'2013-01-01 10:00:00'::timestamp AS at", StatementName="types"))
    assert told["HasResultSet"] and told["ResultRows"] == 1 and told["RedshiftPid"] > 0 and told["RedshiftQueryId"] > 0, told
    page = DATA.get_statement_result(Id=told["Id"])
    assert page["Records"] == [[{"longValue": 7}, {"doubleValue": 2.5}, {"stringValue": "1.50"}, {"booleanValue": True},
                                {"isNull": True}, {"stringValue": "a"}, {"stringValue": "2013-01-01 10:00:00"}]], page
    kinds = [column["typeName"] for column in page["ColumnMetadata"]]
    assert kinds == ["int4", "float8", "numeric", "bool", "varchar", "varchar", "timestamp"], kinds
    assert [row[0] for row in rows("SELECT generate_series(1, 2500)")] == list(range(1, 2501))
    assert any(listed["Id"] == told["Id"] for listed in DATA.list_statements(StatementName="typ", Status="FINISHED")["Statements"])
    assert not DATA.list_statements(StatementName="typ", Status="FAILED")["Statements"]
    assert rows("SELECT json_parse('{\"a\": [1]}'), len('abc'), nvl(NULL, 'x'), DATEADD(day, 1, '2013-01-31'::timestamp)") \
        == [['{"a": [1]}', 3, "x", "2013-02-01 00:00:00"]]


@test
def waiting_and_states():
    told = DATA.execute_statement(Sql="SELECT pg_sleep(0.3)", WaitTimeSeconds=10, **PLACE)
    assert told["Status"] == "FINISHED" and told["HasResultSet"], told
    id = submit("SELECT pg_sleep(2)")
    seen = set()
    while "STARTED" not in seen:
        seen.add(DATA.describe_statement(Id=id)["Status"])
    refused("ResourceNotFoundException", DATA.get_statement_result, Id=id)
    finished(ended(id))
    assert DATA.describe_statement(Id=submit("SELECT pg_sleep(0.5)"), WaitTimeSeconds=10)["Status"] == "FINISHED"


@test
def requests_that_do_not_fit_are_refused():
    execute, batch = DATA.execute_statement, DATA.batch_execute_statement
    for wrong in ({"ClusterIdentifier": "cluster"}, {"Database": "dev"}, {**PLACE, "WorkgroupName": "workgroup"},
                  {**PLACE, "SecretArn": "arn:aws:secretsmanager:::s"}):
        refused("ValidationException", execute, Sql="SELECT 1", **wrong)
    refused("ValidationException", batch, Sqls=["SELECT 1"] * 41, **PLACE)
    refused("ValidationException", execute, Sql="SELECT '" + "x" * 102_400 + "'", **PLACE)
    refused("ValidationException", execute, Sql="SELECT 1", Parameters=[{"name": "a", "value": "1"}], **PLACE)
    refused("ResourceNotFoundException", DATA.describe_statement, Id="d9b6c0c9-0747-4bf4-b142-e8883122f766")
    refused("ValidationException", DATA.cancel_statement, Id=finished(run("SELECT 1"))["Id"])
    failed(run("SELECT 1; SELECT 2"), "multiple commands")
    failed(run("SELECT * FROM nowhere"), 'relation "nowhere" does not exist')
    failed(run("INSERT INTO nowhere VALUES (1) ON CONFLICT DO NOTHING"), "syntax error")
    failed(ended(DATA.execute_statement(Sql="SELECT 1", ClusterIdentifier="cluster", Database="other")["Id"]), "does not exist")
    many = finished(run(*["SELECT 1"] * 40))
    assert len(many["SubStatements"]) == 40


@test
def parameters_are_values():
    told = finished(run("SELECT :a || ':a', :n + 1", Parameters=[{"name": "a", "value": "it's \\ "}, {"name": "n", "value": "41"}]))
    assert DATA.get_statement_result(Id=told["Id"])["Records"] == [[{"stringValue": "it's \\ :a"}, {"longValue": 42}]]


@test
def a_batch_is_one_transaction_or_none():
    finished(run("CREATE TABLE b (n INT PRIMARY KEY) DISTSTYLE KEY SORTKEY (n)"))
    told = run("INSERT INTO b VALUES (1)", "INSERT INTO b VALUES ('x')", "INSERT INTO b VALUES (3)")
    failed(told, "invalid input syntax")
    assert [part["Status"] for part in told["SubStatements"]] == ["FINISHED", "FAILED", "ABORTED"], told
    assert one("SELECT count(*) FROM b") == "0"
    failed(run("INSERT INTO b VALUES (1)", "INSERT INTO b VALUES ('x')", "INSERT INTO b VALUES (3)", ExecutionMode="AUTO_COMMIT"))
    assert one("SELECT string_agg(n::text, ',' ORDER BY n) FROM b") == "1,3"
    told = finished(run("INSERT INTO b VALUES (1)", "SELECT count(*) FROM b", "UPDATE b SET n = n"))
    assert [part["ResultRows"] for part in told["SubStatements"]] == [1, 1, 3], "a primary key is not enforced"
    page = DATA.get_statement_result(Id=told["Id"] + ":2")
    assert page["Records"] == [[{"longValue": 3}]], page
    assert DATA.describe_statement(Id=told["Id"] + ":3")["ResultRows"] == 3
    failed(run("INSERT INTO b VALUES (9)", "TRUNCATE b", "INSERT INTO b VALUES (1)", "SELECT 1/0"), "division")
    assert one("SELECT count(*) FROM b") == "0", "TRUNCATE commits, what follows it was rolled back"


@test
def a_token_is_one_statement():
    finished(run("CREATE TABLE tokens (n INT)"))
    first = submit("INSERT INTO tokens VALUES (1)", ClientToken="t-1")
    assert [submit("INSERT INTO tokens VALUES (1)", ClientToken="t-1") for _ in range(5)] == [first] * 5
    finished(ended(first))
    assert submit("INSERT INTO tokens VALUES (1)", ClientToken="t-1") == first
    refused("ValidationException", lambda: submit("INSERT INTO tokens VALUES (2)", ClientToken="t-1"))
    assert one("SELECT count(*) FROM tokens") == "1"


@test
def a_cancel_is_real():
    finished(run("CREATE TABLE c (n INT)"))
    id = submit("INSERT INTO c VALUES (1)", "SELECT pg_sleep(60)")
    while DATA.describe_statement(Id=id)["Status"] != "STARTED":
        time.sleep(0.05)
    assert DATA.cancel_statement(Id=id)["Status"] is True
    assert ended(id, 10)["Status"] == "ABORTED"
    assert one("SELECT count(*) FROM c") == "0" and one("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' "
                                                        "AND pid <> pg_backend_pid()") == "0"
    # Sent at any moment, the state and the rows agree.
    for number in range(20):
        id = submit(f"INSERT INTO c VALUES ({number})", "SELECT pg_sleep(0.02)")
        time.sleep(number * 0.005)
        try:
            DATA.cancel_statement(Id=id)
        except botocore.exceptions.ClientError:
            pass
        there = ended(id)["Status"] == "FINISHED"
        assert one(f"SELECT count(*) FROM c WHERE n = {number}") == str(int(there)), DATA.describe_statement(Id=id)


@test
def a_ledger_that_is_locked_first_lets_one_in():
    finished(run("CREATE TABLE IF NOT EXISTS ledger (cid VARCHAR(64) NOT NULL ENCODE RAW, loaded_at TIMESTAMP DEFAULT SYSDATE, "
                 "PRIMARY KEY (cid)) DISTSTYLE ALL"))
    finished(run("CREATE TABLE g (n INT)"))
    told = [ended(id) for id in [submit(*guarded("same", "INSERT INTO g VALUES (1)")) for _ in range(8)]]
    assert sorted(one["Status"] for one in told) == ["FAILED"] * 7 + ["FINISHED"], told
    found = one("SELECT count(*) FROM g")
    assert found == "1", found
    # Read first, then locked: the snapshot is older than the lock, and the second does not see the first.
    lock, guard, *load = guarded("snapshot", "INSERT INTO g VALUES (2)", "SELECT pg_sleep(1)")
    first = submit(guard, lock, *load)
    time.sleep(0.4)  # it holds the lock for a second: the other's guard waits, with a snapshot from before
    ids = [first, submit(guard, lock, *load)]
    told = [ended(id) for id in ids]
    assert [one["Status"] for one in told] == ["FINISHED"] * 2, told
    assert one("SELECT count(*) FROM g WHERE n = 2") == "2", "which is why the ledger is locked first"
    finished(run("DELETE FROM ledger WHERE loaded_at < DATEADD(day, -90, SYSDATE)"))
    found = one("SELECT count(*) FROM ledger")
    assert found == "3", found


@test
def two_writers_of_one_row_conflict():
    finished(run("CREATE TABLE w AS SELECT 1 AS n"))
    first = submit("UPDATE w SET n = n + 1", "SELECT pg_sleep(1)")
    time.sleep(0.4)
    second = submit("UPDATE w SET n = n + 1", "SELECT 1")
    finished(ended(first))
    failed(ended(second), "1023", "Serializable isolation violation")
    assert one("SELECT n FROM w") == "2"


ROWS = [{"id": n, "name": f"na\tme \\{n}\n\"é\"", "score": n / 4, "at": f"2013-01-{n % 28 + 1:02} 10:00:00", "ok": n % 2 == 0,
         "more": {"list": [n, None]}} for n in range(1, 2001)]
TABLE = "(id BIGINT, name VARCHAR(40), score FLOAT8, at TIMESTAMP, ok BOOL, more SUPER)"
SHOWN = "SELECT id, name, score, at, ok, more FROM {} ORDER BY id"


def same(table, wanted=ROWS):
    found = psql(f"SELECT json_build_array(id, name, score, at::text, ok, more) FROM {table} ORDER BY id")
    found = [json.loads("\t".join(line)) for line in found]
    assert found == [[row.get(key) for key in ("id", "name", "score", "at", "ok", "more")] for row in wanted], found[:3]


@test
def json_is_loaded_with_every_compression():
    body = "\n".join(json.dumps(row) for row in ROWS).encode()
    for name, options, packed in (("plain", "", body), ("gz", "GZIP", gzip.compress(body[:70_000]) + gzip.compress(body[70_000:])),
                                  ("zst", "ZSTD", zstandard.compress(body))):
        finished(run(f"CREATE TABLE j_{name} {TABLE}"))
        url = manifest(f"json/{name}.manifest", put(f"json/a b/{name}", packed))
        told = finished(run(copy(f"j_{name}", url, f"FORMAT AS JSON 'auto' {options} REGION 'us-east-1' STATUPDATE OFF")))
        assert told["ResultRows"] == len(ROWS) and not told["HasResultSet"], told
        same(f"j_{name}")
    finished(run(f"CREATE TABLE j_case {TABLE}"))
    url = manifest("json/case.manifest", put("json/case", b'{"ID": 1, "Name": "x", "unknown": [1]} {"id": 2}'))
    finished(run(copy("j_case", url, "JSON 'auto'")))
    assert [row[0] for row in psql("SELECT coalesce(id::text, 'null') || coalesce(name, 'null') FROM j_case ORDER BY id")] == ["2null", "nullnull"]
    finished(run("DELETE FROM j_case"))
    finished(run(copy("j_case (name, id)", url, "JSON 'auto ignorecase'")))
    assert psql("SELECT id, name FROM j_case ORDER BY id") == [["1", "x"], ["2", ""]]


@test
def csv_is_loaded_with_its_options():
    finished(run(f"CREATE TABLE v {TABLE}"))
    quote = lambda text: '"' + text.replace('"', '""') + '"'
    lines = ["id,name,score,at,ok,more"] + [
        f"{row['id']},{quote(row['name'])},{row['score']},{row['at']},{row['ok']},{quote(json.dumps(row['more']))}" for row in ROWS]
    half = len(lines) // 2
    url = manifest("csv/manifest", put("csv/1.gz", gzip.compress("\n".join(lines[:half]).encode())),
                   put("csv/2.gz", gzip.compress("\n".join(lines[:1] + lines[half:]).encode())))
    finished(run(copy("v", url, "CSV GZIP IGNOREHEADER 1 TIMEFORMAT 'auto'")))
    same("v")
    finished(run("CREATE TABLE d (a INT, b VARCHAR(3), at TIMESTAMP, c VARCHAR(10))"))
    url = manifest("csv/pipes", put("csv/pipes.txt", "1|NULL|1357034400123| \n2|abcdé|1357034400000|\n|x||y\n".encode()))
    finished(run(copy("d", url, "DELIMITER '|' NULL AS 'NULL' TIMEFORMAT 'epochmillisecs' TRUNCATECOLUMNS BLANKSASNULL EMPTYASNULL")))
    assert psql("SELECT coalesce(a::text,'-'), coalesce(b,'-'), coalesce(at::text,'-'), coalesce(c,'-') FROM d ORDER BY a") == [
        ["1", "-", "2013-01-01 10:00:00.123", "-"], ["2", "abc", "2013-01-01 10:00:00", "-"], ["-", "x", "-", "y"]]


@test
def parquet_is_loaded_by_position():
    finished(run("CREATE TABLE p (a INT, b VARCHAR(20), c FLOAT8, d TIMESTAMP, e BOOL, f NUMERIC(9,2), g DATE, h SUPER)"))
    at = datetime.datetime(2013, 1, 1, 10, 0, 0, 123456)
    columns = {"other names": pyarrow.array([1, None, 3], pyarrow.int32()), "x": ["a\tb", None, "c"], "y": [0.1, None, 1e300],
               "z": pyarrow.array([at, None, at], pyarrow.timestamp("us", "UTC")), "e": [True, None, False],
               "f": pyarrow.array([decimal.Decimal("1.50"), None, decimal.Decimal("-2.25")], pyarrow.decimal128(9, 2)),
               "g": pyarrow.array([at.date(), None, at.date()]), "h": ['{"a": 1}', None, "[]"]}
    for name, table in (("p", pyarrow.table(columns)), ("narrow", pyarrow.table({"a": [1]})),
                        ("wrong", pyarrow.table({**columns, "y": ["x", "y", "z"]}))):
        sink = io.BytesIO()
        pyarrow.parquet.write_table(table, sink, compression="snappy")
        manifest(f"parquet/{name}.manifest", put(f"parquet/{name}.parquet", sink.getvalue()))
    place = f"s3://{BUCKET}/parquet"
    assert finished(run(copy("p", f"{place}/p.manifest", "FORMAT AS PARQUET SERIALIZETOJSON")))["ResultRows"] == 3
    assert psql("SELECT count(*), count(a), sum(f), max(c), max(d)::text, max(g)::text, max(h->>'a'), bool_or(e) FROM p") == [
        ["3", "2", "-0.75", "1e+300", "2013-01-01 10:00:00.123456", "2013-01-01", "1", "t"]]
    failed(run(copy("p", f"{place}/narrow.manifest", "PARQUET")), "Unmatched number of columns")
    failed(run(copy("p", f"{place}/wrong.manifest", "PARQUET SERIALIZETOJSON")), "incompatible Parquet schema", "'c'")
    failed(run(copy("p", f"{place}/p.manifest", "PARQUET GZIP")), "GZIP argument is not supported for PARQUET")
    failed(run(copy("p", f"{place}/p.manifest", "PARQUET REGION 'us-east-1'")), "REGION argument is not supported for PARQUET")


@test
def a_manifest_binds():
    finished(run(f"CREATE TABLE m {TABLE}"))
    good = put("m/good", b'{"id": 1}')
    missing = {"url": f"s3://{BUCKET}/m/missing", "mandatory": False}
    finished(run(copy("m", manifest("m/1", good, missing), "JSON 'auto'")))
    failed(run(copy("m", manifest("m/2", good, {**missing, "mandatory": True}), "JSON 'auto'")), "NoSuchKey", "m/missing")
    failed(run(copy("m", manifest("m/3", good, {**good, "meta": {"content_length": 8}}), "JSON 'auto'")), "file size mismatch")
    failed(run(copy("m", f"s3://{BUCKET}/m/no-manifest", "JSON 'auto'")), "NoSuchKey")
    failed(run(copy("m", manifest("m/4"), "JSON 'auto'")), "manifest")
    failed(run(copy("nowhere", manifest("m/5", good), "JSON 'auto'")), "Cannot COPY into nonexistent table nowhere")
    failed(run(copy("m (id, no)", manifest("m/6", good), "JSON 'auto'")), 'column "no"')
    failed(run(copy("m", manifest("m/7", good), "JSON 'auto' FASTER")), "syntax error", "faster")
    assert one("SELECT count(*) FROM m") == "1"


@test
def load_errors_are_told_row_by_row():
    finished(run("CREATE TABLE e (id BIGINT NOT NULL, name VARCHAR(5), at TIMESTAMP, ok BOOL)"))
    bad = {100: {"id": "x1"}, 2500: {"id": 1, "name": "too long"}, 4999: {"id": 1, "at": "not a time"}, 5000: {"name": "a"},
           7000: {"id": 1, "ok": "maybe"}, 7001: {"id": 2**63}}
    lines = [json.dumps(bad.get(n, {"id": n, "name": "good", "at": "2013-01-01T10:00:00Z", "ok": True})) for n in range(1, 10_001)]
    lines[8999] = '{"id": 9000,'
    lines[8999] += "}"
    url = manifest("errors/manifest", put("errors/rows.gz", gzip.compress("\n".join(lines).encode())))
    told = finished(run(copy("e", url, "JSON 'auto' GZIP MAXERROR 8")))
    assert told["ResultRows"] == 9993 and one("SELECT count(*), count(DISTINCT id) FROM e") == "9993", told
    found = rows("SELECT line_number, trim(column_name), error_code, trim(file_name) FROM sys_load_error_detail "
                 f"WHERE query_id = {told['RedshiftQueryId']} ORDER BY line_number")
    name = f"s3://{BUCKET}/errors/rows.gz"
    assert found == [[100, "id", 1207, name], [2500, "name", 1204, name], [4999, "at", 1206, name], [5000, "id", 1213, name],
                     [7000, "ok", 1210, name], [7001, "id", 1222, name], [9000, "", 1216, name]], found
    assert one("SELECT count(*) FROM stl_load_errors WHERE colname LIKE 'id%' AND raw_line LIKE '%x1%'") == "1"
    for most in (7, 1, 0):
        told = run(copy("e", url, f"JSON 'auto' GZIP MAXERROR {most}"))
        failed(told, "Load into table 'e' failed", "sys_load_error_detail")
        kept = one(f"SELECT count(*) FROM sys_load_error_detail WHERE query_id = {told['RedshiftQueryId']}")
        assert kept == str(max(most, 1)), kept
    assert one("SELECT count(*) FROM e") == "9993"
    # Many of them, and a COPY in the middle of a batch.
    lines = [json.dumps({"id": n if n % 50 else "bad", "name": "a"}) for n in range(20_000)]
    url = manifest("errors/many", put("errors/many.json", "\n".join(lines).encode()))
    told = finished(run("CREATE TABLE many (id INT, name VARCHAR(5))", copy("many", url, "JSON 'auto' MAXERROR 1000"),
                        "INSERT INTO many VALUES (-1, 'last')"))
    assert one("SELECT count(*) FROM many") == "19601" and told["SubStatements"][1]["ResultRows"] == 19_600


@test
def each_fault_happens():
    finished(run("CREATE TABLE f (id BIGINT, cid INT)"))
    lines = "\n".join(json.dumps({"id": n, "cid": 0}) for n in range(1000))
    url = manifest("faults/manifest", put("faults/rows", lines.encode()))
    before = counts()["faults"]

    def loaded(cid):
        return one(f"SELECT count(*) FROM ledger WHERE cid = '{cid}'"), one("SELECT count(*) FROM f")

    def batch(cid):
        return guarded(cid, copy("f", url, "JSON 'auto'"))

    def lost(*sqls):
        try:
            submit(*sqls)
        except (botocore.exceptions.HTTPClientError, botocore.exceptions.ConnectionClosedError):
            return
        raise AssertionError("an answer came")

    total = 0
    for fault, kind in (("throttle", "ThrottlingException"), ("internal", "InternalServerException"),
                        ("active_statements", "ActiveStatementsExceededException"),
                        ("database_connection", "DatabaseConnectionException")):
        peer.faults({"fault": fault, "times": 1, "with_copy": True})
        finished(run("SELECT 1"))
        refused(kind, lambda: submit(*batch(fault)))
        assert loaded(fault) == ("0", str(total)), fault
    for fault, lands in (("drop_request", False), ("drop_accepted", True), ("drop_ended", True)):
        peer.faults({"fault": fault, "times": 1, "operation": "BatchExecuteStatement"})
        lost(*batch(fault))
        quiet()
        total += 1000 * lands
        assert loaded(fault) == (str(int(lands)), str(total)), fault
        again = run(*batch(fault))
        assert again["Status"] == ("FAILED" if lands else "FINISHED"), again
        total += 1000 * (not lands)
        assert loaded(fault) == ("1", str(total)), fault
    peer.faults({"fault": "internal_after", "times": 1, "operation": "BatchExecuteStatement"})
    refused("InternalServerException", lambda: submit(*batch("internal_after")))
    quiet()
    total += 1000
    assert loaded("internal_after") == ("1", str(total))
    for fault, status, words, lands in (("aborted", "ABORTED", "", False), ("serialization", "FAILED", "1023", False),
                                        ("commit_unclear", "FAILED", "connection", True), ("connection_gone", "FAILED", "connection", False)):
        peer.faults({"fault": fault, "times": 1, "with_copy": True})
        told = run(*batch(fault))
        assert told["Status"] == status and words in told["Error"], told
        total += 1000 * lands
        assert loaded(fault) == (str(int(lands)), str(total)), fault
    peer.faults({"fault": "slow_copy", "times": 2, "seconds": 2})
    begin = time.monotonic()
    finished(run(*batch("slow_copy")))
    assert time.monotonic() - begin > 2
    total += 1000
    id = submit(*batch("cancelled"))
    time.sleep(0.5)
    DATA.cancel_statement(Id=id)
    assert ended(id)["Status"] == "ABORTED" and loaded("cancelled") == ("0", str(total))
    peer.faults({"fault": "forgotten", "times": 1})
    refused("ResourceNotFoundException", DATA.describe_statement, Id=id)
    struck = {name: count - before.get(name, 0) for name, count in counts()["faults"].items()}
    assert len(struck) == 14 and all(struck.values()), struck
    peer.control("DELETE", "/faults")
    say("faults", json.dumps(struck))


def pg_ctl(*arguments):
    control = [os.environ["PEERS_POSTGRES_BIN"] + "/pg_ctl", "-D", os.environ["PEERS_POSTGRES_DATA"], "-m", "immediate", "-w",
               "-l", os.path.join(os.environ["PEERS_POSTGRES_DATA"], "restarted.log"), *arguments]
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
    subprocess.run(user + control, check=True, capture_output=True)


def restart_postgres():
    """Ends PostgreSQL as a crash would, and starts it again."""
    pg_ctl("restart")


def in_mid_copy():
    """Until a COPY is under way that waits between its rows, for `slow_copy` is on."""
    while one("SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'") == "0":
        time.sleep(0.1)


@test
def postgresql_restarted_in_the_middle_of_a_copy():
    finished(run("CREATE TABLE r (id BIGINT)"))
    url = manifest("restart/manifest", put("restart/rows", b"\n".join(b'{"id": %d}' % n for n in range(5000))))
    batch = guarded("restart", copy("r", url, "JSON 'auto'"))
    peer.faults({"fault": "slow_copy", "times": 1, "seconds": 8})
    id = submit(*batch)
    in_mid_copy()
    restart_postgres()
    peer.control("DELETE", "/faults")
    failed(ended(id), "connection")
    assert one("SELECT count(*) FROM r") == "0" and one("SELECT count(*) FROM ledger WHERE cid = 'restart'") == "0"
    finished(run(*batch))
    assert one("SELECT count(*) FROM r") == "5000"


def main():
    found = []
    for function in TESTS:
        begin = time.monotonic()
        try:
            function()
            say("well", f"{function.__name__} ({time.monotonic() - begin:.1f} s)")
        except Exception as error:
            say("WRONG", function.__name__)
            found.append(f"{function.__name__}: {type(error).__name__}: {error}")
            peer.control("DELETE", "/faults")
    end(found)


if __name__ == "__main__":
    main()
