"""Little memory, and a limit that the system enforces: a cgroup whose limit kills, where one can be made, else a limit on
each process's data. The server answers or refuses; it never dies of it."""

import contextlib
import json
import os
import pathlib
import resource
import threading
import time
import uuid

import pytest
from conftest import SMOLLM2, Server, wait_for

MIB = 1 << 20
QUESTION = "What is the capital of France? Answer in one word."
ANSWER = "The capital of France is Paris."


def memory_cgroup():
    """Where groups below this process's own can be made, as version 1 or 2 has it, or None."""
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            folder = pathlib.Path("/sys/fs/cgroup/memory") / path.lstrip("/")
            return folder if os.access(folder, os.W_OK) and (folder / "memory.limit_in_bytes").exists() else None
    return None


class Group:
    """A version 1 memory cgroup; whoever enters it is killed by the kernel when it takes more than `limit` bytes."""

    def __init__(self, parent, limit):
        self.folder = parent / f"cortex-{uuid.uuid4().hex}"
        self.folder.mkdir()
        (self.folder / "memory.limit_in_bytes").write_text(str(limit))

    def enter(self):
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def kills(self):
        for line in (self.folder / "memory.oom_control").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
        return 0

    def remove(self):
        wait_for(lambda: not (self.folder / "cgroup.procs").read_text().strip(), 10)
        self.folder.rmdir()


class DataLimit:
    """Where no group can be made: no process gets more than `limit` bytes of data."""

    def __init__(self, limit):
        self.limit = limit

    def enter(self):
        resource.setrlimit(resource.RLIMIT_DATA, (self.limit, self.limit))

    def kills(self):
        return 0

    def remove(self):
        pass


@pytest.fixture
def limited():
    """limited(bytes, models, *flags) -> a server whose processes together have no more than that, and the limit."""
    with contextlib.ExitStack() as stack:

        def start_limited(limit_bytes, models, *flags):
            parent = memory_cgroup()
            limit = Group(parent, limit_bytes) if parent else DataLimit(limit_bytes)
            stack.callback(limit.remove)
            server = Server(models, *flags, preexec_fn=limit.enter)
            stack.callback(lambda: server.process.poll() is None and server.stop())
            return server.wait_until_ready(), limit

        yield start_limited


def plan_of(server):
    (model,) = server.get("/healthz").json()["models"]
    return model["plan"]


@pytest.mark.parametrize("budget_mib", [64, 128, 1024])
def test_a_small_budget_still_answers(start, budget_mib):
    server = start({"smollm2": SMOLLM2}, "--memory-budget", f"{budget_mib}MiB").wait_until_ready()
    health = server.get("/healthz").json()
    (model,) = health["models"]
    assert model["bytes"] <= budget_mib * MIB, model
    assert plan_of(server)
    body = server.chat(QUESTION, temperature=0, max_tokens=20).json()
    assert body["message"]["content"] == ANSWER, body
    (model,) = server.get("/healthz").json()["models"]
    assert model["bytes"] <= budget_mib * MIB, "after it has computed"
    assert server.stop() == 0


def test_weights_that_do_not_fit_are_read_as_they_are_needed(start):
    """60 % of the packed weights: the same tokens as with all of them in memory."""
    whole = start({"smollm2": SMOLLM2}, "--kv-bytes", "32MiB").wait_until_ready()
    weights = next(m["bytes"] for m in whole.get("/healthz").json()["models"]) - 32 * MIB
    story = {"temperature": 0, "max_tokens": 48}
    expected = whole.chat("Tell me a story of a lighthouse.", **story).json()["message"]["content"]
    whole.stop()
    server = start({"smollm2": SMOLLM2}, "--memory-budget", int(0.6 * weights)).wait_until_ready()
    assert "layers in memory" in plan_of(server)
    got = server.chat("Tell me a story of a lighthouse.", **story).json()["message"]["content"]
    assert got[:40] == expected[:40], "8-bit KV may differ later on"
    assert server.chat(QUESTION, temperature=0, max_tokens=20).json()["message"]["content"] == ANSWER


def test_what_can_never_fit_is_refused_with_what_would(start):
    with pytest.raises(AssertionError) as refusal:
        start({"smollm2": SMOLLM2}, "--memory-budget", "4MiB")
    assert "--memory-budget" in str(refusal.value) and "MiB" in str(refusal.value)


def test_a_full_cgroup_refuses_and_nobody_is_killed(limited):
    """Long chats until it refuses, in a group of which the pool's default size alone would be more than there is."""
    server, limit = limited(700 * MIB, {"smollm2": SMOLLM2})
    pids = {server.process.pid, server.worker_pid()}
    statuses, over = [], threading.Event()

    def chat(number):
        while not over.is_set():
            reply = server.chat(f"{number} {time.monotonic()} " + "Tell me of rivers and mountains. " * 120,
                                temperature=0, max_tokens=64, logit_bias={"2": -100})
            statuses.append(reply.status_code)
            if reply.status_code == 503:
                assert "retry-after" in reply.headers, reply.text
                assert reply.json()["code"] in ("memory_pressure", "engine_unavailable"), reply.text
                over.wait(0.5)

    threads = [threading.Thread(target=chat, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    time.sleep(45)
    over.set()
    for thread in threads:
        thread.join()
    assert limit.kills() == 0, server.read_log()
    assert server.process.poll() is None
    assert {server.process.pid, server.worker_pid()} == pids, "the worker is the one that began"
    assert set(statuses) <= {200, 503}, statuses
    assert statuses.count(200) > 0
    peak = server.get("/healthz").json()["guards"]["memory"]
    assert peak["ceiling_bytes"] <= 700 * MIB, peak
    # What was full gives back.
    wait_for(lambda: server.chat(QUESTION, temperature=0, max_tokens=20).status_code == 200, 60, server.read_log)
    assert json.loads(server.get("/healthz").text)["engine"]["restarts"] == 0
