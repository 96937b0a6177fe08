"""Bytes that two readers may take for different requests, sent straight to the server and through nginx: both count the
same requests, and none that hides in another is executed."""

import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time

import pytest

from conftest import TINY_BERT, Server, wait_for
from test_clients import SOON_S

HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
# The canary: nothing else here asks for it.
HIDDEN = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
EMBED = b'{"inputs":"a"}'


def post(headers, body=b"", version=b"HTTP/1.1"):
    return b"POST /embed " + version + b"\r\n" + HOST + JSON + headers + b"\r\n" + body


def get(headers=b"", body=b"", target=b"/readyz"):
    return b"GET " + target + b" HTTP/1.1\r\n" + HOST + headers + b"\r\n" + body


def length(number):
    return b"Content-Length: %d\r\n" % number


LENGTH = length(len(EMBED))
WHOLE = b"e\r\n" + EMBED + b"\r\n0\r\n\r\n"

CASES = {
    # Good ones, which show that the counts count.
    "one": get(),
    "two in a row": get() + get(),
    "a body": post(LENGTH, EMBED),
    "a body in chunks": post(CHUNKED, WHOLE),
    "a body, then another request": post(LENGTH, EMBED) + HIDDEN,
    "chunks, then another request": post(CHUNKED, WHOLE) + HIDDEN,
    # H1
    "length and chunks": post(LENGTH + CHUNKED, b"0\r\n\r\n" + HIDDEN),
    "chunks and length": post(CHUNKED + length(5 + len(HIDDEN)), b"0\r\n\r\n" + HIDDEN),
    "length 0 and chunks": post(length(0) + CHUNKED, b"0\r\n\r\n" + HIDDEN),
    # H2
    **{f"coding {coding.decode(errors='replace')}": post(b"Transfer-Encoding: " + coding + b"\r\n", b"0\r\n\r\n" + HIDDEN)
       for coding in (b"xchunked", b"identity", b"gzip, chunked", b"chunked, chunked", b"chunked, identity",
                      b"\x0bchunked", b"chunked;q=1", b'"chunked"', b"")},
    "two codings": post(CHUNKED + b"Transfer-Encoding: identity\r\n", b"0\r\n\r\n" + HIDDEN),
    "chunks in HTTP/1.0": post(CHUNKED, b"0\r\n\r\n" + HIDDEN, b"HTTP/1.0"),
    # H3
    "two equal lengths": post(LENGTH + LENGTH, EMBED + HIDDEN),
    "two lengths": post(LENGTH + length(len(EMBED + HIDDEN)), EMBED + HIDDEN),
    "two lengths, the other order": post(length(len(EMBED + HIDDEN)) + LENGTH, EMBED + HIDDEN),
    "a list of lengths": post(b"Content-Length: 14, 14\r\n", EMBED + HIDDEN),
    # H4
    **{f"length {text!r}": post(b"Content-Length: " + text + b"\r\n", EMBED + HIDDEN)
       for text in (b"-1", b"+14", b"0xe", b"18446744073709551630", b"", b"1 4", b"14.0", b"14a")},
    # H5
    "a space before the colon": post(b"Content-Length : 0\r\n" + CHUNKED, b"0\r\n\r\n" + HIDDEN),
    "a space before the coding's colon": post(b"Transfer-Encoding : chunked\r\n" + length(5), b"0\r\n\r\n" + HIDDEN),
    "a tab before the colon": post(b"Transfer-Encoding\t: chunked\r\n" + length(5), b"0\r\n\r\n" + HIDDEN),
    "a fold": post(b"X-A: b\r\n Transfer-Encoding: chunked\r\n" + length(5), b"0\r\n\r\n" + HIDDEN),
    "a folded coding": post(b"Transfer-Encoding:\r\n chunked\r\n" + length(5), b"0\r\n\r\n" + HIDDEN),
    "a bare line feed": post(b"X-A: b\nTransfer-Encoding: chunked\r\n" + length(5), b"0\r\n\r\n" + HIDDEN),
    "a bare carriage return": post(b"X-A: b\rTransfer-Encoding: chunked\r\n" + length(5), b"0\r\n\r\n" + HIDDEN),
    "a NUL": post(b"X-A: b\0c\r\n" + length(5), b"0\r\n\r\n" + HIDDEN),
    "an underscore, then another request": post(b"Transfer_Encoding: chunked\r\n" + length(5), b"0\r\n\r\n" + HIDDEN),
    "line feeds only": b"GET /readyz HTTP/1.1\nHost: localhost\n\n" + HIDDEN,
    # H6
    "a size that is none": post(CHUNKED, b"zz\r\n" + HIDDEN),
    "a size past 64 bits": post(CHUNKED, b"1000000000000000e\r\n" + EMBED + b"\r\n0\r\n\r\n" + HIDDEN),
    "a negative size": post(CHUNKED, b"-e\r\n" + EMBED + b"\r\n0\r\n\r\n" + HIDDEN),
    "a size in 0x": post(CHUNKED, b"0xe\r\n" + EMBED + b"\r\n0\r\n\r\n" + HIDDEN),
    "a chunk that is longer than its size": post(CHUNKED, b"2\r\n" + EMBED + b"\r\n0\r\n\r\n" + HIDDEN),
    "a size that ends in a line feed": post(CHUNKED, b"e\n" + EMBED + b"\r\n0\r\n\r\n" + HIDDEN),
    "a long extension": post(CHUNKED, b"e;" + b"a" * 20000 + b"\r\n" + EMBED + b"\r\n0\r\n\r\n" + HIDDEN),
    "a trailer that is a length": post(CHUNKED, b"e\r\n" + EMBED + b"\r\n0\r\nContent-Length: 44\r\n\r\n" + HIDDEN),
    "a trailer that is a host, then another request": post(CHUNKED, b"e\r\n" + EMBED + b"\r\n0\r\nHost: evil.example\r\n\r\n" + HIDDEN),
    # Hidden ones.
    "GET with a body": get(length(len(HIDDEN)), HIDDEN),
    "GET with chunks": get(CHUNKED, b"%x\r\n" % len(HIDDEN) + HIDDEN + b"\r\n0\r\n\r\n"),
    "an unknown route with a body": get(length(len(HIDDEN)), HIDDEN, b"/nope"),
    "a body that is refused": post(length(len(HIDDEN)) + b"Content-Encoding: gzip\r\n", HIDDEN),
    "a body that is no JSON": post(length(len(HIDDEN)), HIDDEN),
    "a wrong method with a body": b"DELETE /readyz HTTP/1.1\r\n" + HOST + length(len(HIDDEN)) + b"\r\n" + HIDDEN,
    "two hosts": get(b"Host: evil.example\r\n" + length(len(HIDDEN)), HIDDEN),
    "a target with a line end": get(target=b"/readyz%0d%0aHost:%20evil.example%0d%0a%0d%0aGET%20/livez"),
    "an absolute target": get(target=b"http://localhost/readyz", headers=length(len(HIDDEN)), body=HIDDEN),
    "Expect with a body": get(b"Expect: 100-continue\r\n" + length(len(HIDDEN)), HIDDEN),
    "an upgrade": get(b"Connection: upgrade\r\nUpgrade: h2c\r\n" + length(len(HIDDEN)), HIDDEN),
}


@pytest.fixture(scope="module")
def server():
    server = Server({"embed": TINY_BERT}, "--backend", "cpu", "--body-timeout-ms", 500).wait_until_ready()
    yield server
    assert server.stop() == 0, server.read_log()


CONFIGURATION = """
user root;
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  log_format seen '$request_method $uri $status "$upstream_addr"';
  access_log {folder}/access.log seen;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream cortex {{ server 127.0.0.1:{upstream}; keepalive 4; }}
  server {{
    listen unix:{address};
    client_header_timeout 500ms;
    client_body_timeout 500ms;
    keepalive_timeout 200ms;
    location / {{
      proxy_pass http://cortex;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host localhost;
      proxy_request_buffering {buffering};
      proxy_next_upstream off;
    }}
  }}
}}
"""


class Proxy:
    def __init__(self, upstream, buffering):
        binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/opt/homebrew/bin:/usr/local/bin")
        assert binary, "script/setup tests installs nginx"
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="cortex-e2e-nginx-"))
        self.address = str(self.folder / "socket")
        configuration = self.folder / "nginx.conf"
        configuration.write_text(CONFIGURATION.format(folder=self.folder, upstream=upstream, address=self.address,
                                                      buffering=buffering))
        self.process = subprocess.Popen([binary, "-e", str(self.folder / "error.log"), "-c", str(configuration)])
        wait_for(self._answers, SOON_S, lambda: (self.folder / "error.log").read_text())

    def _answers(self):
        with socket.socket(socket.AF_UNIX) as connection:
            return connection.connect_ex(self.address) == 0

    def requests(self):
        """What nginx has sent on: how many requests, and how many of them for the canary."""
        lines = [line.split(" ") for line in (self.folder / "access.log").read_text(errors="replace").splitlines()]
        passed = [line for line in lines if line[-1] != '"-"']
        return len(passed), sum(line[1] == "/livez" for line in passed)

    def stop(self):
        self.process.terminate()
        self.process.wait(SOON_S)
        shutil.rmtree(self.folder)


@pytest.fixture(scope="module", params=["on", "off"], ids=["nginx reads bodies first", "nginx passes bodies on"])
def proxy(server, request):
    proxy = Proxy(server.port, request.param)
    yield proxy
    proxy.stop()


def exchange(address, data, half_close=True):
    """Sends bytes; all that comes back until the peer closes. One that resets has said what it had to say."""
    with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as connection:
        connection.settimeout(SOON_S)
        connection.connect(address)
        answer = b""
        try:
            connection.sendall(data)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                answer += chunk
        except TimeoutError:
            raise
        except OSError:
            pass
    return answer


def counted(server):
    """What the server has answered, pages of metrics left out: how many requests, and how many for the canary."""
    counts = re.findall(r'^cortex_requests_total\{.*endpoint="([^"]*)".*\} (\d+)$', server.get("/metrics").text, re.M)
    return (sum(int(count) for endpoint, count in counts if endpoint != "/metrics"),
            sum(int(count) for endpoint, count in counts if endpoint == "/livez"))


def settled(read):
    """Once a number is the same over a while: the last request may not be counted yet."""
    seen = [read()]

    def stands():
        time.sleep(0.05)
        seen.append(read())
        return seen[-1] == seen[-2]

    wait_for(stands, SOON_S, lambda: f"never stands still: {seen}")
    return seen[-1]


def difference(after, before):
    return tuple(a - b for a, b in zip(after, before))


@pytest.mark.parametrize("name", CASES)
def test_straight_every_request_has_one_answer(server, name):
    before = settled(lambda: counted(server))
    answer = exchange(("127.0.0.1", server.port), CASES[name])
    answers = len(re.findall(rb"HTTP/1\.1 [2-5]\d\d ", answer))
    assert server.get("/readyz").status_code == 200  # and is counted too
    wait_for(lambda: counted(server)[0] > before[0] + answers, SOON_S, lambda: str(answer))
    requests, hidden = difference(settled(lambda: counted(server)), before)
    assert answers + 1 == requests, answer
    assert hidden == (1 if name.endswith("then another request") else 0), answer


@pytest.mark.parametrize("name", CASES)
def test_behind_nginx_both_see_the_same_requests(server, proxy, name):
    before, sent_before = settled(lambda: counted(server)), settled(proxy.requests)

    def counts():
        return difference(counted(server), before), difference(proxy.requests(), sent_before)

    exchange(proxy.address, CASES[name], half_close=False)  # which nginx takes for a client that has left
    # Whoever is smuggled past it would be met by the next one's request on a connection that is kept.
    for _ in range(2):
        assert exchange(proxy.address, get(), half_close=False).startswith(b"HTTP/1.1 200 ")
    wait_for(lambda: len(set(counts())) == 1, SOON_S, lambda: "cortex answered {}, nginx sent {}".format(*counts()))
    seen, sent = settled(counts)
    assert seen == sent, f"cortex answered {seen}, nginx sent {sent}"
    assert seen[0] >= 2
