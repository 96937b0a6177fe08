"""A hub on this machine: the endpoint that answers about repositories, and the other host that large files come from."""

import hashlib
import http.server
import json
import re
import threading
import urllib.parse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def git_sha1(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub:
    """`files` are those of acme/tiny. Requests are kept in `seen` as (server, method, path, headers)."""

    def __init__(self, files, large=()):
        self.files = dict(files)
        self.large = set(large)  # come from the other host, checked by SHA-256
        self.seen = []
        self.status = {}  # path -> status and headers to answer with instead
        self.passing = {}  # path -> statuses and headers to answer with first, one a request
        self.token = None  # what the endpoint wants
        self.cut_after = []  # bytes of a body's content after which the connection breaks, one per answer
        self.spoil = set()  # contents that are not what was promised
        self.redirect_to = None  # of large files; by default the other host
        self.prefix = ""  # of the endpoint's paths
        self.held = None  # an event that answers from the other host wait for in mid-file
        self.ranges = True
        self.endpoint = self._serve("endpoint", self._answer_endpoint)
        self.other = self._serve("other", self._answer_other)

    def _serve(self, name, answer):
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                hub.seen.append((name, self.command, self.path, dict(self.headers)))
                answer(self)

            def log_message(self, *arguments):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def stop(self):
        if self.held:
            self.held.set()
        for server in (self.endpoint, self.other):
            server.shutdown()
            server.server_close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.endpoint.server_address[1]}"

    @property
    def other_url(self):
        # Another name as well as another port.
        return f"http://localhost:{self.other.server_address[1]}"

    def requests_to(self, server):
        return [(path, headers) for name, _, path, headers in self.seen if name == server]

    def checksum(self, path):
        content = self.files[path]
        return hashlib.sha256(content).hexdigest() if path in self.large else git_sha1(content)

    def _answer_endpoint(self, request):
        path = urllib.parse.unquote(urllib.parse.urlsplit(request.path).path)
        if not path.startswith(self.prefix):
            return self._reply(request, 404, b'{"error":"Not Found"}')
        path = path.removeprefix(self.prefix)
        if path in self.status:
            status, headers = self.status[path]
            return self._reply(request, status, b'{"error":"no"}', headers)
        if self.passing.get(path):
            status, headers = self.passing[path].pop(0)
            return self._reply(request, status, b'{"error":"later"}', headers)
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return self._reply(request, 401, b'{"error":"no"}', {"X-Error-Code": "GatedRepo"})
        if re.fullmatch(r"/api/models/acme/tiny/revision/(main|v1|refs/pr/1|[0-9a-f]{40})", path):
            return self._reply(request, 200, json.dumps(self._listing()).encode())
        match = re.fullmatch(f"/acme/tiny/resolve/{COMMIT}/(.+)", path)
        if not match or match[1] not in self.files:
            return self._reply(request, 404, b'{"error":"Not Found"}')
        if match[1] not in self.large:
            return self._send_file(request, match[1])
        location = self.redirect_to or f"{self.other_url}/signed/{match[1]}"
        return self._reply(request, 302, b"moved", {"Location": location, "X-Repo-Commit": COMMIT})

    def _listing(self):
        siblings = []
        for path, content in self.files.items():
            sibling = {"rfilename": path, "size": len(content), "blobId": git_sha1(content)}
            if path in self.large:
                sibling["lfs"] = {"sha256": self.checksum(path), "size": len(content), "pointerSize": 134}
            siblings.append(sibling)
        return {"id": "acme/tiny", "sha": COMMIT, "siblings": siblings}

    def _answer_other(self, request):
        self._send_file(request, urllib.parse.unquote(request.path).removeprefix("/signed/"))

    def _send_file(self, request, path):
        content = self.files[path]
        if path in self.spoil:
            content = bytes(len(content))
        etag = f'"{self.checksum(path)}"'
        first = 0
        match = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        if match and self.ranges and request.headers.get("If-Range", etag) == etag:
            first = int(match[1])
            if first >= len(content):
                return self._reply(request, 416, b"")
        headers = {"ETag": etag}
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        self._reply(request, 206 if first else 200, content[first:], headers, breakable=True)

    def _reply(self, request, status, body, headers=(), breakable=False):
        request.send_response(status)
        for name, value in dict(headers).items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if breakable and self.cut_after:
            request.wfile.write(body[: self.cut_after.pop(0)])
            request.wfile.flush()
            request.connection.shutdown(2)
            request.close_connection = True
            return
        if breakable and self.held:
            request.wfile.write(body[: len(body) // 2])
            request.wfile.flush()
            self.held.wait(60)
            return
        request.wfile.write(body)
