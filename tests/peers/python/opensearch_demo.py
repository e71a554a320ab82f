#!/usr/bin/env python3
"""`standpipe demo --destination opensearch` on a real OpenSearch, and its report beside what the server says."""

import json
import os
import subprocess
import sys

from opensearch_server import Server, children_end_with_us
from settings import end, say

INDEX = "standpipe-demo-orders"


def main():
    children_end_with_us()
    work, standpipe = os.environ["PEERS_WORK"], os.environ["PEERS_STANDPIPE"]
    command = [standpipe, "demo", "--destination", "opensearch", "--dir", os.path.join(work, "demo"), *sys.argv[1:]]
    faults = []
    told = subprocess.run(command, env={k: v for k, v in os.environ.items() if k != "STANDPIPE_DEMO_OPENSEARCH"},
                          capture_output=True, text=True)
    if told.returncode != 2 or "STANDPIPE_DEMO_OPENSEARCH" not in told.stderr:
        faults.append(f"without a server: {told.returncode} {told.stderr}")
    server = Server(work, os.environ["PEERS_CLASSPATH"], ()).start()
    environment = dict(os.environ, STANDPIPE_DEMO_OPENSEARCH=f"http://127.0.0.1:{server.port}")
    for report in ([], ["--output", "json"]):
        told = subprocess.run(command + report, env=environment, stdout=subprocess.PIPE, text=True)
        if told.returncode != 0:
            faults.append(f"the demo ended with {told.returncode}")
            break
        if not report:
            print(told.stdout, flush=True)
            continue
        counted = json.loads(told.stdout)
        server.ask("POST", f"/{INDEX}/_refresh")
        count = server.ask("GET", f"/{INDEX}/_count").get("count")
        distinct = server.ask("POST", f"/{INDEX}/_search?size=0", {"aggs": {"ids": {"cardinality": {"field": "id", "precision_threshold": 40000}}}})
        say("counted", f"{count} documents, about {distinct['aggregations']['ids']['value']} ids, {counted['produced']} produced")
        if not count == counted["delivered"] == counted["produced"]:
            faults.append(f"the report says {counted}, the server {count}")
    server.stop()
    end(faults)


if __name__ == "__main__":
    main()
