"""Clients that stop reading, go away, or wait no longer: their work ends soon, and the others do not notice."""

import contextlib
import json
import select
import socket
import struct
import time

import pytest

from conftest import TINY_BERT, TINY_LLAMA, wait_for

USER = {"role": "user", "content": "hi"}
SOON_S = 60  # far more than it takes; a busy machine is slow
V1_CHAT, V1_COMPLETIONS = "/v1/chat/completions", "/v1/completions"
LONG = {"logit_bias": {"2": -100}, "logprobs": True, "top_logprobs": 20}  # never ends its turn
# Requests of hundreds of steps, with megabytes of reply: more than sockets hold.
CHAT = (V1_CHAT, {"messages": [USER], "n": 16, "max_tokens": 480, **LONG})
COMPLETION = (V1_COMPLETIONS, {"prompt": ["hi"] * 8, "n": 16, "max_tokens": 480, **LONG, "logprobs": 20})
NATIVE = ("/chat", {"messages": [USER], "max_tokens": 480, **LONG})


def start_tiny(start, *flags):
    """Without drafts: what takes so many steps takes as many."""
    models = {"tiny-chat": TINY_LLAMA, "tiny-embed": TINY_BERT}
    return start(models, "--backend", "cpu", "--half-close-probe-ms", 50, "--speculation", "off", *flags
                 ).wait_until_ready()


@contextlib.contextmanager
def post(server, path, body, receive_buffer_bytes=None):
    """A connection on which the request has been sent, and nothing been read."""
    data = json.dumps(body).encode()
    with socket.socket() as connection:
        if receive_buffer_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        connection.settimeout(SOON_S)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                           b"Content-Length: %d\r\n\r\n" % (path.encode(), len(data)) + data)
        yield connection


def reset(connection):
    """Leaves by RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def read_to_end(connection):
    reply = b""
    while chunk := connection.recv(65536):
        reply += chunk
    return reply


def engine(server):
    """How the engine is now: what it tells takes its time to be known."""
    asked = time.monotonic()
    state = None

    def is_new():
        nonlocal state
        state = server.get("/healthz").json()["engine"]
        return state["last_tick_age_ms"] < (time.monotonic() - asked) * 1000

    wait_for(is_new, SOON_S, server.read_log)
    return state


def is_idle(server):
    state = engine(server)
    return state["running"] == 0 and state["waiting"] == 0


def metric(server, name, label=""):
    """The sum of a metric's values, of those with this label."""
    lines = [line for line in server.get("/metrics").text.splitlines()
             if line.startswith((name + "{", name + " ")) and label in line]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def cancelled(server):
    return metric(server, "cortex_finished_total", 'reason="cancelled"')


def told_tokens(server):
    """Of generations that came to their own end."""
    return metric(server, "cortex_generation_tokens_total")


def assert_nothing_is_left(server):
    wait_for(lambda: is_idle(server), SOON_S, server.read_log)
    wait_for(lambda: metric(server, "cortex_kv_blocks", 'state="used"') == 0, SOON_S, server.read_log)
    steps = engine(server)["steps"]
    assert server.chat("hi", max_tokens=2, temperature=0).status_code == 200
    wait_for(lambda: engine(server)["steps"] > steps, SOON_S)
    assert engine(server)["steps"] <= steps + 2, "something was still computed"
    assert engine(server)["restarts"] == 0


def assert_others_are_served(server):
    assert server.post("/embed", {"inputs": "a"}).status_code == 200
    assert server.chat("hi", max_tokens=1, store=False).status_code == 200


# The first stream, of some 20 kB a step, is slow enough to meet the write timeout before what it may hold unsent, which is
# a megabyte; that ends the second.
@pytest.mark.parametrize(("step_ms", "timeout_ms"), [(10, 100), (None, 3_600_000)], ids=["timeout", "overflow"])
@pytest.mark.parametrize(("path", "body"), [CHAT, COMPLETION], ids=["chat", "completion"])
def test_a_reader_that_stops(start, slow, path, body, step_ms, timeout_ms):
    if step_ms:
        slow("decode", step_ms)
    server = start_tiny(start, "--write-timeout-ms", timeout_ms)
    with post(server, path, {**body, "stream": True}, receive_buffer_bytes=4096) as connection:
        assert connection.recv(16).startswith(b"HTTP/1.1 200 ")
        assert_others_are_served(server)
        wait_for(lambda: told_tokens(server) == 1, SOON_S, server.read_log)  # the others' chat
        wait_for(lambda: cancelled(server) == 1, SOON_S, server.read_log)
        assert told_tokens(server) == 1
        assert_nothing_is_left(server)
        reply = read_to_end_or_reset(connection)
    assert b"[DONE]" not in reply and not reply.endswith(b"0\r\n\r\n"), "a stream that was cut must not look whole"


def read_to_end_or_reset(connection):
    try:
        return read_to_end(connection)
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize("leave", [reset, socket.socket.close], ids=["reset", "close"])
@pytest.mark.parametrize(("path", "body", "stream"), [(*CHAT, True), (*COMPLETION, True), (*COMPLETION, False)],
                         ids=["chat", "completion", "whole"])
def test_a_client_that_leaves(start, slow, path, body, stream, leave):
    slowness = slow("decode", 50)  # it would take half a minute and more
    server = start_tiny(start)
    with post(server, path, {**body, "stream": stream}) as connection:
        if stream:
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        else:
            wait_for(lambda: engine(server)["running"] > 0, SOON_S)
        leave(connection)
    wait_for(lambda: cancelled(server) == 1, SOON_S, server.read_log)
    assert told_tokens(server) == 0
    slowness.end()
    assert_nothing_is_left(server)
    assert_others_are_served(server)


def test_many_clients_that_leave_at_once(start):
    server = start_tiny(start)
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(post(server, NATIVE[0], {**NATIVE[1], "stream": True, "store": False}))
                       for _ in range(24)]
        for connection in connections:
            reset(connection)
        assert_others_are_served(server)
    assert_nothing_is_left(server)


WORDS = ["word " * (29 + i) for i in range(32)]


@pytest.mark.parametrize("cache", ["64MiB", 0])
@pytest.mark.parametrize("path, body", [("/embed", {"inputs": WORDS}), ("/rerank", {"query": "a", "texts": WORDS})])
def test_a_client_that_leaves_while_texts_are_encoded(start, path, body, cache):
    server = start_tiny(start, "--embed-cache", cache)
    for _ in range(8):
        with post(server, path, body) as connection:
            reset(connection)
    assert_nothing_is_left(server)
    assert server.post(path, body).status_code == 200


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_a_client_that_only_closes_its_side(start, stream):
    server = start_tiny(start)
    path, body = NATIVE
    with post(server, path, {**body, "stream": stream}) as connection:
        connection.shutdown(socket.SHUT_WR)
        reply = read_to_end(connection)
    assert b"HTTP/1.1 200 " in reply and b'"length"' in reply
    assert not stream or b"data: [DONE]" in reply
    assert cancelled(server) == 0


def test_a_deadline_that_passes_in_the_queue(start, slow):
    """It is said so, and the request is not computed at all."""
    choices, tokens = 16, 480
    slowness = slow("decode", 50)  # so that nobody's turn comes within minutes
    server = start_tiny(start, "--max-sequences", 1)
    before = engine(server)["steps"]
    with post(server, V1_CHAT, {"messages": [USER], "n": choices, "max_tokens": tokens, **LONG}) as connection:
        wait_for(lambda: engine(server)["running"] > 0, SOON_S)
        waiting = {"messages": [USER], "max_tokens": 1, "timeout_s": 0.02}
        for path in ("/chat", V1_CHAT):
            for stream in (False, True):
                reply = server.post(path, {**waiting, "stream": stream})
                assert reply.status_code == 504, reply.text
                assert "deadline_exceeded" in reply.text
                assert reply.headers["x-should-retry"] == "false" and "retry-after" not in reply.headers
        assert not select.select([connection], [], [], 0)[0], "what they waited for ended before"
        slowness.end()
        connection.shutdown(socket.SHUT_WR)
        assert b"HTTP/1.1 200 " in read_to_end(connection)
    wait_for(lambda: is_idle(server), SOON_S)
    # A choice's prompt is one step and gives the first token.
    wait_for(lambda: engine(server)["steps"] >= before + choices * tokens, SOON_S)
    assert engine(server)["steps"] == before + choices * tokens


@pytest.mark.parametrize("path, body", [("/chat", {"messages": [USER]}), (V1_CHAT, {"messages": [USER]}),
                                        (V1_COMPLETIONS, {"prompt": "hi"})])
def test_a_deadline_that_has_passed_already(start, path, body):
    server = start_tiny(start)
    before = engine(server)["steps"]
    reply = server.post(path, {**body, "timeout_s": 0})
    assert reply.status_code == 504 and "deadline_exceeded" in reply.text, reply.text
    assert server.post("/embed", {"inputs": "a"}).status_code == 200  # a step
    wait_for(lambda: engine(server)["steps"] > before, SOON_S)
    assert engine(server)["steps"] == before + 1
