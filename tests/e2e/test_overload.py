"""Too much at once, and who may ask: full queues, rates, keys, addresses, models that are told to go; the health is told
fast throughout."""

import concurrent.futures
import contextlib
import os
import pathlib
import statistics
import subprocess
import threading
import time

import pytest
import requests

from conftest import BINARY, TINY_BERT, TINY_LLAMA, Server, wait_for
from test_clients import CHAT as MEGABYTES, SOON_S, cancelled, post, start_tiny

CHAT = {"messages": [{"role": "user", "content": "hi"}]}
LONG = {**CHAT, "max_tokens": 400, "logit_bias": {"2": -100}}
KEY, OTHER_KEY, ADMIN_KEY = "a-first-key-0123", "a-second-key-0123", "an-admin-key-0123"


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def environment():
    """Variables for servers that are started; gone after the test."""
    names = []

    def put(**variables):
        names.extend(variables)
        os.environ.update(variables)

    yield put
    for name in names:
        os.environ.pop(name, None)


def run_serve(*flags):
    """Of a server that is not to start: its status and what it says."""
    command = [str(BINARY), "serve", "--model", f"m={TINY_BERT}", "--port", "0", *[str(flag) for flag in flags]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


# Queues.


@contextlib.contextmanager
def full(start, slow, waiting, *flags):
    """A server that has one request running and so many waiting, as many as it takes, and their replies to be."""
    slowness = slow("decode", 50)
    server = start({"chat": TINY_LLAMA, "embed": TINY_BERT}, "--backend", "cpu", "--speculation", "off",
                   "--max-sequences", 1, "--max-waiting", waiting, *flags).wait_until_ready()
    with concurrent.futures.ThreadPoolExecutor(1 + waiting) as pool:
        replies = [pool.submit(server.post, "/chat", LONG) for _ in range(1 + waiting)]
        try:
            wait_for(lambda: has(server, running=1, waiting=waiting), SOON_S, server.read_log)
            yield server, replies
        finally:
            slowness.end()


def has(server, **counts):
    engine = server.get("/healthz").json()["engine"]
    return all(engine[name] == count for name, count in counts.items())


def test_a_full_queue_says_when_to_come_again(start, slow):
    with full(start, slow, 4) as (server, accepted):
        for _ in range(20):
            reply = server.post("/chat", LONG)
            assert reply.status_code == 429
            assert reply.json()["code"] == "queue_full" and reply.json()["error_type"] == "Overloaded"
            assert 1 <= int(reply.headers["retry-after"]) <= 60
            assert 1000 <= int(reply.headers["retry-after-ms"]) <= 60_000
        assert server.post("/embed", {"inputs": "a"}).status_code == 429
    assert [reply.result().status_code for reply in accepted] == [200] * 5
    assert server.post("/embed", {"inputs": "a"}).status_code == 200  # there is room again


def test_the_openai_dialect_tells_it_too(start, slow):
    with full(start, slow, 1) as (server, _):
        reply = server.post("/v1/chat/completions", LONG)
        assert reply.status_code == 429
        assert reply.json()["error"]["type"] == "rate_limit_error"
        assert reply.json()["error"]["code"] == "queue_full"


def test_a_burst_is_taken_as_far_as_there_is_room(start, slow):
    slowness = slow("decode", 50)
    server = start({"chat": TINY_LLAMA}, "--backend", "cpu", "--speculation", "off", "--max-sequences", 1, "--max-waiting",
                   4).wait_until_ready()
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        replies = [pool.submit(server.post, "/chat", LONG) for _ in range(24)]
        wait_for(lambda: sum(reply.done() for reply in replies) == 19, SOON_S, server.read_log)
        slowness.end()
    assert sorted(reply.result().status_code for reply in replies) == [200] * 5 + [429] * 19


def test_readers_that_stop_are_cut_off(start):
    server = start_tiny(start, "--write-timeout-ms", 300)
    path, body = MEGABYTES
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(post(server, path, {**body, "stream": True}, receive_buffer_bytes=2048))
        wait_for(lambda: cancelled(server) == 4, SOON_S, server.read_log)
        wait_for(lambda: has(server, running=0, waiting=0), SOON_S, server.read_log)
        assert server.chat("hi", max_tokens=2).status_code == 200


def test_the_health_is_told_fast_under_full_load(start):
    """Prints how fast; how fast it must be is for a quiet machine to say."""
    server = start({"chat": TINY_LLAMA, "embed": TINY_BERT}, "--backend", "cpu").wait_until_ready()
    over = threading.Event()

    def load(path, body):
        with requests.Session() as session:
            while not over.is_set():
                session.post(server.url + path, json=body, timeout=120)

    work = [("/chat", LONG)] * 8 + [("/embed", {"inputs": ["word " * 50] * 32})] * 4 + [
        ("/rerank", {"query": "a", "texts": ["word " * 50] * 32})] * 2
    threads = [threading.Thread(target=load, args=one) for one in work]
    for thread in threads:
        thread.start()
    times_ms = []
    try:
        with requests.Session() as session:
            time.sleep(0.5)
            for _ in range(400):
                begun = time.perf_counter()
                assert session.get(server.url + "/healthz", timeout=30).status_code == 200
                times_ms.append(1000 * (time.perf_counter() - begun))
                time.sleep(0.005)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    cuts = statistics.quantiles(times_ms, n=100)
    print(f"\n/healthz under load: median {cuts[49]:.2f} ms, p99 {cuts[98]:.2f} ms, most {max(times_ms):.2f} ms")
    assert len(times_ms) == 400


# Rates.


def test_a_rate_limit_without_keys(start):
    # A request a minute: none becomes free while the five are sent.
    server = start({"embed": TINY_BERT}, "--backend", "cpu", "--rate-limit", 1, "--rate-burst", 3).wait_until_ready()
    statuses = [server.post("/embed", {"inputs": "a"}).status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    reply = server.post("/v1/embeddings", {"input": "a"})
    assert reply.json()["error"]["code"] == "rate_limit_exceeded"
    assert reply.json()["error"]["type"] == "rate_limit_error"
    for path in ("/healthz", "/metrics", "/v1/models"):
        assert server.get(path).status_code == 200


def test_who_comes_again_when_told_is_served(start):
    server = start({"embed": TINY_BERT}, "--backend", "cpu", "--rate-limit", 30, "--rate-burst", 1).wait_until_ready()
    reply = next(reply for reply in iter(lambda: server.post("/embed", {"inputs": "a"}), None) if reply.status_code == 429)
    assert 1 <= int(reply.headers["retry-after"]) <= 2
    assert int(reply.headers["retry-after-ms"]) <= 2000
    time.sleep(int(reply.headers["retry-after-ms"]) / 1000 + 0.05)
    assert server.post("/embed", {"inputs": "a"}).status_code == 200


def test_a_rate_limit_of_each_key(start, environment):
    environment(CORTEX_API_KEYS=f"{KEY},{OTHER_KEY}")
    server = start({"embed": TINY_BERT}, "--backend", "cpu", "--rate-limit", 1, "--rate-burst", 2).wait_until_ready()

    def status(key):
        return server.post("/embed", {"inputs": "a"}, headers=bearer(key)).status_code

    assert [status(KEY) for _ in range(3)] == [200, 200, 429]
    assert [status(OTHER_KEY) for _ in range(3)] == [200, 200, 429]
    assert status("a-wrong-key-0123") == 401


# Keys.


def test_keys_of_the_environment_and_of_files_add_up(start, environment, tmp_path):
    environment(CORTEX_API_KEYS=f" {KEY}\n", CORTEX_ADMIN_KEYS=ADMIN_KEY)
    keys = tmp_path / "keys"
    keys.write_text(OTHER_KEY + "\n")
    keys.chmod(0o600)
    server = start({"embed": TINY_BERT}, "--backend", "cpu", "--api-key-file", keys).wait_until_ready()
    assert server.post("/embed", {"inputs": "a"}).status_code == 401
    for key in (KEY, OTHER_KEY, ADMIN_KEY):
        assert server.post("/embed", {"inputs": "a"}, headers=bearer(key)).status_code == 200
        assert server.post("/embed", {"inputs": "a"}, headers={"x-api-key": key}).status_code == 200
    for key, status in ((KEY, 403), (OTHER_KEY, 403), ("a-wrong-key-0123", 401), (ADMIN_KEY, 200)):
        assert server.post("/models/unload", {"model": "embed"}, headers=bearer(key)).status_code == status
    log = server.read_log()
    commands = pathlib.Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
    workers = pathlib.Path(f"/proc/{server.worker_pid()}/environ").read_bytes()
    for key in (KEY, OTHER_KEY, ADMIN_KEY):
        assert key not in log and key.encode() not in commands and key.encode() not in workers


@pytest.mark.parametrize(("variables", "words"), [
    ({"CORTEX_API_KEYS": "short"}, "CORTEX_API_KEYS: a key of 5 characters"),
    ({"CORTEX_ADMIN_KEYS": " , "}, "CORTEX_ADMIN_KEYS: has no key"),
])
def test_a_bad_key_keeps_it_from_starting(environment, variables, words):
    environment(**variables)
    status, said = run_serve()
    assert status == 78 and words in said, said


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_no_public_address_without_a_key(host):
    status, said = run_serve("--host", host)
    assert status == 78 and "--insecure-no-auth" in said, said


def test_a_public_address_with_a_key(start, environment):
    environment(CORTEX_ADMIN_KEYS=ADMIN_KEY)
    server = start({"embed": TINY_BERT}, "--backend", "cpu", "--host", "0.0.0.0")
    server.url = f"http://127.0.0.1:{server.port}"
    server.wait_until_ready()
    assert server.post("/embed", {"inputs": "a"}).status_code == 401
    assert server.post("/embed", {"inputs": "a"}, headers=bearer(ADMIN_KEY)).status_code == 200


def test_over_ipv6_the_host_is_judged_too(start):
    server = start({"embed": TINY_BERT}, "--backend", "cpu", "--host", "::1")
    server.url = f"http://[::1]:{server.port}"
    server.wait_until_ready()
    assert server.post("/embed", {"inputs": "a"}).status_code == 200
    for host in ("evil.example", "[::2]", "[::1].evil.example", "127.0.0.1.nip.io", f"evil.example:{server.port}"):
        reply = server.post("/embed", {"inputs": "a"}, headers={"Host": host})
        assert (reply.status_code, reply.json()["code"]) == (403, "host_not_allowed"), host
    for origin, status in ((f"http://[::1]:{server.port}", 200), ("http://[::2]", 403), ("https://evil.example", 403)):
        assert server.post("/embed", {"inputs": "a"}, headers={"Origin": origin}).status_code == status, origin


# Models.


def state_of(server, name):
    return {model["id"]: model["state"] for model in server.get("/healthz").json()["models"]}[name]


def test_models_go_and_come_back(start):
    server = start({"chat": TINY_LLAMA, "embed": TINY_BERT}, "--backend", "cpu").wait_until_ready()
    before = server.chat("hi", max_tokens=8, temperature=0).json()["message"]["content"]
    gone = server.post("/models/unload", {"model": "chat"})
    assert (gone.status_code, gone.json()) == (200, {"model": "chat", "state": "unloaded"})
    assert state_of(server, "chat") == "unloaded" and server.get("/readyz").status_code == 200
    assert server.post("/embed", {"inputs": "a"}).status_code == 200
    back = server.post("/models/load", {"model": "chat"})
    assert (back.status_code, back.json()) == (200, {"model": "chat", "state": "ready"})
    assert state_of(server, "chat") == "ready"
    assert server.chat("hi", max_tokens=8, temperature=0).json()["message"]["content"] == before
    # A request brings it back as well.
    assert server.post("/models/unload", {"model": "chat"}).status_code == 200
    assert server.chat("hi", max_tokens=8, temperature=0).json()["message"]["content"] == before
    for path in ("/models/load", "/models/unload"):
        assert server.post(path, {"model": "nobody"}).status_code == 404
        assert server.post(path, {"model": "../x"}).json()["code"] == "invalid_value"
        assert server.post(path, {}).json()["code"] == "missing_required_parameter"


def test_what_a_model_would_take(start):
    server = start({"chat": TINY_LLAMA, "embed": TINY_BERT}, "--backend", "cpu").wait_until_ready()
    chat = server.post("/estimate", {"model": "chat", "context_length": 512, "sequences": 4}).json()
    assert chat["fits"] is True and set(chat) == {"fits", "bytes", "budget_bytes", "plan", "advice"}
    parts = chat["bytes"]
    assert parts["total"] == sum(parts[name] for name in ("weights", "kv", "activations", "grammars", "caches"))
    assert parts["weights"] > 0 and parts["kv"] > 0 and chat["budget_bytes"] > parts["total"]
    assert chat["plan"] == {"weights": "as_given", "kv": "bf16", "blocks": 128, "streaming": False}
    assert server.post("/estimate", {"model": "embed"}).json()["plan"]["blocks"] == 0
    for model in ("/etc/passwd", "../x", str(TINY_LLAMA)):
        reply = server.post("/estimate", {"model": model})
        assert (reply.status_code, reply.json()["code"]) == (422, "invalid_value"), reply.text
    assert server.post("/estimate", {"model": "nobody"}).status_code == 404
    assert server.post("/estimate", {"model": "chat", "context_length": 10**6}).json()["code"] == "invalid_value"


def test_doctor_says_the_same():
    command = [str(BINARY), "doctor", "--model", f"chat={TINY_LLAMA}", "--backend", "cpu", "--port", "0", "--memory-budget"]
    plenty = subprocess.run([*command, "1GiB"], capture_output=True, text=True, timeout=60)
    assert plenty.returncode == 0 and "\nfit " in plenty.stdout, plenty.stdout + plenty.stderr
    little = subprocess.run([*command, "1KiB"], capture_output=True, text=True, timeout=60)
    assert little.returncode == 1, little.stdout
    assert "takes at least" in little.stdout and "--memory-budget " in little.stdout, little.stdout
