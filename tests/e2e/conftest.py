"""Runs the real binary: a server on a free port with tiny or default models, and what tests need to talk to it."""

import os
import pathlib
import re
import signal
import subprocess
import tempfile
import threading

import pytest
import requests

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"
BINARY = pathlib.Path(os.environ.get("CORTEX_BINARY", ROOT / "build" / "release" / "cortex"))
BACKENDS = ["cpu"] + ["mlx" for _ in BINARY.parent.glob("libcortex_mlx.so")]  # what this build has
MODELS = pathlib.Path(
    os.environ.get("CORTEX_MODELS_DIR")
    or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "cortex" / "models"
)
SMOLLM2 = MODELS / "SmolLM2-135M-Instruct.Q4_1.gguf"
MINILM = MODELS / "all-MiniLM-L6-v2"
TINY_LLAMA = DATA / "models" / "llama"
TINY_BERT = DATA / "models" / "bert-mean"
START_TIMEOUT_S = 120


class Server:
    """A `cortex serve` process. Ends with stop(); its log is in `log_path`."""

    def __init__(self, models, *flags, state_dir=None, preexec_fn=None):
        self.directory = pathlib.Path(state_dir or tempfile.mkdtemp(prefix="cortex-e2e-"))
        self.log_path = self.directory / "log"
        command = [str(BINARY), "serve", "--port", "0", "--state-dir", str(self.directory)]
        for name, path in models.items():
            command += ["--model", f"{name}={path}"]
        self.log = open(self.log_path, "ab")
        self.process = subprocess.Popen(
            command + [str(flag) for flag in flags], stdout=subprocess.PIPE, stderr=self.log, text=True,
            preexec_fn=preexec_fn,
        )
        self.port = self._read_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def _read_port(self):
        line = self.process.stdout.readline()
        match = re.search(r"http://\S+:(\d+)", line)
        if not match:
            raise AssertionError(f"the server did not start: {line!r}\n{self.read_log()}")
        return int(match.group(1))

    def read_log(self):
        return self.log_path.read_text(errors="replace")

    def wait_until_ready(self, timeout_s=START_TIMEOUT_S):
        wait_for(lambda: self.get("/readyz").status_code == 200, timeout_s, self.read_log)
        return self

    def get(self, path, **arguments):
        return requests.get(self.url + path, timeout=30, **arguments)

    def post(self, path, body, **arguments):
        return requests.post(self.url + path, json=body, timeout=120, **arguments)

    def delete(self, path, **arguments):
        return requests.delete(self.url + path, timeout=30, **arguments)

    def chat(self, text, **fields):
        return self.post("/chat", {"messages": [{"role": "user", "content": text}], **fields})

    def worker_pid(self):
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        found = [int(pid) for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir()
                 for pid in (task / "children").read_text().split()]
        assert len(found) == 1, f"one worker is expected, not {found} ({children})"
        return found[0]

    def stop(self, number=signal.SIGTERM, timeout_s=40):
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(timeout_s)
        self.process.stdout.close()
        self.log.close()
        return status


def wait_for(condition, timeout_s, explain=lambda: ""):
    """Polls until condition() is true; fails with what explain() says."""
    ticker = threading.Event()
    for _ in range(int(timeout_s / 0.02)):
        try:
            if condition():
                return
        except requests.ConnectionError:
            pass
        ticker.wait(0.02)
    raise AssertionError(f"did not happen within {timeout_s} s\n{explain()}")


@pytest.fixture
def start():
    """start(models, *flags) -> Server that is stopped after the test."""
    servers = []

    def start_one(models, *flags, **arguments):
        server = Server(models, *flags, **arguments)
        servers.append(server)
        return server

    yield start_one
    for server in servers:
        if server.process.poll() is None:
            server.stop()


class Slowness:
    """While it lasts, so many milliseconds pass before each step of a phase."""

    def __init__(self, path, phase, step_ms):
        self.path = path
        self.fault = f"slow_in:{phase}:{step_ms}@{path}"
        self.begin()

    def begin(self):
        self.path.touch()

    def end(self):
        self.path.unlink(missing_ok=True)


@pytest.fixture
def commit(monkeypatch):
    """commit(fault): what workers of servers that are started from now on do wrong, beside what they did before."""

    def add(fault):
        before = os.environ.get("CORTEX_TEST_FAULT")
        monkeypatch.setenv("CORTEX_TEST_FAULT", f"{before},{fault}" if before else fault)

    return add


@pytest.fixture
def slow(commit, tmp_path):
    """slow(phase, step_ms) -> Slowness of the servers that are started from now on: what takes so many steps lasts so
    long at least, however fast the machine is."""
    begun = []

    def begin(phase, step_ms):
        begun.append(Slowness(tmp_path / f"slow-{phase}", phase, step_ms))
        commit(begun[-1].fault)
        return begun[-1]

    yield begin
    for slowness in begun:
        slowness.end()


@pytest.fixture(scope="module")
def tiny():
    """A server with tiny models."""
    server = Server({"tiny-chat": TINY_LLAMA, "tiny-embed": TINY_BERT}, "--backend", "cpu").wait_until_ready()
    yield server
    assert server.stop() == 0, server.read_log()


@pytest.fixture(scope="module")
def real():
    """A server with the default models, as exact as their golden results ask for."""
    server = Server({"smollm2": SMOLLM2, "minilm": MINILM}, "--exact").wait_until_ready()
    yield server
    assert server.stop() == 0, server.read_log()
