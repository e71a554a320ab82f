#!/usr/bin/env python3
"""`standpipe check --online` against the peer: what it says of a table and its ledger that are right, that are missing and
that are not what the config delivers, that it makes the ledger when it is told to, and that it writes nothing else."""

import json
import os
import subprocess

import redshift_peer as peer
from redshift_peer import client, one, psql, run
from settings import end, say

CONFIG = """version: 1
pipelines:
  look:
    source: {{ kinesis: {{ stream: look, start: latest }} }}
    destinations:
      - redshift:
          {place}
          database: dev
          staging: {{ bucket: {bucket}, prefix: look/ }}
          copy: {{ table: public.{table}, role: "{role}"{copy} }}
          {form}
"""
WRONG = []


def check(table, *args, copy="", form="", place="workgroup: workgroup"):
    path = os.path.join(os.environ["PEERS_WORK"], "look.yaml")
    with open(path, "w") as file:
        file.write(CONFIG.format(table=table, copy=copy, form=form, place=place, bucket=peer.BUCKET, role=peer.ROLE))
    command = [os.path.join(os.environ["PEERS_WORK"], "standpipe"), "check", "-c", path, "--online", "--output", "json", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    report = json.loads(done.stdout) if done.stdout else {"online": [], "stderr": done.stderr}
    return done.returncode, {(line["what"], line["found"]): line for line in report["online"]}, report


def wanted(name, got, code, *lines):
    """The exit code, and of each thing what was found, with a part of what is said."""
    found_code, found, report = got
    missing = [line for line in lines if line[2] not in f"{(found.get(line[:2]) or {}).get('says')} {(found.get(line[:2]) or {}).get('hint')}"]
    say("check", f"{name}: exit {found_code}, {len(found)} lines")
    if found_code != code or missing:
        WRONG.append(f"{name}: exit {found_code} instead of {code}, {missing} not in {report}")


def tables():
    return {row[0] for row in psql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


def rights(what, ledger):
    """As a user without rights, who is given one after the other."""
    psql("CREATE ROLE poor")
    psql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    psql("ALTER ROLE rs IN DATABASE dev SET role = 'poor'")

    def grant(right, on):
        psql(f"SET ROLE NONE; GRANT {right} ON {on} TO poor")
    try:
        wanted("no right at all", check("looked"), 3, ("workgroup workgroup", "ok", "as poor"), (what, "wrong", "poor may not see it"))
        grant("SELECT", "looked")
        wanted("no right to insert", check("looked"), 4, (what, "denied", 'GRANT INSERT ON "public"."looked" TO "poor"'),
               (ledger, "denied", "who may not make it either"))
        wanted("no right to make the ledger", check("looked", "--create"), 4, (ledger, "denied", "GRANT CREATE ON SCHEMA"))
        grant("INSERT", "looked")
        grant("SELECT, INSERT", "standpipe_ledger_looked")
        wanted("no right to lock the ledger", check("looked"), 4, (ledger, "denied", "no right to UPDATE, DELETE"))
        grant("UPDATE", "standpipe_ledger_looked")
        wanted("every right", check("looked"), 0, (ledger, "ok", "to be read, written and locked"))
    finally:
        psql("SET ROLE NONE; ALTER ROLE rs IN DATABASE dev RESET role")


def main():
    client("kinesis").create_stream(StreamName="look", ShardCount=1)
    told = run("CREATE TABLE looked (id BIGINT NOT NULL, name VARCHAR(40), at TIMESTAMP)")
    assert told["Status"] == "FINISHED", told
    before, what, ledger = tables(), "table public.looked", "ledger public.standpipe_ledger_looked"
    wanted("all is there but the ledger", check("looked"), 0, ("workgroup workgroup", "ok", "database dev"), (what, "ok", "3 columns"),
           (ledger, "note", "the first load makes it"), (f"bucket {peer.BUCKET}", "ok", "there"))
    wanted("no such table", check("nowhere", "--create"), 3, ("table public.nowhere", "wrong", "there is none"))
    wanted("no such column", check("looked", copy=", columns: [id, nope]"), 3, (what, "wrong", "no column nope"))
    wanted("a column that must not be null", check("looked", copy=", columns: [name]"), 3, (what, "wrong", "id may not be null"))
    parquet = 'format: parquet\n          schema: {{ columns: "{}" }}'
    wanted("fewer columns in a file", check("looked", form=parquet.format("id bigint, name string")), 3,
           (what, "wrong", "3 columns are loaded, and a file has 2"))
    wanted("other names in a file", check("looked", form=parquet.format("id bigint, at timestamp, name string")), 0,
           (what, "note", "at -> name"))
    wanted("a cluster", check("looked", place="cluster: cluster"), 0, ("cluster cluster", "ok", "database dev"))
    if tables() != before:
        WRONG.append(f"a check has made {tables() - before}")
    wanted("the ledger is made", check("looked", "--create"), 0, (ledger, "ok", "made"))
    wanted("the ledger is there", check("looked"), 0, (ledger, "ok", "to be read, written and locked"))
    if tables() != before | {"standpipe_ledger_looked"}:
        WRONG.append(f"a check has made {tables() - before}")
    if one("SELECT count(*) FROM standpipe_ledger_looked") != "0":
        WRONG.append("a check has written into the ledger")
    rights(what, ledger)
    psql("ALTER TABLE standpipe_ledger_looked RENAME cid TO other")
    wanted("a ledger that is another table", check("looked"), 3, (ledger, "wrong", "no column cid"))
    end(WRONG)


if __name__ == "__main__":
    main()
