"""`cortex bench` with tiny models, and bench/compare with contenders that say what they are told to. No test asserts
how long something takes."""

import json
import os
import pty
import signal
import stat
import subprocess
import sys
import xml.etree.ElementTree

import pytest

from conftest import BINARY, DATA, ROOT, TINY_BERT, TINY_LLAMA

GGUF = DATA / "models" / "gguf-llama-q4_0"


def bench(*arguments, **extra):
    environment = {**os.environ, **extra}
    return subprocess.run([str(BINARY), "bench", *map(str, arguments)], env=environment, capture_output=True, text=True,
                          timeout=120)


def answer_of(*arguments):
    result = bench(*arguments, "--backend", "cpu", "--json")
    assert result.returncode == 0, result.stderr
    assert result.stderr == "" and result.stdout.count("\n") == 1
    return json.loads(result.stdout)


def expect_refusal(status, words, *arguments):
    result = bench(*arguments)
    assert result.returncode == status, result.stderr
    assert words in result.stderr and result.stdout == ""


@pytest.mark.parametrize("arguments, tokens, batch", [
    (["prefill", "--model", TINY_LLAMA, "--tokens", 100], 100, 1),
    (["decode", "--model", TINY_LLAMA], 128, 1),
    (["decode", "--model", TINY_LLAMA, "--tokens", 9, "--batch", 3, "--prompt", 20], 9, 3),
    (["encode", "--model", TINY_BERT, "--tokens", 5], 5, 32),
])
def test_the_answer_says_what_was_timed(arguments, tokens, batch):
    answer = answer_of(*arguments, "--repeat", 3, "--threads", 2)
    assert answer["workload"] == arguments[0]
    assert (answer["tokens"], answer["batch"], answer["threads"]) == (tokens, batch, 2)
    assert answer["prompt_tokens"] == (20 if "--prompt" in arguments else 0)
    assert answer["backend"] == answer["device"] == "cpu"
    assert len(answer["runs"]) == 3
    assert answer["ms"] == sorted(answer["runs"])[1]
    # Milliseconds are told to three places, which of a fast run are not many.
    assert tokens * batch * 1000 / (answer["ms"] + 0.001) <= answer["tokens_per_second"] + 0.001
    assert answer["tokens_per_second"] - 0.001 <= tokens * batch * 1000 / (answer["ms"] - 0.001)
    assert answer["weight_bytes"] > 0 and answer["memory_bytes"] > 0 and answer["load_ms"] > 0
    assert ("numeric_class" in answer) == (arguments[0] != "encode")


def test_a_gguf_model_by_its_name():
    answer = answer_of("prefill", "--model", f"tiny={GGUF}", "--tokens", 8, "--repeat", 1)
    assert answer["model"] == "tiny" and answer["architecture"] == "llama" and answer["format"] == "GGUF Q4_0"
    assert answer["exact"] is False and answer["threads"] >= 1


def test_exact_and_the_environment():
    result = bench("decode", "--exact", "--tokens", 2, "--repeat", 1, "--json", CORTEX_MODEL=str(TINY_LLAMA),
                   CORTEX_BACKEND="cpu", CORTEX_THREADS="1")
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["exact"] is True and answer["threads"] == 1


def test_for_people():
    result = bench("encode", "--model", TINY_BERT, "--backend", "cpu", "--batch", 2, "--tokens", 7, "--repeat", 2)
    assert result.returncode == 0 and result.stderr == ""
    first, second = result.stdout.splitlines()
    assert first.startswith("bert-mean, bert, ") and ", cpu: loaded in " in first
    assert second.startswith("encode, 7 tokens x 2, ") and " tokens/s, median of 2: " in second


def test_what_a_model_can_not_do_is_told_before_it_is_loaded():
    expect_refusal(64, "is a decoder", "encode", "--model", TINY_LLAMA)
    expect_refusal(64, "is an encoder", "prefill", "--model", TINY_BERT)
    expect_refusal(64, "is an encoder", "decode", "--model", TINY_BERT)
    expect_refusal(64, "513 tokens; llama takes at most 512", "prefill", "--model", TINY_LLAMA, "--tokens", 513)
    expect_refusal(64, "513 tokens; llama takes at most 512", "decode", "--model", TINY_LLAMA, "--tokens", 500,
                   "--prompt", 13)


def test_a_whole_context_fits():
    assert answer_of("prefill", "--model", TINY_LLAMA, "--tokens", 512, "--repeat", 1)["tokens"] == 512
    assert answer_of("decode", "--model", TINY_LLAMA, "--tokens", 12, "--prompt", 500, "--repeat", 1)["tokens"] == 12


@pytest.mark.parametrize("words, arguments", [
    ("workload is required", []),
    ("workload: train not in {prefill,decode,encode}", ["train", "--model", TINY_LLAMA]),
    ("--model is required", ["prefill"]),
    ("--tokens: Value 0 not in range", ["prefill", "--model", TINY_LLAMA, "--tokens", 0]),
    ("--repeat: Value 0 not in range", ["prefill", "--model", TINY_LLAMA, "--repeat", 0]),
    ("--batch 2: prefill computes one prompt", ["prefill", "--model", TINY_LLAMA, "--batch", 2]),
    ("--prompt: prefill has none", ["prefill", "--model", TINY_LLAMA, "--prompt", 3]),
    ("--prompt: encode has none", ["encode", "--model", TINY_BERT, "--prompt", 3]),
    ("at most 16777216", ["encode", "--model", TINY_BERT, "--batch", 4096, "--tokens", 100000]),
    ('unknown option "--treads"; did you mean --threads?', ["prefill", "--model", TINY_LLAMA, "--treads", 2]),
])
def test_bad_options(monkeypatch, words, arguments):
    monkeypatch.delenv("CORTEX_MODEL", raising=False)
    expect_refusal(64, words, *arguments)


def test_no_such_model(tmp_path):
    expect_refusal(78, "no such file or folder", "prefill", "--model", tmp_path / "absent")


def test_an_interrupt_ends_it():
    ours, terminal = pty.openpty()
    process = subprocess.Popen([str(BINARY), "bench", "decode", "--model", str(TINY_LLAMA), "--backend", "cpu",
                                "--repeat", "100000"], stdout=subprocess.PIPE, stderr=terminal)
    os.close(terminal)
    seen = b""
    while b"run 2 of " not in seen:
        seen += os.read(ours, 1 << 16)
    process.send_signal(signal.SIGINT)
    while process.poll() is None:
        try:
            os.read(ours, 1 << 16)
        except OSError:  # its end is closed
            process.wait(20)
    os.close(ours)
    assert process.returncode == 130 and process.stdout.read() == b""


def test_a_terminal_sees_how_far_it_is():
    ours, terminal = pty.openpty()
    result = subprocess.run([str(BINARY), "bench", "decode", "--model", str(TINY_LLAMA), "--backend", "cpu", "--repeat",
                             "3", "--json"], stdout=subprocess.PIPE, stderr=terminal, timeout=120)
    os.close(terminal)
    seen = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert result.returncode == 0 and len(json.loads(result.stdout)["runs"]) == 3
    for expected in ("loading llama: ", "warming up", "run 1 of 3", "run 3 of 3, the last took "):
        assert expected in seen
    assert seen.endswith("\r\x1b[K"), "the line is gone in the end"


# A contender of bench/compare: notes that it was called and says that each run took so many milliseconds.
CONTENDER = """#!{python}
import json, os, pathlib, sys
with open({log!r}, "a") as log:
    log.write({name!r} + " " + " ".join(sys.argv[1:]) + "\\n")
if "--version" in sys.argv:
    sys.exit(print("cortex 1"))
count = lambda flag: int(sys.argv[sys.argv.index(flag) + 1])
{body}
"""
CORTEX = """
print(json.dumps({"runs": [{ms}] * count("--repeat"), "numeric_class": "made-up"}))
"""
LLAMA_BENCH = """
ms = {ms} * (1 if "on" in sys.argv else 2)
print(json.dumps([{"samples_ns": [ms * 1000000] * count("-r")}]))
"""
LLAMA_BATCHED_BENCH = """
for number in sys.argv[sys.argv.index("-npl") + 1].split(","):
    print(json.dumps({"t_pp": 99, "t_tg": {ms} / 1000}))
"""


class Stage:
    """A folder of contenders; what was called is in calls()."""

    def __init__(self, folder):
        self.folder = folder
        self.log = folder / "log"
        self.output = folder / "out"
        (folder / "peers" / "llama" / "bin").mkdir(parents=True)
        (folder / "peers" / "models").mkdir()
        for name in ("SmolLM2-135M-Instruct.Q4_1.gguf", "gemma-3-270m-q4_k_m.gguf"):
            (folder / "peers" / "models" / name).touch()

    def add(self, path, body, ms):
        path = self.folder / path
        path.write_text(CONTENDER.format(python=sys.executable, log=str(self.log), name=path.name,
                                         body=body.replace("{ms}", str(ms))))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def compare(self, *arguments):
        environment = {**os.environ, "CORTEX_PEERS_DIR": str(self.folder / "peers"),
                       "CORTEX_MODELS_DIR": str(self.folder / "none")}
        command = [sys.executable, str(ROOT / "bench" / "compare"), "--cortex", str(self.folder / "cortex"), "--output",
                   str(self.output), *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    def calls(self):
        return [line.split() for line in self.log.read_text().splitlines() if "--version" not in line]

    def results(self):
        return json.loads((self.output / "benchmarks.json").read_text())


@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path)
    stage.add("cortex", CORTEX, 100)
    stage.add("peers/llama/bin/llama-bench", LLAMA_BENCH, 500)
    stage.add("peers/llama/bin/llama-batched-bench", LLAMA_BATCHED_BENCH, 250)
    return stage


def test_quads_go_cortex_peer_peer_cortex(stage):
    result = stage.compare("--only", "smollm2-pp512", "--quads", 2, "--threads", 3)
    assert result.returncode == 0, result.stderr
    calls = stage.calls()
    # llama.cpp without and with flash attention, then each once to see how often a run fits into a measurement.
    assert [call[0] for call in calls[:4]] == ["llama-bench", "llama-bench", "cortex", "llama-bench"]
    assert [call[0] for call in calls[4:]] == ["cortex", "llama-bench", "llama-bench", "cortex"] * 2
    for call in calls[4:]:
        flag, repeat = ("--repeat", "20") if call[0] == "cortex" else ("-r", "4")
        assert call[call.index(flag) + 1] == repeat
        assert call[call.index("--threads" if call[0] == "cortex" else "-t") + 1] == "3"
    assert "on" in calls[5], "the faster of both"
    (outcome,) = stage.results()["outcomes"]
    assert outcome["ratio"] == outcome["least_ratio"] == outcome["greatest_ratio"] == pytest.approx(5)
    assert outcome["cortex"]["tokens_per_second"] == pytest.approx(5120)
    assert outcome["peer"]["tokens_per_second"] == pytest.approx(1024)
    row = "| smollm2-pp512 | 5120 tokens/s (100.0 ms) | llama.cpp | 1024 tokens/s (500.0 ms) | 5.00 [5.00 - 5.00] | 6 |"
    assert row in result.stdout.splitlines()


def test_several_sequences_are_timed_without_their_prompts(stage):
    assert stage.compare("--only", "smollm2-16x64", "--quads", 1).returncode == 0
    calls = stage.calls()
    batched = [call for call in calls if call[0] == "llama-batched-bench"]
    assert batched[-1][-2:] == ["-npl", ",".join(["16"] * 8)]
    for flag, value in (("-npp", "128"), ("-ntg", "64"), ("-c", "3072")):
        assert batched[-1][batched[-1].index(flag) + 1] == value
    own = next(call for call in calls if call[0] == "cortex")
    for flag, value in (("--prompt", "128"), ("--tokens", "64"), ("--batch", "16")):
        assert own[own.index(flag) + 1] == value
    assert stage.results()["outcomes"][0]["ratio"] == pytest.approx(2.5)


def test_what_is_written(stage):
    assert stage.compare("--only", "gemma3", "--quads", 1).returncode == 0
    names = [outcome["case"]["name"] for outcome in stage.results()["outcomes"]]
    assert names == ["gemma3-pp512", "gemma3-tg64", "gemma3-tg128"]
    text = (stage.output / "benchmarks.md").read_text()
    for expected in ("![Times as fast as the peer](benchmarks.svg)", "numeric class made-up", "K and V in f16", "bench/compare", "commit"):
        assert expected in text
    plot = xml.etree.ElementTree.parse(stage.output / "benchmarks.svg").getroot()
    words = {element.text for element in plot.iter("{http://www.w3.org/2000/svg}text")}
    assert {"gemma3-pp512", "gemma3-tg64", "gemma3-tg128", "5.00"} <= words


def test_check_wants_half_of_a_goal(stage):
    assert stage.compare("--only", "smollm2-pp512", "--quads", 1, "--check").returncode == 0
    stage.add("cortex", CORTEX, 180)  # 2.78 times as fast, the goal is 6
    assert stage.compare("--only", "smollm2-pp512", "--quads", 1).returncode == 0
    result = stage.compare("--only", "smollm2-pp512", "--quads", 1, "--check")
    assert result.returncode == 1
    assert "smollm2-pp512: 2.78 times as fast; at least 3 is expected" in result.stderr
    assert "| smollm2-pp512 |" in result.stdout


def test_a_contender_that_fails_is_told(stage):
    stage.add("peers/llama/bin/llama-bench", "print('a bad model', file=sys.stderr); sys.exit(3)", 0)
    result = stage.compare("--only", "smollm2-pp512")
    assert result.returncode == 1 and "ended with 3" in result.stderr and "a bad model" in result.stderr


def test_unknown_cases_and_absent_models(stage):
    result = stage.compare("--only", "gpt")
    assert result.returncode == 2 and "gpt" in result.stderr
    result = stage.compare("--only", "minilm")
    assert result.returncode == 1 and "script/fetch-models" in result.stderr
