"""Memory and heat, put in by files, under live traffic: every level comes and goes, and what it lets through is right."""

import json
import os
import subprocess
import threading

import pytest
from conftest import BINARY, SMOLLM2, TINY_BERT, TINY_LLAMA, wait_for
from test_clients import SOON_S
from test_metrics import value

MODELS = {"tiny-chat": TINY_LLAMA, "tiny-embed": TINY_BERT}
DWELL_S = {"memory": 1.0, "thermal": 1.5}
REFUSAL = {"memory": "memory_pressure", "thermal": "thermal_throttled"}
PRESSURES = {1: "0.85", 2: "0.92", 3: "0.96", 4: "0.99"}
CALM = "0.1"


class Injection:
    """The files that a server reads in place of its sensors."""

    def __init__(self, folder):
        self.folder = folder
        for name in DWELL_S:
            self.write(name, CALM)

    def write(self, name, pressure):
        fresh = self.folder / "fresh"
        fresh.write_text(pressure)
        os.replace(fresh, self.folder / name)

    def flags(self):
        flags = []
        for name, dwell in DWELL_S.items():
            flags += ["--inject", f"{name}={self.folder / name}", f"--{name}-dwell-ms", int(1000 * dwell)]
        return flags


class Traffic:
    """Clients that ask the same few things over and over, one after another, until they are told to stop."""

    def __init__(self, server):
        self.server = server
        self.asks = [self.chat, self.stream, self.embed, self.rerank]
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.answers = {}  # what was asked -> the different answers it got
        self.refusals = []  # (status, code, Retry-After) of those that were not begun
        self.cut = []  # codes of the errors that ended a stream
        self.served = 0
        self.threads = [threading.Thread(target=self.run, args=(ask,)) for ask in self.asks for _ in range(2)]
        for thread in self.threads:
            thread.start()

    def answered(self):
        return self.served

    def refused(self):
        return len(self.refusals)

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def run(self, ask):
        turn = 0
        while not self.over.is_set():
            turn = (turn + 1) % 3
            ask(turn)

    def take(self, asked, reply, answer):
        with self.lock:
            if reply.status_code == 200:
                self.served += 1
                self.answers.setdefault(asked, set()).add(answer(reply.json()))
                return
        self.refuse(reply)

    def refuse(self, reply):
        body = reply.json()
        code = body["error"]["code"] if isinstance(body["error"], dict) else body["code"]
        with self.lock:
            self.refusals.append((reply.status_code, code, float(reply.headers["retry-after"])))
        self.over.wait(0.02)

    def chat(self, turn):
        body = {"messages": [{"role": "user", "content": f"Say {turn}"}], "max_tokens": 40, "temperature": 0,
                "store": False}
        self.take(("chat", turn), self.server.post("/chat", body), lambda reply: reply["message"]["content"])

    def stream(self, turn):
        body = {"messages": [{"role": "user", "content": f"Tell {turn}"}], "max_tokens": 400, "temperature": 0,
                "stream": True, "logit_bias": {"2": -100}}
        with self.server.post("/v1/chat/completions", body, stream=True) as reply:
            if reply.status_code != 200:
                return self.refuse(reply)
            text = ""
            for line in reply.iter_lines():
                if not line.startswith(b"data: "):
                    continue
                if line == b"data: [DONE]":
                    with self.lock:
                        self.served += 1
                        self.answers.setdefault(("stream", turn), set()).add(text)
                    return
                event = json.loads(line[6:])
                if "error" in event:
                    with self.lock:
                        self.cut.append(event["error"]["code"])
                    return
                text += event["choices"][0]["delta"].get("content") or ""
        raise AssertionError("a stream that neither ended nor failed")

    def embed(self, turn):
        self.take(("embed", turn), self.server.post("/embed", {"inputs": [f"text {turn}", "another"]}), json.dumps)

    def rerank(self, turn):
        body = {"query": f"number {turn}", "texts": ["one", "two", "three"]}
        self.take(("rerank", turn), self.server.post("/rerank", body), json.dumps)


def guard_of(server, name):
    return server.get("/healthz").json()["guards"][name]


def reasons_of(health):
    """But for what a busy machine shows: steps that take longer than they did."""
    return [reason["code"] for reason in health["reasons"] if reason["code"] != "step_drift_elevated"]


def wait_for_level(server, name, level):
    wait_for(lambda: guard_of(server, name)["level"] == level, SOON_S, server.read_log)


def undisturbed_answers(start):
    """What every request of the traffic is answered by a server that nothing happens to."""
    traffic = Traffic(start(MODELS, "--backend", "cpu").wait_until_ready())
    wait_for(lambda: len(traffic.answers) == 12, SOON_S, lambda: str(traffic.refusals))
    traffic.stop()
    assert not traffic.refusals and not traffic.cut
    assert all(len(answers) == 1 for answers in traffic.answers.values())
    return traffic.answers


def check_level(server, name, level):
    health = server.get("/healthz")
    codes = reasons_of(health.json())
    if level >= 3:
        assert health.status_code == server.get("/readyz").status_code == 503
        assert health.json()["status"] == "unavailable" and codes == [REFUSAL[name]]
        assert 1 <= int(health.headers["retry-after"]) <= 1 + DWELL_S[name] * (level - 2)
        reply = server.chat("Hello")
        assert reply.status_code == 503 and reply.json()["code"] == REFUSAL[name]
        assert 1 <= int(reply.headers["retry-after"]) <= 1 + DWELL_S[name] * (level - 2)
    else:
        assert health.status_code == server.get("/readyz").status_code == 200
        assert health.json()["status"] == "degraded" and codes == [f"{name}_elevated"]
    assert server.get("/livez").status_code == 200
    assert [warning["code"] for warning in health.json()["warnings"]] == ["monitor_injected"] * 2


@pytest.mark.parametrize("name", ["memory", "thermal"])
def test_every_level_comes_and_goes_under_traffic(start, tmp_path, name):
    undisturbed = undisturbed_answers(start)
    injection = Injection(tmp_path)
    server = start(MODELS, "--backend", "cpu", *injection.flags()).wait_until_ready()
    traffic = Traffic(server)
    try:
        for level, pressure in PRESSURES.items():
            injection.write(name, pressure)
            wait_for_level(server, name, level)
            check_level(server, name, level)
            meets = traffic.refused if level >= 3 else traffic.answered
            before = meets()
            wait_for(lambda: meets() > before + 8, SOON_S, server.read_log)
            injection.write(name, CALM)
            wait_for_level(server, name, 0)
            wait_for(lambda: not reasons_of(server.get("/healthz").json()), SOON_S, server.read_log)
            before = traffic.answered()
            wait_for(lambda: traffic.answered() > before + 8, SOON_S, server.read_log)
    finally:
        traffic.stop()
    assert {(status, code) for status, code, _ in traffic.refusals} == {(503, REFUSAL[name])}
    assert all(1 <= wait <= 60 for _, _, wait in traffic.refusals)
    assert set(traffic.cut) <= {REFUSAL[name]}  # at level 4
    # Whatever got through is what it would have been.
    assert traffic.answers == undisturbed
    for level in PRESSURES:
        # 0 -> 1 -> 0, 0 -> 2 -> 1 -> 0, ...: entered once by pressure, left on every way down from there or above.
        def times(start, end):
            return value(server, "cortex_guard_transitions_total", guard=name, **{"from": str(start), "to": str(end)})

        assert times(0, level) == 1, server.read_log()
        assert times(level, level - 1) == 5 - level, server.read_log()
    assert value(server, "cortex_guard_level", guard=name) == 0
    assert value(server, "cortex_guard_pressure_ratio", guard=name) == float(CALM)
    wait_for(lambda: value(server, "cortex_guard_age_seconds", guard=name) < 3, SOON_S)
    log = server.read_log()
    for level, pressure in PRESSURES.items():
        assert log.count(f"guard: {name} level 0 -> {level}, pressure {pressure} (injected)") == 1
        assert log.count(f"guard: {name} level {level} -> {level - 1}, pressure 0.10 (injected)") == 5 - level
    assert server.stop() == 0, log


class LongStream:
    """A chat of so many tokens, of which some have come; what came of it, and whether it has ended."""

    def __init__(self, server, text, tokens):
        self.text, self.error, self.id, self.ended = "", None, None, False
        self.begun = threading.Event()
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": tokens, "temperature": 0,
                "stream": True, "logit_bias": {"2": -100}}
        self.thread = threading.Thread(target=self.run, args=(server, body))
        self.thread.start()
        assert self.begun.wait(SOON_S)

    def run(self, server, body):
        with server.post("/v1/chat/completions", body, stream=True) as reply:
            self.id = reply.headers["x-request-id"]
            for line in reply.iter_lines():
                if line.startswith(b"data: {"):
                    event = json.loads(line[6:])
                    self.error = self.error or event.get("error", {}).get("code")
                    self.text += "".join(choice["delta"].get("content") or "" for choice in event.get("choices", []))
                    self.begun.set()
                elif line == b"data: [DONE]":
                    assert not self.error
        self.ended = True

    def join(self):
        self.thread.join()
        return self


def test_what_runs_survives_level_3_and_level_4_ends_the_youngest_first(start, slow, tmp_path):
    injection = Injection(tmp_path)
    slowness = slow("decode", 50)  # a stream of 400 tokens lasts for 20 s: until the guard has looked
    server = start({"chat": SMOLLM2}, "--speculation", "off", *injection.flags()).wait_until_ready()
    disturbed = LongStream(server, "Tell me a story.", 400)
    injection.write("memory", PRESSURES[3])
    wait_for_level(server, "memory", 3)
    assert not disturbed.ended
    slowness.end()
    assert disturbed.join().error is None
    injection.write("memory", CALM)
    wait_for_level(server, "memory", 0)
    assert disturbed.text == LongStream(server, "Tell me a story.", 400).join().text

    slowness.begin()
    streams = [LongStream(server, f"Count to {number}.", 400) for number in (100, 200, 300)]
    injection.write("memory", PRESSURES[4])
    assert [stream.join().error for stream in streams] == ["memory_pressure"] * 3
    log = server.read_log()
    ended = [log.index(f"[{stream.id}] a generation ended: memory_pressure: ") for stream in streams]
    assert ended == sorted(ended, reverse=True), log  # the youngest first
    wait_for(lambda: value(server, "cortex_guard_cancelled_total") == 3, SOON_S)  # with the engine's next word
    injection.write("memory", CALM)
    wait_for_level(server, "memory", 0)
    assert server.chat("Hello", max_tokens=1).status_code == 200
    assert server.get("/healthz").json()["engine"]["restarts"] == 0


def test_at_level_2_long_prompts_wait_and_short_ones_are_answered(start, tmp_path):
    injection = Injection(tmp_path)
    server = start({"chat": SMOLLM2}, *injection.flags()).wait_until_ready()
    injection.write("memory", PRESSURES[2])
    wait_for_level(server, "memory", 2)
    long = server.chat("word " * 1500, max_tokens=1)
    assert long.status_code == 503 and long.json()["code"] == "memory_pressure"
    assert "1024" in long.json()["error"]
    assert server.chat("Hello", max_tokens=1).status_code == 200
    assert server.chat("word " * 20000, max_tokens=1).status_code == 413  # would never be possible
    injection.write("memory", CALM)
    wait_for(lambda: guard_of(server, "memory")["level"] < 2, SOON_S, server.read_log)
    assert server.chat("word " * 1500, max_tokens=1).status_code == 200


def test_a_monitor_that_is_lost(start, tmp_path):
    injection = Injection(tmp_path)
    server = start(MODELS, "--backend", "cpu", *injection.flags()).wait_until_ready()
    (tmp_path / "memory").unlink()
    wait_for(lambda: guard_of(server, "memory")["stale"], SOON_S, server.read_log)
    health = server.get("/healthz").json()
    assert health["status"] == "degraded" and [reason["code"] for reason in health["reasons"]] == ["monitor_stale"]
    assert guard_of(server, "memory")["level"] == 1
    assert server.chat("Hello", max_tokens=1).status_code == 200
    injection.write("memory", CALM)
    wait_for_level(server, "memory", 0)
    assert server.get("/healthz").json()["status"] == "ok"


def test_sensors_of_another_root(start, tmp_path):
    def write(path, text):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")

    gib = 1 << 30
    write("proc/meminfo", "MemTotal: 67108864 kB\nMemAvailable: 60000000 kB")
    write("proc/self/cgroup", "0::/outer/inner")
    write("sys/fs/cgroup/outer/memory.max", str(20 * gib))
    write("sys/fs/cgroup/outer/inner/memory.max", "max")
    write("sys/class/thermal/thermal_zone0/type", "x86_pkg_temp")
    write("sys/class/thermal/thermal_zone0/temp", "86000")
    write("sys/class/thermal/thermal_zone0/trip_point_0_type", "critical")
    write("sys/class/thermal/thermal_zone0/trip_point_0_temp", "100000")
    server = start({"embed": TINY_BERT}, "--sysroot", tmp_path, "--thermal-dwell-ms", 500).wait_until_ready()
    wait_for_level(server, "thermal", 1)
    guards = server.get("/healthz").json()["guards"]
    assert guards["thermal"]["source"] == "x86_pkg_temp" and guards["thermal"]["state"] == "fair"
    assert guards["memory"]["ceiling_bytes"] == 20 * gib and guards["memory"]["level"] == 0
    assert 0 < guards["memory"]["used_bytes"] < gib
    write("sys/fs/cgroup/outer/memory.current", str(20 * gib))
    write("sys/class/thermal/thermal_zone0/temp", "40000")
    wait_for_level(server, "memory", 4)
    assert guard_of(server, "memory")["source"] == "cgroup"
    wait_for_level(server, "thermal", 0)
    assert server.post("/embed", {"inputs": "a"}).json()["code"] == "memory_pressure"


def test_the_limits_are_options(start):
    server = start(
        {"embed": TINY_BERT}, "--memory-budget", "512MiB", "--temperature-limit", 90
    ).wait_until_ready()
    # A quarter more than the budget, and what is needed beside models.
    assert guard_of(server, "memory")["ceiling_bytes"] <= (512 + 128 + 512) << 20
    wait_for(lambda: "guard: the self-test moved the engine to level 1 and back" in server.read_log(), SOON_S)


@pytest.mark.parametrize("flags", [
    ["--inject", "memory"], ["--inject", "fan=/tmp/x"], ["--inject", "memory="], ["--temperature-limit", "20"],
    ["--memory-budget", "-1"],
])
def test_bad_options(flags):
    command = [str(BINARY), "serve", "--port", "0", "--model", f"embed={TINY_BERT}", "--state-dir", "/nowhere"] + flags
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode in (64, 78), result
    assert flags[0][2:] in result.stderr


def test_a_server_whose_guards_move_nothing_ends(start, monkeypatch):
    """The engine's process hears no level: the self-test sees that, and the server does not stay."""
    monkeypatch.setenv("CORTEX_TEST_FAULT", "ignore_budgets")
    server = start({"tiny-chat": TINY_LLAMA}, "--backend", "cpu")
    wait_for(lambda: server.get("/livez").status_code == 200, SOON_S, server.read_log)
    assert server.process.wait(2 * SOON_S) == 70, server.read_log()
    assert "self_test_failed: the guards of memory and heat don't move the engine" in server.read_log()
