"""http_load against a server with tiny models and against one that breaks off, and bench/serve_compare with programs that
say what they are told to. No test asserts how long something takes."""

import http.server
import json
import os
import stat
import subprocess
import sys
import threading

import pytest

from conftest import BINARY, ROOT

HTTP_LOAD = BINARY.parent / "bench" / "http_load"


def http_load(url, *arguments):
    return subprocess.run([str(HTTP_LOAD), "--url", url, *map(str, arguments)], capture_output=True, text=True,
                          timeout=120)


def report_of(url, *arguments):
    result = http_load(url, "--json", *arguments)
    assert result.returncode == 0, result.stderr + result.stdout
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


@pytest.mark.parametrize("arrival, arguments", [
    ("at_once", []), ("sequential", ["--sequential"]), ("poisson", ["--rate", 100]),
])
def test_what_is_reported_of_chats(tiny, arrival, arguments):
    report = report_of(tiny.url, "--model", "tiny-chat", "--chats", 4, "--prompt-tokens", 10, "--output-tokens", 8,
                       "--pid", tiny.process.pid, *arguments)
    assert report["load"]["arrival"] == arrival and report["load"]["chats"] == 4
    chats = report["chats"]
    assert (chats["chats"], chats["failed"], report["errors"]) == (4, 0, [])
    assert 10 * 4 < chats["prompt_tokens"] < 512 * 4, "more than a token a word: the vocabulary is tiny"
    assert 0 < chats["output_tokens"] <= 8 * 4
    assert 0 <= chats["hit_rate"] == pytest.approx(chats["cached_tokens"] / chats["prompt_tokens"], abs=0.001)
    assert len(chats["each"]) == 4
    for key in ("prompt_tokens", "cached_tokens", "output_tokens"):
        assert chats[key] == sum(each[key] for each in chats["each"])
    for key in ("first_token_ms", "between_tokens_ms"):
        spread = chats[key]
        assert 0 <= spread["p50"] <= spread["p90"] <= spread["p99"] <= spread["max"] <= report["wall_ms"]
    seconds = chats["wall_ms"] / 1000
    assert chats["output_tokens_per_s"] == pytest.approx(chats["output_tokens"] / seconds, rel=0.01)
    assert chats["total_tokens_per_s"] > chats["output_tokens_per_s"] >= chats["good_tokens_per_s"]
    assert report["memory"]["most_bytes"] >= report["memory"]["last_bytes"] > 1 << 20
    assert 0 < report["client_cpu_share"]


def test_one_after_another_do_not_overlap(tiny):
    each = report_of(tiny.url, "--chats", 3, "--sequential", "--prompt-tokens", 5)["chats"]["each"]
    for before, after in zip(each, each[1:]):
        assert after["start_ms"] >= before["end_ms"] > before["start_ms"]


def test_a_long_prompt_and_embeddings_beside_chats(tiny):
    report = report_of(tiny.url, "--chats", 2, "--prompt-tokens", 5, "--output-tokens", 4, "--long-tokens", 40,
                       "--long-after-ms", 30, "--embed-calls", 3, "--embed-texts", 2, "--embed-tokens", 3)
    assert report["chats"]["chats"] == 2
    (one,) = report["long_chat"]["each"]
    assert one["start_ms"] == 30 and one["prompt_tokens"] > max(e["prompt_tokens"] for e in report["chats"]["each"])
    assert report["embeds"]["calls"] == 3 and len(report["embeds"]["each_ms"]) == 3
    alone = report_of(tiny.url, "--chats", 0, "--embed-calls", 1, "--embed-tokens", 3)
    assert "chats" not in alone and len(alone["embeds"]["each_ms"]) == 1


def test_for_people(tiny):
    result = http_load(tiny.url, "--chats", 2, "--prompt-tokens", 5, "--output-tokens", 4)
    assert result.returncode == 0
    for words in ("chats            2, all at once; 0 failed", "first token      p50 ", "between tokens   p50 ", " of a core"):
        assert words in result.stdout


def test_what_a_server_refuses_is_told(tiny):
    result = http_load(tiny.url, "--chats", 3, "--prompt-tokens", 4000, "--json")
    assert result.returncode == 1 and "3 requests failed" in result.stderr
    report = json.loads(result.stdout)
    assert sum(error["count"] for error in report["errors"]) == 3
    assert all(error["message"].startswith("status 400: ") for error in report["errors"])
    assert report["chats"]["failed"] == 3 and report["chats"]["output_tokens_per_s"] == 0


class Broken(http.server.BaseHTTPRequestHandler):
    """Streams one token and ends; in the middle of the reply's framing where the model's name asks for it."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        model = json.loads(self.rfile.read(int(self.headers["content-length"])))["model"]
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        event = b'data: {"error":{"message":"no room"}}\n\n' if model == "error" else b'data: {"delta":{"content":"a"}}\n\n'
        self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        if model != "cut":
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def broken():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Broken)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("model, words", [
    ("cut", "a cut reply: "), ("undone", "the stream ended before it was done"), ("error", "no room"),
])
def test_a_stream_that_is_not_whole_has_failed(broken, model, words):
    result = http_load(broken, "--chats", 2, "--model", model, "--json")
    assert result.returncode == 1
    (error,) = json.loads(result.stdout)["errors"]
    assert error["count"] == 2 and error["message"].startswith(words)


def test_no_server_and_bad_options():
    result = http_load("http://127.0.0.1:1", "--chats", 2)
    assert result.returncode == 1 and "failed 2 times: can't connect: " in result.stdout
    for arguments in (["--url", "https://127.0.0.1:1"], ["--url", "http://a/b:1"], ["--rate", "1", "--sequential"],
                      ["--chats", "-1"], ["--treads", "2"]):
        result = subprocess.run([str(HTTP_LOAD), *arguments], capture_output=True, text=True, timeout=20)
        assert result.returncode == 64 and result.stdout == "", arguments


# A server that is ready at once, with the options that `cortex serve` has.
SERVER = """#!{python}
import http.server, json, sys
if "--version" in sys.argv:
    sys.exit(print("cortex 1"))
if "--help" in sys.argv:
    sys.exit(print("--model --kv-dir --kv-disk"))
with open({log!r}, "a") as log:
    print({name!r}, *sys.argv[1:], file=log)
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        drafts = sys.argv[sys.argv.index("--speculation") + 1] == "on"
        timings = {{"decode_ms": {drafted} if drafts else 200, "draft_tokens": 8, "draft_accepted": 6}}
        reply = {{"choices": [{{"message": {{"content": "Hello." if drafts else {other!r}}}}}],
                 "usage": {{"completion_tokens": 101}}, "timings": timings}}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(reply).encode())
http.server.HTTPServer.request_queue_size = 64  # 16 chats come at once
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Ready).serve_forever()
"""
# The first token of a long prompt comes after `cold` ms in a folder that is new, else after `warm` ms.
LOAD = """#!{python}
import json, pathlib, sys
value = lambda flag, default: sys.argv[sys.argv.index(flag) + 1] if flag in sys.argv else default
rate = 100 if "--sequential" in sys.argv else {together}
first, spread = 7, lambda ms: {{"p50": ms, "p90": ms, "p99": ms, "max": ms}}
if value("--chats", "1") == "1":
    command = pathlib.Path("/proc/" + value("--pid", "")).joinpath("cmdline").read_text().split("\\0")
    seen = pathlib.Path(command[command.index("--kv-dir") + 1] + ".seen")
    first = {warm} if seen.exists() else 1000
    seen.touch()
chats = {{"output_tokens_per_s": rate, "total_tokens_per_s": 4 * rate, "first_token_ms": spread(first),
         "between_tokens_ms": spread(3)}}
print(json.dumps({{"client_cpu_share": 0.01, "chats": chats, "memory": {{"most_bytes": 1 << 20}},
                   "embeds": {{"each_ms": [50, 5]}}, "long_chat": {{"first_token_ms": spread(900)}}}}))
"""


class Stage:
    """Such programs in a folder, and bench/serve_compare with them."""

    def __init__(self, folder):
        self.folder = folder
        self.log = folder / "log"
        (folder / "peers" / "llama" / "bin").mkdir(parents=True)
        (folder / "peers" / "models").mkdir()
        for name in ("SmolLM2-135M-Instruct.Q4_1.gguf", "all-MiniLM-L6-v2"):
            (folder / "peers" / "models" / name).touch()
        self.add_cortex()
        self.add("peers/llama/bin/llama-server", SERVER, name="llama-server", drafted=0, other="")
        self.add_load(together=200, warm=100)

    def add(self, path, text, **values):
        path = self.folder / path
        path.write_text(text.format(python=sys.executable, log=str(self.log), **values))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def add_cortex(self, drafted=100, other="Hello."):
        self.add("cortex", SERVER, name="cortex", drafted=drafted, other=other)

    def add_load(self, together, warm):
        self.add("http_load", LOAD, together=together, warm=warm)

    def compare(self, *arguments):
        environment = {**os.environ, "CORTEX_PEERS_DIR": str(self.folder / "peers"),
                       "CORTEX_MODELS_DIR": str(self.folder / "none"), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, str(ROOT / "bench" / "serve_compare"), "--cortex", str(self.folder / "cortex"),
                   "--http-load", str(self.folder / "http_load"), "--output", str(self.folder / "out"), "--quads", "1",
                   *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    def servers(self):
        return [line.split()[0] for line in self.log.read_text().splitlines()]


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


def test_servers_go_cortex_peer_peer_cortex(stage):
    result = stage.compare("--only", "chats")
    assert result.returncode == 0, result.stderr
    assert stage.servers() == ["cortex", "llama-server", "llama-server", "cortex"]
    assert "| 32 chats: replies | Cortex 200.0 tokens/s | llama-server 200.0 tokens/s | 1.00 [1.00 - 1.00] |" in result.stdout
    written = (stage.folder / "out" / "serving.md").read_text()
    assert "http_load --chats 32 --prompt-tokens 185 --output-tokens 64" in written and "-np 32 -c 32768" in written


def test_every_case_is_written(stage):
    result = stage.compare()
    assert result.returncode == 0, result.stderr
    for row in ("| the same 32 texts again | again 5.0 ms | first 50.0 ms | 10.00 ", "first token after 900 ms",
                "| a text of 400 tokens again: reply | drafts 1000.0 tokens/s | no drafts 500.0 tokens/s | 2.00 ",
                "copying: The engine's CPU time of each chat, times as good with drafts: least ",
                "24 of 32 drafted tokens were right.",
                "| 3,000 tokens after kill -9: first token | after a kill 100.0 ms | cold 1000.0 ms | 10.00 "):
        assert row in result.stdout
    assert set(json.loads((stage.folder / "out" / "serving.json").read_text())["raw"]) == {
        "chats", "long-prompt", "batched", "batched-replies", "processes", "copying", "renaming", "free-chats",
        "free-chats-together", "schema", "first-token", "embeddings"}


def test_check_asks_for_reuse_and_batches_without_a_peer(stage):
    result = stage.compare("--check")
    assert result.returncode == 0, result.stderr
    assert "llama-server" not in stage.servers()
    stage.add_load(together=140, warm=300)
    result = stage.compare("--check")
    assert result.returncode == 1
    assert "32 chats together: prompts and replies: 1.40 times as good; at least 1.5 is expected" in result.stderr
    assert "3,000 tokens again: first token: 3.33 times as good; at least 4 is expected" in result.stderr
    assert "after a restart" not in result.stderr, "3.33 is enough there"
    assert stage.compare("--check", "--only", "chats").returncode == 2


def test_check_asks_for_drafts_that_pay(stage):
    stage.add_cortex(drafted=180)
    result = stage.compare("--check", "--only", "copying")
    assert result.returncode == 1
    assert "a text of 400 tokens again: reply: 1.11 times as good; at least 1.3 is expected" in result.stderr


def test_drafts_that_change_a_reply_are_an_error(stage):
    stage.add_cortex(other="Goodbye.")
    result = stage.compare("--only", "copying")
    assert result.returncode == 1 and "drafts have changed a reply" in result.stderr


def test_a_load_that_fails_is_told(stage):
    stage.add("http_load", "#!{python}\nimport sys\nsys.exit('no such chat')\n")
    result = stage.compare("--only", "batched")
    assert result.returncode == 1 and "ended with 1" in result.stderr and "no such chat" in result.stderr
