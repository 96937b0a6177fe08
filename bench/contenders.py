"""Those who run a case: Cortex and its peers. Each time(repeat) gives the milliseconds of `repeat` runs after a warm-up
of its own. All compute on the CPU, with the same number of threads and from the same files of weights."""

import json
import pathlib
import random
import re
import shlex
import subprocess


class Failure(Exception):
    """A contender that did not answer, with what it said."""


def output_of(command):
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        said = "\n".join(result.stderr.splitlines()[-5:])
        raise Failure(f"{shlex.join(command)}\nended with {result.returncode}\n{said}")
    return result.stdout


class Cortex:
    """`cortex bench`: loads the model, times it, ends."""

    def __init__(self, binary, model, case, threads):
        self.command = [str(binary), "bench", case.workload, "--model", str(model), "--tokens", str(case.tokens),
                        "--batch", str(case.batch), "--prompt", str(case.prompt), "--threads", str(threads),
                        "--backend", "cpu", "--json"]
        self.name = "Cortex"
        self.precision = None  # in words; a decoder says it once it has run

    def time(self, repeat):
        answer = json.loads(output_of([*self.command, "--repeat", str(repeat)]))
        self.precision = f"numeric class {answer['numeric_class']}" if "numeric_class" in answer else None
        return answer["runs"]


class LlamaCpp:
    """llama-bench, or llama-batched-bench for several sequences. Its KV cache is f16, as both have it by default."""

    def __init__(self, peers, model, case, threads, flash_attention):
        self.name = "llama.cpp"
        self.precision = "K and V in f16"
        self.flash_attention = flash_attention
        self.case = case
        self.batched = case.batch > 1 or case.prompt > 0
        binaries = peers / "llama" / "bin"
        common = ["-m", str(model), "-t", str(threads), "-fa", "on" if flash_attention else "off"]
        if self.batched:
            cells = case.batch * (case.prompt + case.tokens)
            self.command = [str(binaries / "llama-batched-bench"), *common, "-c", str(cells), "-npp", str(case.prompt),
                            "-ntg", str(case.tokens), "--output-format", "jsonl"]
        else:
            prompt, generated = (case.tokens, 0) if case.workload == "prefill" else (0, case.tokens)
            self.command = [str(binaries / "llama-bench"), *common, "-p", str(prompt), "-n", str(generated), "-o",
                            "json"]

    def time(self, repeat):
        if self.batched:
            lines = output_of([*self.command, "-npl", ",".join([str(self.case.batch)] * repeat)]).splitlines()
            return [json.loads(line)["t_tg"] * 1000 for line in lines if line.startswith("{")]
        (test,) = json.loads(output_of([*self.command, "-r", str(repeat)]))
        return [ns / 1e6 for ns in test["samples_ns"]]


class OnnxSession:
    """minilm_onnx.py, which keeps its session for all cases; a context."""

    def __init__(self, peers, model, threads):
        script = pathlib.Path(__file__).resolve().parent / "minilm_onnx.py"
        self.command = [str(peers / "venv" / "bin" / "python"), str(script), str(model), str(threads)]
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.version = self._read()["version"]

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.process.stdin.close()
        self.process.wait()

    def ask(self, request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self):
        line = self.process.stdout.readline()
        if not line:
            raise Failure(f"{shlex.join(self.command)}\nended with {self.process.wait()}")
        return json.loads(line)


class OnnxRuntime:
    def __init__(self, session, case):
        self.name = "ONNX Runtime"
        self.precision = "float32"
        self.session = session
        self.command = session.command
        self.case = case

    def time(self, repeat):
        return self.session.ask({"texts": self.case.batch, "tokens": self.case.tokens, "repeat": repeat})["ms"]


def faster_llama_cpp(peers, model, case, threads):
    """llama.cpp with or without flash attention, whichever takes less time now."""
    both = [LlamaCpp(peers, model, case, threads, flash_attention) for flash_attention in (False, True)]
    return min(both, key=lambda contender: min(contender.time(1)))


def cosines(binary, session, model, threads, texts=32):
    """The cosine of Cortex's and ONNX Runtime's embeddings of each of some texts, of 3 to 128 tokens.

    The texts are of words that are one token each, so that their ids are known without a tokenizer.
    """
    vocabulary = (model / "vocab.txt").read_text(encoding="utf-8").splitlines()
    ids = {word: number for number, word in enumerate(vocabulary)}
    words = [word for word in vocabulary if re.fullmatch("[a-z]{2,}", word)]
    choose = random.Random(0)
    chosen = [choose.choices(words, k=1 + number * 125 // (texts - 1)) for number in range(texts)]
    wanted = [[ids["[CLS]"], *(ids[word] for word in text), ids["[SEP]"]] for text in chosen]
    expected = session.ask({"ids": wanted})["embeddings"]
    command = [str(binary), "embed", "--model", str(model), "--backend", "cpu", "--threads", str(threads)]
    result = subprocess.run(command, input="".join(" ".join(text) + "\n" for text in chosen), capture_output=True,
                            text=True, check=False)
    if result.returncode != 0:
        raise Failure(f"{shlex.join(command)}\nended with {result.returncode}\n{result.stderr}")
    found = [json.loads(line)["embedding"] for line in result.stdout.splitlines()]
    if len(found) != texts:
        raise Failure(f"{shlex.join(command)}\ngave {len(found)} embeddings of {texts} texts")
    return [sum(a * b for a, b in zip(here, there)) for here, there in zip(found, expected)]  # both are of length 1
