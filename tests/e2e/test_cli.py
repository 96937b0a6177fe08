"""What people type besides serve: embed, rerank, models, doctor, completions, and what happens to a mistyped word."""

import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import threading

import pytest

from conftest import BINARY, MINILM, TINY_BERT, TINY_LLAMA

TEXTS = ["pandas live on bamboo", "Paris is in France", "a third text"]
LOCAL = ["--model", f"tiny={TINY_BERT}", "--backend", "cpu"]


def cortex(*arguments, text="", **extra):
    environment = {**os.environ, **extra}
    return subprocess.run([str(BINARY), *map(str, arguments)], input=text, env=environment, capture_output=True,
                          text=True, timeout=120)


def lines_of(result):
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home of its own without models."""
    for name in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "XDG_STATE_HOME", "CORTEX_MODELS_DIR", "CORTEX_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_embed_in_process_and_by_a_server_agree(tiny):
    text = "\n".join(TEXTS) + "\n"
    here = lines_of(cortex("embed", *LOCAL, text=text))
    there = lines_of(cortex("embed", "--server", tiny.url, text=text))
    assert [line["index"] for line in here] == [0, 1, 2]
    assert here == there
    assert abs(sum(x * x for x in here[0]["embedding"]) - 1) < 1e-5


def test_embed_many_lines(tiny):
    text = "".join(f"text {i}\n" for i in range(100))
    found = lines_of(cortex("embed", "--server", tiny.url, text=text))
    assert [line["index"] for line in found] == list(range(100))
    alone = lines_of(cortex("embed", "--server", tiny.url, text="text 77\n"))
    assert found[77]["embedding"] == alone[0]["embedding"]


def test_empty_lines_count(tiny):
    found = lines_of(cortex("embed", "--server", tiny.url, text="one\n\nthree\n"))
    assert [line["index"] for line in found] == [0, 2]


def test_many_calls_and_an_interrupt_in_process(tmp_path):
    (tmp_path / "many").write_text("".join(f"the text number {i}\n" for i in range(200_000)))
    process = subprocess.Popen([str(BINARY), "embed", *LOCAL, str(tmp_path / "many")], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    for _ in range(500):
        assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 130 and error == ""


def test_embed_reads_files_in_three_forms(tiny, tmp_path):
    lines, whole, jsonl = tmp_path / "lines", tmp_path / "whole", tmp_path / "jsonl"
    lines.write_text(TEXTS[0] + "\n" + TEXTS[1] + "\n")
    whole.write_text(TEXTS[0])
    jsonl.write_text(json.dumps(TEXTS[0]) + "\n" + json.dumps({"id": 1, "text": TEXTS[1]}) + "\n")
    expected = lines_of(cortex("embed", "--server", tiny.url, lines))
    assert lines_of(cortex("embed", "--server", tiny.url, "--jsonl", jsonl)) == expected
    assert lines_of(cortex("embed", "--server", tiny.url, "--whole-files", whole)) == expected[:1]
    assert lines_of(cortex("embed", *LOCAL[:2], lines)) == expected  # --model takes one value
    mixed = lines_of(cortex("embed", "--server", tiny.url, whole, "-", text=TEXTS[1]))
    assert mixed == expected


def test_embed_says_what_is_wrong(tiny, tmp_path):
    result = cortex("embed", "--server", tiny.url, "--jsonl", text='"one"\n17\n')
    assert result.returncode == 64 and "standard input:2: 17" in result.stderr
    result = cortex("embed", "--server", tiny.url, "--served-model", "nobody", text="one\n")
    assert result.returncode == 64 and "nobody" in result.stderr
    result = cortex("embed", "--server", tiny.url, tmp_path / "missing")
    assert result.returncode == 78 and "No such file" in result.stderr
    result = cortex("embed", "--server", "http://127.0.0.1:1", text="one\n")
    assert result.returncode == 69 and "`cortex serve`" in result.stderr
    result = cortex("embed", "--server", tiny.url, text="word " * 5000 + "\n")
    assert result.returncode == 64
    assert len(lines_of(cortex("embed", "--server", tiny.url, "--truncate", text="word " * 5000 + "\n"))) == 1


def test_a_bad_text_is_found(tiny, tmp_path):
    (tmp_path / "texts").write_bytes(b"one\ntw\xff\n")
    result = cortex("embed", "--server", tiny.url, tmp_path / "texts")
    assert result.returncode == 64 and f"{tmp_path / 'texts'}:2: not UTF-8" in result.stderr


def test_large_texts_go_in_several_calls(tiny, tmp_path):
    paths = [tmp_path / f"text{i}" for i in range(6)]
    for path in paths:
        path.write_text("word " * 400_000)  # 2 MB; a call takes 8 MiB
    found = lines_of(cortex("embed", "--server", tiny.url, "--truncate", "--whole-files", *paths))
    assert [line["index"] for line in found] == list(range(6))


def test_a_proxy_is_not_told_what_this_machine_is_asked(tiny):
    nobody = "http://127.0.0.1:1"
    found = lines_of(cortex("embed", "--server", tiny.url, text="one\n", http_proxy=nobody, ALL_PROXY=nobody))
    assert len(found) == 1


def test_a_key_is_one_line_of_ascii(tmp_path):
    (tmp_path / "keys").write_bytes(b"secret\rX-Other: 1\n")
    result = cortex("embed", "--api-key-file", tmp_path / "keys", text="one\n")
    assert result.returncode == 78 and "secret" not in result.stderr and "characters" in result.stderr


def test_a_key_stays_on_this_machine(tmp_path):
    (tmp_path / "keys").write_text("secret-key\n")
    result = cortex("embed", "--server", "http://example.invalid", "--api-key-file", tmp_path / "keys", text="one\n")
    assert result.returncode == 78 and "https or this machine only" in result.stderr


def test_nothing_in_nothing_out(tiny):
    result = cortex("embed", "--server", tiny.url, text="")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_reader_that_goes_away_ends_it_quietly(tiny):
    process = subprocess.Popen([str(BINARY), "embed", "--server", tiny.url], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdin.write("".join(f"text {i}\n" for i in range(2000)))
    process.stdin.flush()
    process.stdout.readline()
    process.stdout.close()
    try:
        process.stdin.close()
    except BrokenPipeError:
        pass
    assert process.wait(60) == 0
    assert process.stderr.read() == ""
    process.stderr.close()


def test_an_interrupt_ends_it_quietly(tiny):
    process = subprocess.Popen([str(BINARY), "embed", "--server", tiny.url], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdin.write("".join(f"text {i}\n" for i in range(40)))
    process.stdin.flush()
    process.stdout.readline()  # it waits for more lines now
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 130 and error == ""


def test_a_signal_that_is_ignored_stays_so(tiny):
    process = subprocess.Popen([str(BINARY), "embed", "--server", tiny.url], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    process.stdin.write("".join(f"text {i}\n" for i in range(40)))
    process.stdin.flush()
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.stdin.write("last\n")
    process.stdin.close()
    rest = process.stdout.read()  # not communicate(), which leaves out what readline() has buffered
    assert process.wait(timeout=20) == 0 and len(rest.splitlines()) == 40, process.stderr.read()


@pytest.mark.parametrize("where", ["server", "process"])
def test_rerank(real, where):
    target = ["--server", real.url] if where == "server" else ["--model", MINILM]
    result = cortex("rerank", "--query", "What do pandas eat?", *target, text="\n".join(TEXTS))
    found = lines_of(result)
    assert [line["index"] for line in found][0] == 0 and found[0]["text"] == TEXTS[0]
    assert found == sorted(found, key=lambda line: -line["score"]) and len(found) == 3
    best = lines_of(cortex("rerank", "--query", "What do pandas eat?", "--top-n", 1, *target, text="\n".join(TEXTS)))
    assert best == found[:1]


def test_rerank_more_texts_than_a_call_takes(tiny):
    text = "".join(f"text {i}\n" for i in range(100))
    found = lines_of(cortex("rerank", "--query", "text 77", "--server", tiny.url, text=text))
    assert sorted(line["index"] for line in found) == list(range(100))
    assert found == sorted(found, key=lambda line: (-line["score"], line["index"]))
    alone = lines_of(cortex("rerank", "--query", "text 77", "--server", tiny.url, text="text 77\n"))
    assert [line["score"] for line in found if line["index"] == 77] == [alone[0]["score"]]


def test_models(home):
    assert "cortex pull smollm2" in cortex("models").stdout
    assert json.loads(cortex("models", "--json").stdout) == {"models": []}
    commit = "0" * 40
    entry = home / ".cache/huggingface/hub/models--acme--tiny"
    shutil.copytree(TINY_LLAMA, entry / "snapshots" / commit)
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text(commit)
    folder = home / "models"
    folder.mkdir()
    (folder / "broken.gguf").write_bytes(b"no model")
    models = json.loads(cortex("models", "--json", "--models-dir", folder).stdout)["models"]
    broken, tiny = models
    assert tiny["name"] == "acme/tiny" and tiny["source"] == "hub" and tiny["loads"]
    assert tiny["kind"] == "chat" and tiny["architecture"] == "llama" and tiny["bytes"] > 0
    assert not broken["loads"] and "broken.gguf" in broken["problem"]
    table = cortex("models", "--models-dir", folder).stdout
    assert "acme/tiny" in table and "can't be loaded: " in table


def test_doctor(home, tmp_path):
    result = cortex("doctor", "--port", 0)
    assert result.returncode == 1 and "cortex pull smollm2" in result.stdout
    result = cortex("doctor", "--json", "--port", 0, "--model", TINY_LLAMA)
    report = json.loads(result.stdout)
    assert result.returncode == 0 and report["ready"] is True, report
    checks = {finding["check"]: finding for finding in report["findings"]}
    assert {"cpu", "cores", "memory", "gpu", "backend", "files", "model", "state", "port"} <= set(checks)
    assert "hub" not in checks
    assert all(finding["status"] == "ok" or finding["next"] for finding in report["findings"])
    result = cortex("doctor", "--port", 0, "--model", "acme/none")
    assert result.returncode == 1 and "cortex pull acme/none" in result.stdout


def test_doctor_finds_a_taken_port(home):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = cortex("doctor", "--model", TINY_LLAMA, "--port", taken.getsockname()[1])
        assert result.returncode == 1 and "next: " in result.stdout and "--port" in result.stdout


def test_doctor_knows_what_serve_refuses(home, tmp_path):
    result = cortex("doctor", "--port", 0, "--model", TINY_LLAMA, "--host", "0.0.0.0")
    assert result.returncode == 1 and "--api-key-file" in result.stdout
    (tmp_path / "keys").write_text("secret-key\n")
    keys = ["--api-key-file", tmp_path / "keys"]
    assert cortex("doctor", "--port", 0, "--model", TINY_LLAMA, "--host", "0.0.0.0", *keys).returncode == 0
    result = cortex("doctor", "--port", 0, "--model", TINY_LLAMA, "--model", TINY_LLAMA)
    assert result.returncode == 1 and "twice" in result.stdout


def test_output_that_cannot_be_written(home, tmp_path):
    (tmp_path / "ids").write_text("[1, 2]")
    for command in [["perplexity", "--model", TINY_LLAMA, "--backend", "cpu", "--ids", tmp_path / "ids"], ["models"]]:
        with open("/dev/full", "w") as full:
            result = subprocess.run([str(BINARY), *map(str, command)], stdout=full, stderr=subprocess.PIPE, text=True)
        assert result.returncode == 78 and "No space left" in result.stderr, command


def test_doctor_asks_the_hub_only_when_told(home):
    result = cortex("doctor", "--port", 0, "--model", TINY_LLAMA, "--online", HF_ENDPOINT="http://127.0.0.1:1")
    assert result.returncode == 0 and "hub" in result.stdout and "HF_ENDPOINT" in result.stdout


def test_words_that_are_mistyped():
    result = cortex("serv")
    assert result.returncode == 64 and "did you mean serve?" in result.stderr
    result = cortex("serve", "--modle", "x")
    assert result.returncode == 64 and "did you mean --model?" in result.stderr
    result = cortex("serve")
    assert result.returncode == 64 and "cortex pull smollm2" in result.stderr
    result = cortex("serve", "--model")
    assert result.returncode == 64 and "--model" in result.stderr
    result = cortex("frobnicate")
    assert result.returncode == 64 and "did you mean" not in result.stderr
    assert cortex().returncode == 64
    assert cortex("--help").returncode == 0


def test_help_of_a_command():
    assert cortex("help", "embed").stdout == cortex("embed", "--help").stdout
    assert cortex("help", "embd").returncode == 64
    assert cortex("help").stdout == cortex("--help").stdout


def test_chat_says_plainly_what_is_wrong():
    result = cortex("chat", "--model", "acme/none")
    assert result.returncode == 78 and result.stderr.startswith("cortex chat: acme/none: no such file")


def test_another_server_is_told_of_in_one_line(tiny):
    class Page(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_error(405)

        def log_message(self, *arguments):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.handle_request, daemon=True).start()
    result = cortex("embed", "--server", f"http://127.0.0.1:{server.server_address[1]}", text="one\n")
    server.server_close()
    assert result.returncode == 64 and "405" in result.stderr and len(result.stderr.splitlines()) == 1


def test_help_says_defaults():
    for command in ["serve", "chat", "embed", "rerank", "pull", "models", "doctor", "perplexity", "completions"]:
        result = cortex(command, "--help")
        assert result.returncode == 0 and "--help" in result.stdout, command
    assert "=8080" in cortex("serve", "--help").stdout


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash here")
@pytest.mark.parametrize("line, expected", [
    (["cortex", "ser"], ["serve"]),
    (["cortex", "--v"], ["--version"]),
    (["cortex", "serve", "--back"], ["--backend"]),
    (["cortex", "serve", "--backend", ""], ["auto", "cpu", "mlx"]),
    (["cortex", "serve", "--backend", "m"], ["mlx"]),
    (["cortex", "serve", "--port", ""], []),
    (["cortex", "pull", "min"], ["minilm"]),
    (["cortex", "completions", ""], ["bash", "zsh", "fish"]),
    (["cortex", "embed", "a f"], ["a file.txt"]),
    (["cortex", "models", "--models-dir", "fol"], ["folder"]),
    (["cortex", "nonsense", ""], []),
])
def test_bash_completes(tmp_path, line, expected):
    (tmp_path / "a file.txt").write_text("")
    (tmp_path / "folder").mkdir()
    script = cortex("completions", "bash").stdout
    words = " ".join("'" + word + "'" for word in line)
    script += f"\nCOMP_WORDS=({words}); COMP_CWORD={len(line) - 1}; _cortex; printf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
    result = subprocess.run(["bash", "--norc", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=20)
    assert result.returncode == 0 and result.stderr == ""
    assert [word for word in result.stdout.splitlines() if word] == expected
