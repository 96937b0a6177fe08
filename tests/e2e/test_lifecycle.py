"""Processes that die, drain and restart, with tiny models."""

import json
import os
import signal
import socket
import subprocess
import threading
import time

import pytest
import requests
from conftest import BINARY, TINY_BERT, TINY_LLAMA, wait_for
from test_clients import SOON_S, cancelled

CHAT = {"tiny-chat": TINY_LLAMA}
STEP_MS = 50  # of a slow server, at least: LONG takes 20 s
NEVER_MS = 3_600_000
LONG = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 400, "temperature": 1, "seed": 1,
        "logit_bias": {"2": -100}}


def stream(server, body):
    """Yields the data of each event as it arrives."""
    with requests.post(server.url + "/chat", json={**body, "stream": True}, stream=True, timeout=60) as reply:
        assert reply.status_code == 200, reply.text
        for line in reply.iter_lines():
            if line.startswith(b"data: "):
                yield line[len(b"data: "):].decode()


@pytest.fixture
def slow_server(start, slow):
    """slow_server(*flags) -> a server that makes a token in STEP_MS, until its `slowness` ends: time to do things between
    two."""

    def start_slow(*flags):
        slowness = slow("decode", STEP_MS)
        server = start(CHAT, "--backend", "cpu", "--speculation", "off", *flags).wait_until_ready()
        server.slowness = slowness
        return server

    return start_slow


def test_a_killed_worker_ends_the_stream_and_is_replaced(slow_server):
    server = slow_server("--stall-after-ms", NEVER_MS)  # its silence is not what tells
    events = stream(server, LONG)
    for _ in range(3):
        next(events)
    worker = server.worker_pid()
    os.kill(worker, signal.SIGKILL)
    last = [event for event in events][-1]
    assert json.loads(last)["code"] == "engine_unavailable"

    health = server.get("/healthz").json()
    assert health["engine"]["restarts"] >= 1 or health["status"] == "unavailable", health
    server.wait_until_ready()
    health = server.get("/healthz").json()
    assert health["status"] == "ok" and health["engine"]["restarts"] == 1
    assert server.worker_pid() != worker
    assert server.chat("hi", max_tokens=2).status_code == 200


def test_while_the_worker_is_away_requests_say_when_to_come_back(start):
    server = start(CHAT, "--backend", "cpu", "--restart-delay-ms", 6000).wait_until_ready()
    for deaths in (1, 2):  # only the second is followed by the delay
        os.kill(server.worker_pid(), signal.SIGKILL)
        wait_for(lambda: server.get("/healthz").json()["engine"]["restarts"] == deaths, SOON_S, server.read_log)
        if deaths == 1:
            server.wait_until_ready()
    health = server.get("/healthz")
    assert health.status_code == 503
    assert health.headers["retry-after"].isdigit()
    assert server.get("/livez").status_code == 200
    reply = server.chat("hi", max_tokens=2)
    assert reply.status_code == 503 and reply.json()["code"] == "engine_unavailable"
    assert 1 <= int(reply.headers["retry-after"]) <= 60
    server.wait_until_ready()


def test_a_client_that_leaves_stops_its_chat(slow_server):
    server = slow_server()
    events = stream(server, LONG)
    next(events)
    events.close()
    wait_for(lambda: cancelled(server) == 1, SOON_S, server.read_log)
    wait_for(lambda: server.get("/healthz").json()["engine"]["running"] == 0, SOON_S, server.read_log)


def test_a_chat_is_cancelled_by_its_id(slow_server):
    server = slow_server()
    events = stream(server, LONG)
    chat = json.loads(next(events))["id"]
    assert server.delete(f"/requests/{chat}").json() == {"id": chat, "cancelled": True}
    assert json.loads([event for event in events][-1])["code"] == "cancelled"
    assert server.delete(f"/requests/{chat}").status_code == 404


def test_a_timeout_is_kept(slow_server):
    server = slow_server()
    reply = server.post("/chat", {**LONG, "timeout_s": 0.1})
    assert reply.status_code == 504 and reply.json()["code"] == "deadline_exceeded"
    assert reply.headers["x-should-retry"] == "false"


def test_sigterm_drains(slow_server):
    server = slow_server("--drain-delay-ms", 500)
    events = stream(server, LONG)
    next(events)
    server.process.send_signal(signal.SIGTERM)
    wait_for(lambda: server.get("/healthz").json()["status"] == "draining", SOON_S, server.read_log)
    assert server.get("/readyz").status_code == 503
    wait_for(lambda: server.chat("hi", max_tokens=1).status_code == 503, SOON_S, server.read_log)
    server.slowness.end()
    assert [event for event in events][-1] == "[DONE]"
    assert server.process.wait(SOON_S) == 0


def test_a_second_sigterm_does_not_wait(slow_server):
    server = slow_server("--drain-timeout-ms", NEVER_MS)
    events = stream(server, LONG)
    next(events)
    server.process.send_signal(signal.SIGTERM)
    wait_for(lambda: server.get("/healthz").json()["status"] == "draining", SOON_S, server.read_log)
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(SOON_S)
    try:
        rest = list(events)
    except requests.RequestException:
        rest = []  # it was cut off
    assert "[DONE]" not in rest, "it waited"


def test_conversations_survive_a_restart(start, tmp_path):
    server = start(CHAT, "--backend", "cpu", state_dir=tmp_path).wait_until_ready()
    conversation = server.chat("hi", max_tokens=4, temperature=0).json()["conversation_id"]
    before = server.get(f"/chat/{conversation}").json()
    server.stop()
    server = start(CHAT, "--backend", "cpu", state_dir=tmp_path).wait_until_ready()
    assert server.get(f"/chat/{conversation}").json() == before
    again = server.chat("and?", max_tokens=4, temperature=0, conversation_id=conversation)
    assert again.status_code == 200, again.text


def test_the_front_killed_takes_its_worker_along(start):
    server = start(CHAT, "--backend", "cpu").wait_until_ready()
    worker = server.worker_pid()
    server.process.kill()
    server.process.wait(SOON_S)
    wait_for(lambda: not is_running(worker), SOON_S)


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_many_chats_at_once_are_all_answered(start):
    server = start({**CHAT, "tiny-embed": TINY_BERT}, "--backend", "cpu").wait_until_ready()
    alone = server.chat("hello", max_tokens=8, temperature=0.8, seed=3, store=False).json()["message"]["content"]
    replies = [None] * 12

    def ask(index):
        if index % 3 == 2:
            replies[index] = server.post("/embed", {"inputs": ["a b c" * (i + 1) for i in range(index + 1)]}).status_code == 200
        else:
            body = server.chat("hello", max_tokens=8, temperature=0.8, seed=3, store=False).json()
            replies[index] = body["message"]["content"] == alone

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(replies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(replies), replies


def test_in_process_serves_without_a_worker(start):
    server = start(CHAT, "--backend", "cpu", "--in-process").wait_until_ready()
    assert server.chat("hi", max_tokens=2).status_code == 200
    assert server.stop() == 0


def run(*arguments):
    return subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["serve", "--model", f"m={TINY_LLAMA}", "--nonsense"], 64, "nonsense"),
        (["serve"], 64, "--model"),
        (["nonsense"], 64, "nonsense"),
        (["serve", "--port", "0", "--model", "m=/no/such/model"], 78, "/no/such/model"),
        (["serve", "--port", "0", "--model", f"../x={TINY_LLAMA}"], 78, "name"),
        (["serve", "--port", "0", "--model", f"m={TINY_LLAMA}", "--model", f"m={TINY_BERT}"], 78, "twice"),
        (["serve", "--port", "0", "--host", "0.0.0.0", "--model", f"m={TINY_LLAMA}"], 78, "api-key"),
        (["serve", "--port", "0", "--stall-after-ms", "50", "--model", f"m={TINY_LLAMA}"], 64, "100"),
        (["serve", "--port", "70000", "--model", f"m={TINY_LLAMA}"], 64, "70000"),
    ],
)
def test_a_start_that_can_not_succeed_says_why(arguments, status, words, tmp_path):
    if arguments[0] == "serve" and "--port" in arguments:
        arguments = [*arguments, "--state-dir", tmp_path]
    result = run(*arguments)
    assert result.returncode == status, result.stderr
    assert words in result.stderr


def test_a_taken_port_is_said(start, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run("serve", "--port", port, "--state-dir", tmp_path, "--model", f"m={TINY_LLAMA}")
    assert result.returncode == 69, result.stderr
    assert str(port) in result.stderr


def test_keys_are_asked_for(start, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("secret-one\nsecret-two\n")
    keys.chmod(0o600)
    server = start(CHAT, "--backend", "cpu", "--api-key-file", keys).wait_until_ready()
    reply = server.chat("hi", max_tokens=2)
    assert reply.status_code == 401 and reply.json()["code"] == "invalid_api_key"
    assert reply.headers["www-authenticate"] == "Bearer"
    one = {"Authorization": "bearer secret-one"}
    two = {"x-api-key": "secret-two"}
    good = server.post("/chat", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}, headers=one)
    assert good.status_code == 200, good.text
    conversation = good.json()["conversation_id"]
    assert server.get(f"/chat/{conversation}", headers=one).status_code == 200
    assert server.get(f"/chat/{conversation}", headers=two).status_code == 404
    anonymous = server.get("/healthz").json()
    assert set(anonymous) == {"status", "reasons"}
    assert "models" in server.get("/healthz", headers=two).json()


def test_chat_in_the_terminal_answers_lines():
    result = subprocess.run(
        [BINARY, "chat", "--model", TINY_LLAMA, "--backend", "cpu", "--temperature", "0", "--max-tokens", "4"],
        input="hi\n/new\nhi\n", capture_output=True, text=True, timeout=60,
    )
    assert result.returncode == 0, result.stderr
    first, second = result.stdout.rstrip("\n").split("\n")
    assert first == second != ""


@pytest.mark.parametrize(
    ("ids", "words"),
    [("[1, 2", "JSON"), ("{}", "array"), ("[1]", "at least 2"), ("[1, -2]", "-2"), ("[1, 99999]", "484"),
     (json.dumps([1] * 600), "512")],
)
def test_perplexity_says_what_is_wrong_with_its_ids(ids, words, tmp_path):
    file = tmp_path / "ids.json"
    file.write_text(ids)
    result = run("perplexity", "--model", TINY_LLAMA, "--backend", "cpu", "--ids", file)
    assert result.returncode == 64, result.stderr
    assert words in result.stderr


def test_perplexity_of_a_missing_file(tmp_path):
    result = run("perplexity", "--model", TINY_LLAMA, "--backend", "cpu", "--ids", tmp_path / "none")
    assert result.returncode == 78, result.stderr


def together(count, call):
    """Runs call(index) on so many threads at once; returns what each gave, None where it could not connect."""
    results = [None] * count

    def run_one(index):
        try:
            results[index] = call(index)
        except requests.RequestException:
            pass

    threads = [threading.Thread(target=run_one, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    return threads, results


def test_going_down_with_texts_waiting_to_be_tokenized(start):
    server = start({**CHAT, "tiny-embed": TINY_BERT}, "--backend", "cpu", "--drain-timeout-ms", 0).wait_until_ready()
    body = {"inputs": ["word " * 12_000] * 32, "truncate": True}
    threads, _ = together(12, lambda _: server.post("/embed", body).status_code)
    time.sleep(0.3)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.05)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(30) == 0, server.read_log()
    for thread in threads:
        thread.join()


def test_a_burst_beyond_the_limit_is_turned_away(slow_server):
    server = slow_server("--max-waiting", 2, "--max-sequences", 1)
    running = stream(server, LONG)
    next(running)
    threads, statuses = together(20, lambda _: server.chat("hi", max_tokens=16, store=False).status_code)
    wait_for(lambda: statuses.count(429) == 18, SOON_S, lambda: str(statuses))
    server.slowness.end()
    for thread in threads:
        thread.join()
    assert statuses.count(200) == 2, statuses
    assert list(running)[-1] == "[DONE]"
    assert server.chat("hi", max_tokens=2).status_code == 200


def test_a_log_that_nobody_reads_stops_nothing(tmp_path):
    command = [BINARY, "serve", "--port", "0", "--state-dir", tmp_path, "--backend", "cpu", "--model", f"m={TINY_LLAMA}"]
    with subprocess.Popen(map(str, command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        port = process.stdout.readline().rstrip().rpartition(":")[2]
        with requests.Session() as session:
            for _ in range(2000):  # a line each, far beyond what the pipe holds
                session.get(f"http://127.0.0.1:{port}/livez", timeout=SOON_S).raise_for_status()
        process.terminate()
        assert process.wait(SOON_S) == 0


def test_a_short_stall_limit_leaves_an_idle_worker_alone(start):
    # Shorter than the second after which an idle engine turns by itself, and long enough for a busy machine.
    server = start(CHAT, "--backend", "cpu", "--stall-after-ms", 900).wait_until_ready()
    time.sleep(3)
    health = server.get("/healthz").json()
    assert health["status"] == "ok" and health["engine"]["restarts"] == 0, health
