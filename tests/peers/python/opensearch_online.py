"""`standpipe check --online` against a real OpenSearch: what it says of the server, of indices, templates, aliases and data
streams, and that it makes none of them."""

import json
import os
import subprocess

import aws
from opensearch_server import BUCKET, STREAM
from settings import say

CONFIG = """version: 1
pipelines:
  look:
    source: {{ kinesis: {{ stream: {stream}, start: latest }} }}
    destinations:
      - opensearch: {{ endpoint: "http://127.0.0.1:{port}", auth: none, index: {index}, rotation: none, backup: {{ bucket: {bucket} }}{more} }}
"""


def looks(standpipe, work, server, url):
    """The faults; `url` is the emulator's."""
    wrong = []

    def check(name, index, code, what, found, says, more=""):
        path = os.path.join(work, "look.yaml")
        with open(path, "w") as file:
            file.write(CONFIG.format(stream=STREAM, port=server.port, index=index, bucket=BUCKET, more=more))
        done = subprocess.run([standpipe, "check", "-c", path, "--online", "--output", "json"], capture_output=True, text=True,
                              env=dict(os.environ, **aws.KEYS, AWS_ENDPOINT_URL=url), timeout=180)
        report = json.loads(done.stdout) if done.stdout else {"online": [], "stderr": done.stderr}
        lines = [line for line in report["online"] if (line["what"], line["found"]) == (what, found)]
        say("check", f"{name}: exit {done.returncode}, {[line['says'] for line in lines]}")
        if done.returncode != code or not any(says in f"{line['says']} {line['hint']}" for line in lines):
            wrong.append(f"check --online, {name}: exit {done.returncode} instead of {code}, no {what!r} {found} {says!r} in {report}")

    def put(path, body):
        answer = server.ask("PUT", path, body)
        assert answer.get("acknowledged"), answer

    def names():
        found = server.ask("GET", "/_resolve/index/look*")
        return sorted(one["name"] for kind in found.values() for one in kind)

    name = f"http://127.0.0.1:{server.port}"
    check("the server", "look-new", 0, name, "ok", "OpenSearch ")
    check("no index, no template", "look-new", 0, "index look-new", "note", "guesses")
    check("no data stream, no template", "look-new", 3, "data stream look-new", "wrong", "_index_template/look-new", ", data_stream: true")
    put("/_index_template/look-plain", {"index_patterns": ["look-p*"], "priority": 5})
    put("/_index_template/look-streams", {"index_patterns": ["look-s*"], "data_stream": {}, "priority": 7})
    check("a template", "look-plain", 0, "index look-plain", "ok", "by template look-plain")
    check("a template of streams", "look-s1", 0, "data stream look-s1", "ok", "by template look-streams", ", data_stream: true")
    check("an index that would be a stream", "look-s1", 3, "index look-s1", "wrong", "data_stream: true")
    put("/_data_stream/look-s2", None)
    check("a stream", "look-s2", 0, "data stream look-s2", "ok", "there", ", data_stream: true")
    check("a stream that is taken for an index", "look-s2", 3, "index look-s2", "wrong", "is a data stream")
    put("/look-p1", {"aliases": {"look-alias": {}}})
    put("/look-p2", {"aliases": {"look-alias": {}}})
    check("an index", "look-p1", 0, "index look-p1", "ok", "there")
    check("an index that is taken for a stream", "look-p1", 3, "data stream look-p1", "wrong", "is an index", ", data_stream: true")
    check("an alias of two", "look-alias", 0, "index look-alias", "note", "is_write_index")
    put("/_cluster/settings", {"transient": {"action.auto_create_index": "-look-n*,+*"}})
    check("a cluster that makes no index", "look-new", 3, "index look-new", "wrong", "action.auto_create_index")
    put("/_cluster/settings", {"transient": {"action.auto_create_index": None}})
    if names() != ["look-alias", "look-p1", "look-p2", "look-s2"]:
        wrong.append(f"a check has made something: {names()}")
    for path in ("/look-p1,look-p2", "/_data_stream/look-s2", "/_index_template/look-plain", "/_index_template/look-streams"):
        server.ask("DELETE", path)
    return wrong
