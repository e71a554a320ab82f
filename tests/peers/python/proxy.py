"""A door in front of a server for one worker: it hands requests on, and notes each with its time. So what a worker asked
for is counted at the server, in the same way for programs of any kind.
"""

import collections
import http.client
import http.server
import json
import threading
import time
import urllib.parse

# `at` is when the answer had come, by the monotonic clock; `shard` is known for reads of a stream.
Call = collections.namedtuple("Call", "at worker operation shard status")

# Hop by hop, or written anew.
DROPPED = {"connection", "transfer-encoding", "content-length", "keep-alive", "date", "server"}


class Journal:
    """All calls of a run, and which iterator belongs to which shard."""

    def __init__(self):
        self.lock, self.calls, self.shards, self.doors = threading.Lock(), [], {}, []

    def door(self, worker, url):
        """Opens a door for a worker to a server; its URL."""
        handler = type("Door", (Handler,), {"journal": self, "worker": worker, "upstream": urllib.parse.urlsplit(url)})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.doors.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    def note(self, worker, operation, body, status, answer):
        shard = None
        if operation in ("GetShardIterator", "GetRecords"):
            asked, said = json.loads(body), json.loads(answer) if status == 200 else {}
            with self.lock:
                shard = asked.get("ShardId") or self.shards.get(asked.get("ShardIterator"))
                for name in ("ShardIterator", "NextShardIterator"):
                    if said.get(name):
                        self.shards[said[name]] = shard
        with self.lock:
            self.calls.append(Call(time.monotonic(), worker, operation, shard, status))

    def first_read(self, shard, since, workers):
        """When one of these workers had its first answer to a read of the shard after a moment, or None."""
        with self.lock:
            return min((call.at for call in self.calls if call.operation == "GetRecords" and call.shard == shard
                        and call.status == 200 and call.at > since and call.worker in workers), default=None)

    def count(self, since, until, workers):
        with self.lock:
            return collections.Counter(
                call.operation for call in self.calls if since <= call.at < until and call.worker in workers)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upper = None

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in DROPPED}
        try:
            answer, content = self.ask(body, headers)
        except (OSError, http.client.HTTPException):
            # As a server that goes away: the worker sees a connection that ends.
            self.close_connection = True
            return
        operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        self.journal.note(self.worker, operation, body, answer.status, content)
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in DROPPED:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def ask(self, body, headers):
        # The server may have closed a connection that was idle; that request was not served.
        for fresh in (False, True):
            if self.upper is None or fresh:
                self.upper = http.client.HTTPConnection(self.upstream.netloc, timeout=60)
            try:
                self.upper.request("POST", self.path, body, headers)
                answer = self.upper.getresponse()
                return answer, answer.read()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                if fresh:
                    raise

    def handle(self):
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            pass

    def log_message(self, *_):
        pass
