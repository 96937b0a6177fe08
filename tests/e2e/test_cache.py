"""`cortex cache`: what is listed, counted, checked and removed of the prompts that a real server has kept on disk."""

import json
import os
import pty
import subprocess

import pytest
from conftest import BINARY, TINY_LLAMA, wait_for

WORDS = "Tell me about the rivers of Europe, one after the other, and then the lakes of the north. "


def cache(action, folder, *flags, text=""):
    return subprocess.run([str(BINARY), "cache", action, "--kv-dir", str(folder), *flags], input=text,
                          capture_output=True, text=True, timeout=120)


def cache_json(action, folder, *flags, status=0):
    result = cache(action, folder, "--json", *flags)
    assert result.returncode == status, result.stderr
    return json.loads(result.stdout)


def runs_in(folder):
    return sorted(folder.glob("v1/*/*/*.kv"))


def everything_in(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.fixture
def served(start, tmp_path):
    """A running server and the folder in which it has kept three prompts."""
    folder = tmp_path / "kv"
    server = start({"tiny-chat": TINY_LLAMA}, "--backend", "cpu", "--kv-dir", folder).wait_until_ready()
    for i in range(3):
        reply = server.chat(f"{i}. " + WORDS * (i + 1), max_tokens=2)
        assert reply.status_code == 200, reply.text

    def has_kept():
        disk = server.get("/healthz").json()["disk"]
        return disk["state"] == "ok" and len(runs_in(folder)) >= 3

    wait_for(has_kept, 20, server.read_log)
    return server, folder


@pytest.fixture
def kept(served):
    """The folder, after the server has ended."""
    server, folder = served
    assert server.stop() == 0, server.read_log()
    return folder


def test_ls_and_stats_say_what_is_there(kept):
    files = runs_in(kept)
    bytes_there = sum(path.stat().st_size for path in files)
    listed = cache_json("ls", kept)
    assert sorted(run["path"] for run in listed["runs"]) == [str(path) for path in files]
    assert [run["used"] for run in listed["runs"]] == sorted((run["used"] for run in listed["runs"]), reverse=True)
    for run in listed["runs"]:
        assert 1 <= run["blocks"] <= 16 and run["tokens"] == 16 * run["blocks"]
        assert run["root"] in run["path"] and run["path"].endswith(run["key"] + ".kv")
    stats = cache_json("stats", kept)
    assert stats["in_use"] is False and stats["files"] == len(files) and stats["bytes"] == bytes_there
    assert stats["tokens"] == sum(run["tokens"] for run in listed["runs"]) >= 48
    assert sum(root["files"] for root in stats["roots"]) == len(files)
    assert {root["root"] for root in stats["roots"]} == {path.parent.parent.name for path in files}
    for name in ("unreadable", "quarantine", "unfinished", "others"):
        assert stats[name] == {"files": 0, "bytes": 0}

    lines = cache("ls", kept).stdout.splitlines()
    assert lines[0].split() == ["ROOT", "BLOCKS", "TOKENS", "SIZE", "LAST", "USE"] and len(lines) == 1 + len(files)
    assert lines[1].split()[0] == listed["runs"][0]["root"][:12] and lines[1].endswith("ago")
    assert f"{len(files)} files" in cache("stats", kept).stdout


def test_the_last_used_comes_first(kept):
    files = runs_in(kept)
    os.utime(files[1], (1_000_000_000, 1_000_000_000))
    os.utime(files[0], (4_000_000_000, 4_000_000_000))
    runs = cache_json("ls", kept)["runs"]
    assert runs[0]["path"] == str(files[0]) and runs[-1]["path"] == str(files[1])
    assert cache("ls", kept).stdout.splitlines()[1].endswith("  0 s ago")


def test_verify_finds_a_flipped_byte_and_changes_nothing(kept):
    assert cache_json("verify", kept)["bad"] == []
    assert "nothing was changed" in cache("verify", kept).stdout
    in_payload, in_header = runs_in(kept)[:2]
    flip(in_payload, in_payload.stat().st_size - 1)
    flip(in_header, 100)
    before = everything_in(kept)
    result = cache("verify", kept)
    assert result.returncode == 1 and "2 bad; nothing was changed" in result.stdout
    assert f"payload: {in_payload}" in result.stdout and f"checksum: {in_header}" in result.stdout
    assert result.stderr.startswith("verify: ")
    found = cache_json("verify", kept, status=1)
    assert {bad["path"]: bad["reason"] for bad in found["bad"]} == {str(in_payload): "payload", str(in_header): "checksum"}
    assert found["files"] == len(runs_in(kept)) and found["removed"] is False
    assert everything_in(kept) == before

    assert cache_json("stats", kept)["unreadable"]["files"] == 1
    assert "cortex cache verify" in cache("ls", kept).stderr

    assert cache_json("verify", kept, "--remove", status=1)["removed"] is True
    assert not in_payload.exists() and not in_header.exists()
    assert cache_json("verify", kept)["bad"] == []


def test_with_a_server_all_is_read_and_nothing_removed(served):
    server, folder = served
    files = runs_in(folder)
    assert len(cache_json("ls", folder)["runs"]) >= len(files)
    assert cache_json("stats", folder)["in_use"] is True
    assert "has it now" in cache("stats", folder).stdout
    assert cache_json("verify", folder)["bad"] == []
    for arguments in (["clear", folder, "--yes"], ["verify", folder, "--remove"]):
        result = cache(*arguments)
        assert result.returncode == 69 and str(folder) in result.stderr and "has it" in result.stderr
        assert "needs it to be stopped" in result.stderr and result.stdout == ""
    assert set(files) <= set(runs_in(folder))
    assert server.get("/healthz").json()["disk"]["state"] == "ok"


def test_clear_removes_ours_and_nothing_else(kept, start):
    files = runs_in(kept)
    (kept / "notes").write_text("mine")
    (files[0].parent / "notes").write_text("mine")
    (kept / "tmp" / "draft").write_text("mine")
    (kept / "tmp" / files[0].name).write_text("half")
    (kept / "quarantine" / f"000000000000-payload-{files[0].name}").write_text("bad")
    expected_bytes = sum(path.stat().st_size for path in files) + len("half") + len("bad")
    result = cache("clear", kept)
    assert result.returncode == 64 and "--yes" in result.stderr and runs_in(kept) == files
    removed = cache_json("clear", kept, "--yes")
    assert removed["files"] == len(files) + 2 and removed["bytes"] == expected_bytes and removed["others"] == 3
    assert {path.name for path in everything_in(kept)} == {"LOCK", "notes", "draft"}
    assert (files[0].parent / "notes").read_text() == "mine"
    assert cache_json("ls", kept)["runs"] == []
    assert "removed 0 files" in cache("clear", kept).stdout
    server = start({"tiny-chat": TINY_LLAMA}, "--backend", "cpu", "--kv-dir", kept).wait_until_ready()
    assert server.chat(WORDS, max_tokens=2).status_code == 200
    wait_for(lambda: runs_in(kept), 20, server.read_log)


@pytest.mark.parametrize("answer, removes", [("n", False), ("", False), ("y", True)])
def test_clear_asks_on_a_terminal(kept, answer, removes):
    files = runs_in(kept)
    ours, its = pty.openpty()
    process = subprocess.Popen([str(BINARY), "cache", "clear", "--kv-dir", str(kept)], stdin=its,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    os.write(ours, answer.encode() + b"\n")
    out, error = process.communicate(timeout=20)
    os.close(ours)
    os.close(its)
    assert process.returncode == 0 and str(kept) in error and "[y/N]" in error
    assert runs_in(kept) == ([] if removes else files)
    assert ("removed" if removes else "nothing was removed") in out


@pytest.mark.parametrize("action", ["ls", "stats", "verify", "clear"])
def test_a_folder_that_is_none(tmp_path, action):
    result = cache(action, tmp_path / "missing")
    assert result.returncode == 78 and f"{tmp_path / 'missing'}: is not there" in result.stderr
    assert not (tmp_path / "missing").exists()
    result = cache(action, tmp_path)
    assert result.returncode == 78 and "no folder of computed prompts" in result.stderr
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "link").symlink_to(tmp_path)
    assert cache(action, tmp_path / "link").returncode == 78
    assert cache(action, "").returncode == 78


def test_flags_have_their_action(tmp_path):
    assert cache("ls", tmp_path, "--yes").returncode == 64
    assert cache("clear", tmp_path, "--remove").returncode == 64
    assert cache("forget", tmp_path).returncode == 64


def test_the_folder_is_that_of_serve(kept, tmp_path):
    for environment in ({"CORTEX_KV_DIR": str(kept)}, {"CORTEX_STATE_DIR": str(kept.parent)}):
        result = subprocess.run([str(BINARY), "cache", "stats", "--json"], env={**os.environ, **environment},
                                capture_output=True, text=True, timeout=20)
        assert json.loads(result.stdout)["directory"] == str(kept)
