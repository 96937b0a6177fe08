"""Many requests at once and one after another: what they share, what they leave behind, what a restart keeps."""

import concurrent.futures
import contextlib
import http.client
import json
import pathlib
import random
import signal
import socket
import subprocess

from conftest import BINARY, SMOLLM2, TINY_BERT, TINY_LLAMA, wait_for
from test_clients import SOON_S, engine

WORDS = "river stone light paper green window morning city garden music bread water cloud letter winter".split()


def kv_of(server):
    return next(model["kv"] for model in server.get("/healthz").json()["models"] if "kv" in model)


def resident_bytes(server):
    def of(pid):
        fields = pathlib.Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1]
        return int(fields.split()[0]) * 1024

    return of(server.process.pid) + of(server.worker_pid())


def text_of(words, seed):
    chooser = random.Random(seed)
    return " ".join(chooser.choice(WORDS) for _ in range(words))


def chat(server, text, **fields):
    reply = server.chat(text, **{"max_tokens": 8, "temperature": 0, "store": False, "explain": True, **fields})
    assert reply.status_code == 200, reply.text
    return reply.json()


def stream(server, body):
    """A connection on which the first piece of a stream has come."""
    connection = socket.create_connection(("127.0.0.1", server.port))
    content = json.dumps(body).encode()
    connection.sendall(
        b"POST /chat HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        + f"Content-Length: {len(content)}\r\n\r\n".encode() + content
    )
    received = b""
    while b"data:" not in received:
        received += connection.recv(4096)
    return connection


def test_a_client_that_goes_gives_its_blocks_back(start, slow):
    slow("decode", 50)
    server = start({"chat": SMOLLM2}, "--speculation", "off").wait_until_ready()
    body = {"messages": [{"role": "user", "content": "Count to a thousand."}], "stream": True, "max_tokens": 2000,
            "logit_bias": {"2": -100}}
    connections = [stream(server, body) for _ in range(4)]
    wait_for(lambda: kv_of(server)["used"] > 0, SOON_S)
    steps = engine(server)["steps"]
    for connection in connections:
        connection.close()
    wait_for(lambda: kv_of(server)["used"] == 0, SOON_S)
    assert kv_of(server)["running"] == 0
    # The socket, a cancel for each, a heartbeat: a few steps, not the two thousand that were asked for.
    assert engine(server)["steps"] - steps < 200


def test_memory_is_steady_over_ten_thousand_requests(start):
    """Of some hundred texts, so that what is kept on purpose is all there after the first thousand."""
    server = start({"chat": TINY_LLAMA, "embed": TINY_BERT}).wait_until_ready()
    texts = [text_of(1 + seed % 29, seed) for seed in range(300)]

    def work(part, requests):
        chooser = random.Random(part)
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        for _ in range(requests):
            text = chooser.choice(texts)
            if chooser.random() < 0.2:
                path, body = "/embed", {"inputs": text, "truncate": True}
            else:
                messages = [{"role": "user", "content": text}]
                path, body = "/chat", {"messages": messages, "max_tokens": 4, "temperature": 0, "store": False}
            connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
            reply = connection.getresponse()
            reply.read()
            assert reply.status == 200
        connection.close()

    def run(requests, first_part):
        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda part: work(first_part + part, requests // 4), range(4)))
        wait_for(lambda: kv_of(server)["used"] == 0, SOON_S)

    run(1000, 0)
    before = resident_bytes(server)
    run(10000, 100)
    after = resident_bytes(server)
    assert after < before * 1.05, f"{before} bytes, then {after}"


def test_the_same_prompts_at_once_are_computed_once(start):
    server = start({"chat": SMOLLM2}).wait_until_ready()
    text = text_of(300, 1)
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        replies = list(threads.map(lambda _: chat(server, text), range(4)))
    assert len({reply["message"]["content"] for reply in replies}) == 1
    cached = sorted(reply["usage"]["cached_tokens"] for reply in replies)
    prompt = replies[0]["usage"]["prompt_tokens"]
    assert cached[0] == 0 and cached[1] >= prompt - 16


def kept_tokens(folder):
    """Of prompts on disk."""
    said = subprocess.run([str(BINARY), "cache", "stats", "--json", "--kv-dir", str(folder)], capture_output=True, text=True,
                          timeout=60)
    return json.loads(said.stdout)["tokens"] if said.returncode == 0 else 0


def test_prompts_outlive_a_kill(start, tmp_path):
    server = start({"chat": SMOLLM2}, state_dir=tmp_path).wait_until_ready()
    long, short = text_of(900, 2), text_of(90, 3)
    first = [chat(server, long), chat(server, short)]
    assert [reply["usage"]["cached_tokens"] // 100 for reply in first] == [0, 0]
    # What their whole blocks hold, but for what they share.
    prompts = sum(reply["usage"]["prompt_tokens"] - 16 for reply in first) - 64
    wait_for(lambda: kept_tokens(tmp_path / "kv") >= prompts, SOON_S, server.read_log)
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    server = start({"chat": SMOLLM2}, state_dir=tmp_path).wait_until_ready()
    for before, text in zip(first, [long, short]):
        after = chat(server, text)
        assert after["message"] == before["message"]
        assert after["usage"]["cached_tokens"] >= after["usage"]["prompt_tokens"] - 16
        assert after["timings"]["cached_disk_tokens"] >= after["usage"]["cached_tokens"] - 64  # the template's beginning
        assert after["timings"]["cache"]["tier"] == "disk"


def test_a_long_prompt_lets_others_go_on(start, slow):
    """Who is in the middle of a reply gets a token with each of the prompt's parts."""
    for phase in ["decode", "prompt"]:
        slow(phase, 50)  # the reply lasts till the prompt comes, which is long in coming
    server = start({"chat": SMOLLM2}, "--speculation", "off").wait_until_ready()
    body = {"messages": [{"role": "user", "content": "Hello"}], "stream": True, "max_tokens": 600, "logit_bias": {"2": -100}}
    with stream(server, body) as talk, concurrent.futures.ThreadPoolExecutor(1) as threads:
        long = threads.submit(chat, server, text_of(5000, 4), max_tokens=1)
        wait_for(lambda: kv_of(server)["running"] == 2, SOON_S)
        with contextlib.suppress(BlockingIOError):
            while talk.recv(65536, socket.MSG_DONTWAIT):
                pass  # what was said before
        said = b""
        while not long.done():
            said += talk.recv(4096)
        assert b"[DONE]" not in said
        assert said.count(b"data:") >= 5
        long.result()
