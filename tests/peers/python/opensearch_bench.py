#!/usr/bin/env python3
"""Documents a second and CPU seconds a GB of our bulk path, beside opensearch-py's `helpers.bulk` on the same server.

    opensearch_bench.py [--lines N] [--rounds N]

Both send the same web log lines under ids of their own (`create`), into an index each, in requests of at most 5 MiB. Ours is
`standpipe run` as it is: it leases four shards, reads them from the emulator, makes documents and sends them, with up to
eight requests under way; the stream is full before it starts. Theirs takes the lines as they are from a file, without reading
them as JSON, and has one request under way.
CPU is what the kernel says of the process from its start to its end; the time runs from its start until it has ended by
itself. They take turns on a server that is warm, and the least of the rounds counts. Of the figures nothing is demanded but that both have
delivered every line.
"""

import argparse
import base64
import json
import os
import subprocess
import sys
import time

import zstandard

import aws
from opensearch_server import BUCKET, INDEX, STREAM, Server, children_end_with_us, emulator, tail
from settings import end, say

CONFIG = """\
version: 1
http: "off"
aws: {{ region: {region} }}
worker: {{ id: one, memory: 256MiB }}
pipelines:
  search:
    lease: {{ table: {table}, failover: 10s }}
    source: {{ kinesis: {{ stream: {stream}, start: trim_horizon, read: polling, poll: 200ms }} }}
    destinations:
      - opensearch:
          endpoint: http://127.0.0.1:{port}
          auth: none
          index: {index}
          rotation: none
          compression: {compression}
          buffer: {{ size: 5MiB, interval: 1s }}
          backup: {{ bucket: {bucket}, prefix: "refused/" }}
"""
PLAIN = """
import os, sys
from opensearchpy import OpenSearch, helpers
port, index, file, compress = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4] == "gzip"
client = OpenSearch([{"host": "127.0.0.1", "port": port}], http_compress=compress, timeout=120)
with open(file) as lines:
    actions = ({"_op_type": "create", "_index": index, "_id": str(n), "_source": line.rstrip()} for n, line in enumerate(lines))
    print(helpers.bulk(client, actions, chunk_size=10_000, max_chunk_bytes=5 << 20, refresh=False)[0])
"""


def written(count, path):
    """Writes so many lines, each with a number. Gives their bytes, without the line feeds."""
    with open(os.path.join(os.environ["PEERS_DATA"], "web-log.jsonl.zst"), "rb") as packed:
        text = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True).read()
    template, total = [json.loads(line) for line in text.splitlines()], 0
    with open(path, "w") as out:
        for n in range(count):
            line = json.dumps({"n": n, **template[n % len(template)]})
            total += len(line)
            out.write(line + "\n")
    return total


def filled(url, path):
    service, chunk = aws.kinesis(url), []

    def put():
        answer = service.call("PutRecords", StreamName=STREAM, Records=chunk)
        assert answer["FailedRecordCount"] == 0, answer
        chunk.clear()
    with open(path, "rb") as lines:
        for n, line in enumerate(lines):
            chunk.append({"Data": base64.b64encode(line.rstrip()).decode(), "PartitionKey": str(n)})
            if len(chunk) == 500:
                put()
        if chunk:
            put()


def measured(command, log, **environment):
    """Runs a program to its end. Gives its seconds and its CPU seconds."""
    with open(log, "ab") as out:
        begin = time.monotonic()
        process = subprocess.Popen(command, env=dict(os.environ, **aws.KEYS, **environment), stdin=subprocess.DEVNULL,
                                   stdout=out, stderr=out, start_new_session=True)
        _, status, usage = os.wait4(process.pid, 0)
        took = time.monotonic() - begin
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"{command[0]} ended with {os.waitstatus_to_exitcode(status)}: {tail(log)}")
    return took, usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    children_end_with_us()
    work, standpipe = os.environ["PEERS_WORK"], os.environ["PEERS_STANDPIPE"]
    server = Server(work, os.environ["PEERS_CLASSPATH"], ()).start()
    settings = {"number_of_shards": 2, "number_of_replicas": 0, "refresh_interval": "-1"}
    server.ask("PUT", "/_index_template/web", {"index_patterns": [INDEX + "-*"], "template": {"settings": settings}})
    url = emulator(standpipe, work)
    path, plain = os.path.join(work, "lines.jsonl"), os.path.join(work, "plain.py")
    total = written(arguments.lines, path)
    with open(plain, "w") as file:
        file.write(PLAIN)
    filled(url, path)
    say("input", f"{arguments.lines:,} lines, {total / 1e6:.0f} MB; OpenSearch {server.version}")
    # A server that has just started compiles as it goes: the first run of anybody is slow, and does not count.
    measured([sys.executable, plain, str(server.port), f"{INDEX}-warm", path, "none"], os.path.join(work, "warm.log"))
    faults, best = [], {}
    for turn in range(arguments.rounds * 2):
        for who in ("Standpipe", "helpers.bulk"):
            compression = ("none", "gzip")[turn % 2]
            index = f"{INDEX}-{'ours' if who == 'Standpipe' else 'theirs'}-{turn}"
            log = os.path.join(work, index + ".log")
            if who == "Standpipe":
                config = os.path.join(work, index + ".yaml")
                with open(config, "w") as file:
                    file.write(CONFIG.format(region=aws.REGION, table=index, stream=STREAM, index=index, bucket=BUCKET,
                                             port=server.port, compression=compression))
                command = [standpipe, "run", "-c", config, "--until", "caught-up"]
                took, cpu = measured(command, log, AWS_ENDPOINT_URL=url)
            else:
                took, cpu = measured([sys.executable, plain, str(server.port), index, path, compression], log)
            server.ask("POST", f"/{index}/_refresh")
            count = server.ask("GET", f"/{index}/_count").get("count")
            if count != arguments.lines:
                faults.append(f"{who}: {count} documents of {arguments.lines}")
            server.ask("DELETE", f"/{index}")
            least = best.get((who, compression), (took, cpu))
            best[who, compression] = min(least[0], took), min(least[1], cpu)
            say(who, f"{compression}: {arguments.lines / took:,.0f} documents/s, {cpu / (total / 1e9):.1f} CPU s/GB")
    for compression in ("none", "gzip"):
        (ours, ours_cpu), (theirs, theirs_cpu) = best["Standpipe", compression], best["helpers.bulk", compression]
        say("ratio", f"{compression}: ours has {theirs / ours:.2f} times the documents/s for {ours_cpu / theirs_cpu:.2f} of the CPU")
    server.stop()
    end(faults)


if __name__ == "__main__":
    main()
