"""The Redshift Data API by boto3, the staging bucket, and PostgreSQL behind it all by psql: what the runs share."""

import json
import os
import subprocess
import sys
import time
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "readers"))
import boto3
import botocore.config

BUCKET = "staging"
ROLE = "arn:aws:iam::123456789012:role/load"
PLACE = {"ClusterIdentifier": "cluster", "Database": "dev", "DbUser": "loader"}
URL = os.environ["AWS_ENDPOINT_URL_REDSHIFT_DATA"]


def client(service):
    """A client that tries once: an answer that is lost is lost."""
    config = botocore.config.Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, read_timeout=120)
    url = os.environ["AWS_ENDPOINT_URL_" + service.upper().replace("-", "_")]
    return boto3.client(service, endpoint_url=url, config=config, region_name="us-east-1")


DATA, S3 = client("redshift-data"), client("s3")


class Psql(Exception):
    """psql refused a statement."""


def psql(sql, input=None):
    """Rows of a statement, as lists of texts."""
    command = [os.environ["PEERS_POSTGRES_BIN"] + "/psql", "-qAtX", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1",
               "-p", os.environ["PEERS_POSTGRES_PORT"], "-U", "rs", "-d", "dev", "-c", sql]
    done = subprocess.run(command, capture_output=True, text=True, input=input)
    if done.returncode:
        raise Psql(done.stderr)
    return [line.split("\t") for line in done.stdout.splitlines()]


def one(sql):
    return psql(sql)[0][0]


def control(method, path, body=None):
    request = urllib.request.Request(URL + path, method=method, data=None if body is None else json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def faults(*rules):
    control("POST", "/faults", list(rules))


def counts():
    return control("GET", "/counts")


def submit(*sqls, **more):
    """A batch in one transaction, or one statement; its id."""
    if len(sqls) > 1 or "ExecutionMode" in more:
        return DATA.batch_execute_statement(Sqls=list(sqls), **PLACE, **more)["Id"]
    return DATA.execute_statement(Sql=sqls[0], **PLACE, **more)["Id"]


def ended(id, timeout=60):
    """What DescribeStatement tells when it has ended."""
    begin = time.monotonic()
    while True:
        told = DATA.describe_statement(Id=id)
        if told["Status"] in ("FINISHED", "FAILED", "ABORTED"):
            return told
        if time.monotonic() - begin > timeout:
            raise TimeoutError(f"{id} is {told['Status']} after {timeout} s")
        time.sleep(0.05)


def run(*sqls, **more):
    return ended(submit(*sqls, **more))


def rows(sql):
    """The rows of a query, each a list of plain values."""
    told = run(sql)
    assert told["Status"] == "FINISHED", told
    found, token = [], {}
    while True:
        page = DATA.get_statement_result(Id=told["Id"], **token)
        for record in page["Records"]:
            found.append([None if "isNull" in field else next(iter(field.values())) for field in record])
        if "NextToken" not in page:
            return found
        token = {"NextToken": page["NextToken"]}


def put(key, body):
    S3.put_object(Bucket=BUCKET, Key=key, Body=body)
    return {"url": f"s3://{BUCKET}/{key}", "mandatory": True, "meta": {"content_length": len(body)}}


def manifest(key, *entries):
    body = json.dumps({"entries": list(entries)}).encode()
    S3.put_object(Bucket=BUCKET, Key=key, Body=body)
    return f"s3://{BUCKET}/{key}"


def copy(table, url, options=""):
    return f"COPY {table} FROM '{url}' IAM_ROLE '{ROLE}' MANIFEST {options}"
