"""Models that come with their first request and go when nobody asks for them, through the real server."""

import pathlib
import subprocess

import pytest
from conftest import BINARY, MINILM, SMOLLM2, TINY_BERT, TINY_LLAMA, wait_for
from test_clients import SOON_S

TINY = {"tiny-chat": TINY_LLAMA, "tiny-embed": TINY_BERT}
QUESTION = "What is the capital of France? Answer in one word."


def states(server):
    return {model["id"]: model["state"] for model in server.get("/healthz").json()["models"]}


def wait_for_states(server, **expected):
    """A heartbeat tells them."""
    wait_for(lambda: states(server) == {name.replace("_", "-"): state for name, state in expected.items()},
             SOON_S, server.read_log)


def wait_until_unloaded(server, name):
    wait_for(lambda: states(server)[name] == "unloaded", SOON_S, server.read_log)


def resident_bytes(server):
    """Of the front and its worker."""
    pids = [server.process.pid, server.worker_pid()]
    return sum(int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids) * 4096


def settled_bytes(server):
    """Resident ones, once they are as many for a while."""
    seen = []

    def stands():
        seen.append(resident_bytes(server))
        return len(seen) > 10 and max(seen[-10:]) < 1.01 * min(seen[-10:])

    wait_for(stands, SOON_S, lambda: str(seen))
    return seen[-1]


def test_a_model_comes_with_its_first_request(start):
    server = start(TINY, "--backend", "cpu", "--load-on-use").wait_until_ready()
    assert states(server) == {"tiny-chat": "unloaded", "tiny-embed": "unloaded"}
    assert server.get("/healthz").json()["status"] == "ok"
    assert server.post("/embed", {"inputs": "a"}).status_code == 200
    wait_for_states(server, tiny_chat="unloaded", tiny_embed="ready")
    assert server.chat("hi", max_tokens=2).status_code == 200
    wait_for_states(server, tiny_chat="ready", tiny_embed="ready")


def test_a_load_on_demand_is_no_reason_to_be_unready(start):
    server = start({"smollm2": SMOLLM2, "tiny-embed": TINY_BERT}, "--backend", "cpu", "--load-on-use", "--pin",
                   "tiny-embed").wait_until_ready()
    assert states(server) == {"smollm2": "unloaded", "tiny-embed": "ready"}
    with server.post("/chat", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1, "stream": True},
                     stream=True) as reply:
        assert reply.status_code == 200
        assert b"[DONE]" in reply.content
    assert server.get("/readyz").status_code == 200


def test_an_idle_model_goes_and_comes_back_the_same(start):
    server = start(TINY, "--backend", "cpu", "--idle-unload", 1, "--pin", "tiny-embed").wait_until_ready()
    before = server.chat("hi", max_tokens=24, temperature=0).json()["message"]
    wait_until_unloaded(server, "tiny-chat")
    assert states(server)["tiny-embed"] == "ready"  # pinned
    assert server.get("/readyz").status_code == 200
    assert server.chat("hi", max_tokens=24, temperature=0).json()["message"] == before


def test_five_loads_leave_no_memory_behind(start):
    server = start({"smollm2": SMOLLM2, "minilm": MINILM}, "--backend", "cpu", "--load-on-use", "--idle-unload", 1
                   ).wait_until_ready()
    first = None
    for _ in range(6):
        reply = server.chat(QUESTION, temperature=0, max_tokens=20)
        assert reply.status_code == 200, reply.text
        assert reply.json()["message"]["content"] == "The capital of France is Paris."
        wait_until_unloaded(server, "smollm2")
        first = first or settled_bytes(server)
        wait_for(lambda: resident_bytes(server) <= 1.1 * first, SOON_S, lambda: f"{first}, {resident_bytes(server)}")
    assert server.get("/healthz").json()["engine"]["restarts"] == 0


def test_what_was_computed_is_found_when_the_model_comes_back(start):
    server = start({"smollm2": SMOLLM2}, "--backend", "cpu", "--idle-unload", 1).wait_until_ready()
    text = "Tell me about the sea. " * 30
    first = server.chat(text, temperature=0, max_tokens=8, store=False).json()
    wait_until_unloaded(server, "smollm2")
    again = server.chat(text, temperature=0, max_tokens=8, store=False).json()
    assert again["message"] == first["message"]
    assert again["timings"]["cached_disk_tokens"] >= 100, again["timings"]


@pytest.mark.parametrize(("flags", "message"), [
    (("--pin", "nobody"), "--pin nobody: no --model is called so"),
    (("--idle-unload", "-1"), "--idle-unload"),
])
def test_flags_that_mean_nothing_are_refused(flags, message):
    command = [str(BINARY), "serve", "--port", "0", "--model", f"tiny-chat={TINY_LLAMA}", *flags]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode in (64, 78)
    assert message in run.stderr
