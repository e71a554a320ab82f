"""The tables after a clean end, as boto3 reads them: whether the committed ranges of each shard chain.

Shares no code with Standpipe.
"""

import boto3.dynamodb.types
import bucket

PLAIN = boto3.dynamodb.types.TypeDeserializer()


def rows(endpoint, table):
    pages = bucket.client("dynamodb", endpoint).get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    for page in pages:
        for item in page["Items"]:
            yield {name: PLAIN.deserialize(value) for name, value in item.items()}


def check(endpoint, table, destination, lines, open_shards):
    """What is wrong, as a list. `lines` says how many lines each object has, by key."""
    wrong, ranges, named = [], {}, set()
    for receipt in rows(endpoint, f"{table}-standpipe-commits"):
        if "state" not in receipt:
            continue
        keys = [output["key"] for output in receipt["outputs"]]
        if receipt["state"] == "RETRACTED":
            wrong += [f"{key} is retracted and visible" for key in keys if key in lines]
            continue
        if receipt["state"] != "DONE":
            wrong.append(f"receipt {receipt['cid']} is {receipt['state']}")
        named.update(keys)
        if sum(lines.get(key, 0) for key in keys) != receipt["records"]:
            wrong.append(f"receipt {receipt['cid']} covers {receipt['records']} records and its objects have others")
        for shard in receipt["shards"]:
            of_shard = ranges.setdefault(shard["lease"], {})
            begin = (str(shard["from"]), str(shard["fromSub"]))
            if begin in of_shard:
                wrong.append(f"two receipts begin at {begin[0]} of {shard['lease']}")
            of_shard[begin] = (str(shard["to"]), str(shard["toSub"]))
    wrong += [f"{key} is named by no receipt" for key in lines if key not in named]
    leases = {row["leaseKey"]: row for row in rows(endpoint, table) if "checkpoint" in row}
    for key, row in leases.items():
        at, of_shard = ("TRIM_HORIZON", "0"), ranges.pop(key, {})
        while at in of_shard:
            at = of_shard.pop(at)
        if of_shard:
            wrong.append(f"{len(of_shard)} ranges of {key} do not chain: the chain ends at {at[0]}")
        position = row[destination]
        if (str(position["at"]), str(position["sub"])) != at:
            wrong.append(f"the ranges of {key} end at {at[0]}, its row says {position['at']}")
        if (str(row["checkpoint"]), str(row["checkpointSubSequenceNumber"])) != at:
            wrong.append(f"checkpoint of {key} is {row['checkpoint']}, its ranges end at {at[0]}")
        if "cid" in position:
            wrong.append(f"{key} still carries a commit")
        if (row["checkpoint"] == "SHARD_END") == (key in open_shards):
            wrong.append(f"{key} has ended and is open, or neither")
    wrong += [f"{key} has receipts and no lease" for key in ranges]
    wrong += [f"{key} is open and has no lease" for key in open_shards if key not in leases]
    return wrong
