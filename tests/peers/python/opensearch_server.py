"""OpenSearch on this machine, and the processes of a run: shared by the run with kills and by the one that measures."""

import atexit
import collections
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import aws

STREAM, TABLE, BUCKET, INDEX = "app-logs", "app-logs", "failed", "web"
RUNNING = []


def children_end_with_us():
    def finish():
        for process in RUNNING:
            if process.poll() is None:
                process.kill()
    atexit.register(finish)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: (finish(), os._exit(130)))


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def started(command, log, **environment):
    with open(log, "ab") as out:
        process = subprocess.Popen(command, env=dict(os.environ, **aws.KEYS, **environment), stdin=subprocess.DEVNULL,
                                   stdout=out, stderr=out, start_new_session=True)
    RUNNING.append(process)
    return process


class Server:
    """OpenSearch on this machine, small in what makes it refuse unless other settings are given."""

    SMALL = ("http.max_content_length=300kb", "thread_pool.write.queue_size=1")

    def __init__(self, work, classpath, settings=SMALL):
        self.folder, self.classpath, self.port = os.path.join(work, "opensearch"), classpath, free_port()
        self.settings = settings
        os.makedirs(os.path.join(self.folder, "config"))
        self.log, self.process = os.path.join(work, "opensearch.log"), None

    def start(self):
        command = [os.environ["PEERS_JAVA"], "-Xms512m", "-Xmx512m", *os.environ.get("PEERS_JAVA_OPTIONS", "").split(),
                   "-cp", self.classpath, "Server", self.folder, str(self.port), *self.settings]
        self.process = started(command, self.log)
        for _ in range(1200):
            if self.process.poll() is not None:
                break
            try:
                if self.ask("GET", "/_cluster/health?wait_for_status=yellow")["status"] in ("yellow", "green"):
                    self.version = self.ask("GET", "/")["version"]["number"]
                    return self
            except (OSError, http.client.HTTPException, KeyError, ValueError):
                time.sleep(0.2)
        with open(self.log, errors="replace") as log:
            sys.exit("OpenSearch does not start:\n" + "".join(collections.deque(log, 20)))

    def stop(self):
        self.process.terminate()
        self.process.wait(120)

    def ask(self, method, path, body=None):
        return self.say(method, path, None if body is None else json.dumps(body), "application/json")

    def lines(self, text):
        return self.say("POST", "/_bulk", text, "application/x-ndjson")

    def say(self, method, path, text, kind):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, text, {"Content-Type": kind})
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def template(self):
        mapping = {"properties": {"n": {"type": "long"}, "code": {"type": "long"}, "text": {"type": "keyword", "index": False, "doc_values": False}}}
        settings = {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "5s"}
        answer = self.ask("PUT", "/_index_template/web",
                          {"index_patterns": [INDEX + "-*"], "template": {"settings": settings, "mappings": mapping}})
        assert answer.get("acknowledged"), answer

    def count(self):
        self.ask("POST", f"/{INDEX}-*/_refresh")
        return self.ask("GET", f"/{INDEX}-*/_count").get("count", 0)

    def documents(self):
        """Every document of every index: index, id, number of its line."""
        page = self.ask("POST", "/_all/_search?scroll=2m", {"size": 5000, "_source": ["n"], "sort": ["_doc"]})
        while page["hits"]["hits"]:
            for hit in page["hits"]["hits"]:
                yield hit["_index"], hit["_id"], hit["_source"].get("n")
            page = self.ask("POST", "/_search/scroll", {"scroll": "2m", "scroll_id": page["_scroll_id"]})

    def rejected(self):
        stats = self.ask("GET", "/_nodes/stats/thread_pool")
        return sum(node["thread_pool"]["write"]["rejected"] for node in stats["nodes"].values())


def tail(path):
    with open(path, errors="replace") as file:
        return " | ".join(line.strip()[:300] for line in collections.deque(file, 5))


def emulator(standpipe, work):
    """The stream, the leases and the bucket: `standpipe emulator`. Gives its address."""
    log = os.path.join(work, "emulator.log")
    started([standpipe, "emulator", "--listen", "127.0.0.1:0", "--data", os.path.join(work, "data"), "--no-limits",
             "--stream", f"{STREAM}:4", "--bucket", BUCKET], log)
    for _ in range(600):
        time.sleep(0.1)
        with open(log) as file:
            text = file.read()
        found = re.search(r"AWS_ENDPOINT_URL[A-Z_0-9]*=(\S+)", text)
        if found and "ready" in text:
            return found.group(1)
    sys.exit("the emulator does not start: " + tail(log))
