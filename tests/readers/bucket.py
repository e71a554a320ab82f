"""The objects of a bucket, as boto3 reads them: the bytes, without undoing any compression.

Shares no code with Standpipe. Credentials and region come from the environment, as boto3 finds them.
"""

import concurrent.futures

import boto3
import botocore.config


def client(service, endpoint):
    """A client of a server on this machine, which must answer."""
    retries = {"max_attempts": 5, "mode": "standard"}
    config = botocore.config.Config(retries=retries, s3={"addressing_style": "path"}, max_pool_connections=16)
    return boto3.client(service, endpoint_url=endpoint, config=config, region_name="us-east-1")


def objects(endpoint, bucket, prefix=""):
    """Every object below the prefix, by key: (key, bytes)."""
    s3 = client("s3", endpoint)
    keys = []
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        keys.extend(item["Key"] for item in page.get("Contents", []))

    def read(key):
        return key, s3.get_object(Bucket=bucket, Key=key)["Body"].read()

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        # Not all at once: a bucket may be larger than memory.
        for at in range(0, len(keys), 64):
            yield from pool.map(read, keys[at:at + 64])


def open_uploads(endpoint, bucket):
    """Keys of the uploads that nobody has completed or aborted."""
    pages = client("s3", endpoint).get_paginator("list_multipart_uploads").paginate(Bucket=bucket)
    return [upload["Key"] for page in pages for upload in page.get("Uploads", [])]
