"""The few calls of Kinesis, DynamoDB and S3 that the runs need, as plain HTTP, and positions of a shard in their order.

Shares no code with Standpipe. The servers here take any credentials, so requests carry the form of a signature only.
"""

import http.client
import json
import re
import threading
import time
import urllib.parse
import urllib.request

REGION = "eu-west-1"
KEYS = {"AWS_ACCESS_KEY_ID": "standpipe", "AWS_SECRET_ACCESS_KEY": "standpipe", "AWS_REGION": REGION}


class Refused(Exception):
    """An error answer of a service."""


class Json:
    """A service that speaks JSON, over one connection a thread."""

    def __init__(self, url, service, target, version):
        self.url, self.service, self.target, self.version = urllib.parse.urlsplit(url), service, target, version
        self.local = threading.local()

    def call(self, operation, **body):
        scope = f"{KEYS['AWS_ACCESS_KEY_ID']}/20260101/{REGION}/{self.service}/aws4_request"
        headers = {
            "Content-Type": f"application/x-amz-json-{self.version}",
            "X-Amz-Target": f"{self.target}.{operation}",
            "X-Amz-Date": time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
            "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host;x-amz-date, Signature={'0' * 64}",
        }
        for attempt in range(4):
            try:
                connection = getattr(self.local, "connection", None)
                if connection is None:
                    connection = self.local.connection = http.client.HTTPConnection(self.url.netloc, timeout=60)
                connection.request("POST", "/", json.dumps(body), headers)
                answer = connection.getresponse()
                text = answer.read()
                break
            except (OSError, http.client.HTTPException):
                self.local.connection = None
                # Sent again only when that does no harm: a producer's answer must not be guessed.
                if attempt == 3 or operation.startswith("Put"):
                    raise
                time.sleep(0.2)
        if answer.status != 200:
            raise Refused(f"{operation}: {answer.status} {text[:300]!r}")
        return json.loads(text) if text else {}


def kinesis(url):
    return Json(url, "kinesis", "Kinesis_20131202", "1.1")


def dynamodb(url):
    return Json(url, "dynamodb", "DynamoDB_20120810", "1.0")


def make_stream(service, name, shards):
    """Makes a stream and waits until it can be used; the shards' ids."""
    service.call("CreateStream", StreamName=name, ShardCount=shards)
    while True:
        about = service.call("DescribeStreamSummary", StreamName=name)["StreamDescriptionSummary"]
        if about["StreamStatus"] == "ACTIVE":
            break
        time.sleep(0.2)
    listed = service.call("ListShards", StreamName=name)["Shards"]
    return sorted(shard["ShardId"] for shard in listed)


def rows(service, table):
    """Every item of a table, with DynamoDB's types."""
    found, start = [], {}
    while True:
        page = service.call("Scan", TableName=table, ConsistentRead=True, **start)
        found += page["Items"]
        if "LastEvaluatedKey" not in page:
            return found
        start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}


def leases(service, table):
    """The rows of a lease table that are leases, by shard."""
    return {row["leaseKey"]["S"]: row for row in rows(service, table) if "checkpoint" in row}


def open_uploads(s3, bucket):
    """How many multipart uploads are open in a bucket."""
    with urllib.request.urlopen(f"{s3}/{bucket}?uploads", timeout=30) as answer:
        return len(re.findall(rb"<UploadId>", answer.read()))


# A position is a tuple whose order is the KCL's: AT_TIMESTAMP, TRIM_HORIZON, LATEST, numbers, SHARD_END.
SENTINELS = {"AT_TIMESTAMP": -3, "TRIM_HORIZON": -2, "LATEST": -1, "SHARD_END": 1 << 200}


def position(sequence, sub=0):
    return (SENTINELS[sequence] if sequence in SENTINELS else int(sequence), int(sub))


def checkpoint_of(row):
    return position(row["checkpoint"]["S"], row.get("checkpointSubSequenceNumber", {"N": "0"})["N"])


def reached(row):
    """How far a row says that its holder of ours may have delivered: the end of what is pending, or what is finalized."""
    ends = [checkpoint_of(row)]
    for name, value in row.items():
        if name.startswith("sp_"):
            entry = value["M"]
            for at, sub in (("at", "sub"), ("to", "toSub")):
                if at in entry:
                    ends.append(position(entry[at]["S"], entry.get(sub, {"N": "0"})["N"]))
    return max(ends)
