"""The servers that bench/serve_compare loads, each a process on a free port of this machine, and http_load, which loads
them. A server is a context: ready inside, ended after it. All compute on the CPU."""

import http.client
import json
import re
import shlex
import signal
import socket
import subprocess
import time

START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 60
CONTEXT_TOKENS = 32768  # llama-server's, shared by its slots
SLOTS = 32


class Failure(Exception):
    """A program that did not do what was asked, with what it said."""


class Server:
    """`command` makes it listen on `port`, where `ready_path` answers with 200 once it can be used."""

    def __init__(self, name, command, port, ready_path, log_path):
        self.name, self.command, self.port, self.ready_path, self.log_path = name, command, port, ready_path, log_path
        self.process = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self._wait_until_ready()
        except BaseException:
            self.end(signal.SIGKILL)
            raise
        return self

    def __exit__(self, *failure):
        self.end(signal.SIGTERM)

    def end(self, number):
        """Sends the signal, unless it has ended, and waits."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _wait_until_ready(self):
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise Failure(f"{shlex.join(self.command)}\nended with {self.process.returncode}\n{self.log_end()}")
            if self._is_ready():
                return
            time.sleep(0.05)
        raise Failure(f"{shlex.join(self.command)}\nis not ready after {START_TIMEOUT_S} s\n{self.log_end()}")

    def _is_ready(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", self.ready_path)
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def log_end(self):
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-5:])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def options_of(binary):
    """The options that `cortex serve` has."""
    result = subprocess.run([str(binary), "serve", "--help"], capture_output=True, text=True, check=False)
    return set(re.findall(r"--[a-z-]+", result.stdout))


def cortex(binary, models, threads, folder, keep=False, flags=()):
    """`cortex serve` with {name: path}. With `keep`, what it computed is in `folder`, also for the next one there."""
    port = free_port()
    command = [str(binary), "serve", "--port", str(port), "--backend", "cpu", "--threads", str(threads), "--state-dir",
               str(folder / "state")]
    for name, path in models.items():
        command += ["--model", f"{name}={path}"]
    if "--kv-dir" in options_of(binary):
        command += ["--kv-dir", str(folder / "kv"), "--kv-disk", "4GiB"] if keep else ["--kv-disk", "0"]
    return Server("Cortex", command + list(flags), port, "/readyz", folder / "cortex.log")


def llama_server(peers, model, threads, folder):
    port = free_port()
    command = [str(peers / "llama" / "bin" / "llama-server"), "-m", str(model), "-t", str(threads), "-np", str(SLOTS),
               "-c", str(CONTEXT_TOKENS), "-fa", "on", "--host", "127.0.0.1", "--port", str(port)]
    return Server("llama-server", command, port, "/health", folder / "llama-server.log")


def load(binary, server, *arguments):
    """What http_load says of this server under this load."""
    command = [str(binary), "--url", server.url, "--pid", str(server.process.pid), "--json", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        said = f"{result.stderr}{result.stdout[:500]}"
        raise Failure(f"{shlex.join(command)}\nended with {result.returncode}\n{said}\n{server.log_end()}")
    return json.loads(result.stdout)
