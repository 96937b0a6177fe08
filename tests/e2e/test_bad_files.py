"""Bad model files and options: the server does not start, says in one line what is wrong where, quickly and without
taking memory for what a file only claims to hold."""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile

import pytest

from conftest import BINARY, ROOT, TINY_BERT, TINY_LLAMA, Server, wait_for

sys.path.insert(0, str(ROOT / "tools"))
import bad_gguf  # noqa: E402
import bad_safetensors  # noqa: E402
import tiny_gguf  # noqa: E402

LLAMA_MLX = TINY_LLAMA.parent / "llama-mlx-q4"
EXIT_USAGE = 64
EXIT_CONFIG = 78
MOST_SECONDS = 5
# A file may take some times its size while it is read: its text, the parser's, what comes of it.
MOST_TIMES_ITS_SIZE = 16
SLACK_BYTES = 32 << 20


# Runs a command and prints its exit code, seconds of computing and peak memory. A process of its own, and a small one: a
# peak counts from before the program was there.
MEASURE = """
import os, signal, sys
child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
signal.alarm(60)
_, status, usage = os.wait4(child, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
"""


class Run:
    """`cortex serve` with these arguments, to its end; what it said and what it took."""

    def __init__(self, *arguments, before=()):
        with tempfile.TemporaryDirectory(prefix="cortex-e2e-") as state:
            command = [*before, str(BINARY), "serve", "--port", "0", "--state-dir", state, *map(str, arguments)]
            # Under AddressSanitizer, what is freed counts as free.
            environment = os.environ | {"ASAN_OPTIONS": "quarantine_size_mb=1:thread_local_quarantine_size_kb=64"}
            done = subprocess.run([sys.executable, "-SE", "-c", MEASURE, *command], capture_output=True, check=True,
                                  env=environment)
        exit_code, seconds, peak = done.stdout.split()
        self.exit_code = int(exit_code)
        self.seconds = float(seconds)
        self.peak_bytes = int(peak) * (1 if sys.platform == "darwin" else 1024)
        self.said = done.stderr.decode("utf-8")  # throws on what is not UTF-8

    def lines(self):
        return self.said.splitlines()


@pytest.fixture(scope="module")
def plain_peak_bytes():
    """What it takes to open a good model, and to fail then."""
    run = Run("--model", f"good={TINY_LLAMA}", "--model", "bad=/nowhere/model")
    assert run.exit_code == EXIT_CONFIG, run.said
    return run.peak_bytes


@pytest.fixture
def folder(tmp_path):
    """Copies of tiny models, to be spoiled: folder("llama") is a path."""

    def copy(name="llama"):
        path = tmp_path / name
        shutil.copytree(TINY_LLAMA.parent / name, path, ignore=shutil.ignore_patterns("golden.*"))
        return path

    return copy


def size_of(path):
    return sum(p.stat().st_size for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file())


def assert_refused(path, code, words, plain_peak_bytes, before=()):
    run = Run("--model", f"x={path}", before=before)
    assert run.exit_code == EXIT_CONFIG, (run.exit_code, run.said)
    assert len(run.lines()) == 1, run.said
    line = run.lines()[0]
    assert f" error serve [-] {code}: " in line, line
    for word in words:
        assert word in line, line
    assert run.seconds < MOST_SECONDS
    assert run.peak_bytes < plain_peak_bytes + MOST_TIMES_ITS_SIZE * size_of(path) + SLACK_BYTES


# Weights -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("content", "words"), [c[1:] for c in bad_safetensors.CASES],
                         ids=[c[0] for c in bad_safetensors.CASES])
def test_safetensors(folder, content, words, plain_peak_bytes):
    path = folder()
    (path / "model.safetensors").write_bytes(content)
    # Well-formed ones lack the model's tensors.
    wanted = "model.embed_tokens.weight" if words is None else words
    assert_refused(path, "invalid_weights", ["model.safetensors", wanted], plain_peak_bytes)


def test_the_cases_are_as_many_as_the_contract_says():
    assert len(bad_safetensors.CASES) == 27 and sum(c[2] is not None for c in bad_safetensors.CASES) == 24
    assert len(bad_gguf.CASES) == 13 and sum(c[2] is not None for c in bad_gguf.CASES) == 12


@pytest.mark.parametrize(("content", "words"), [c[1:] for c in bad_gguf.CASES], ids=[c[0] for c in bad_gguf.CASES])
def test_gguf(tmp_path, content, words, plain_peak_bytes):
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    if words is None:
        assert_refused(path, "invalid_config", ["bad.gguf", "general.architecture"], plain_peak_bytes)
    else:
        assert_refused(path, "invalid_weights", ["bad.gguf", words], plain_peak_bytes)


def test_a_gguf_cut_anywhere(tmp_path, plain_peak_bytes):
    whole = tiny_gguf.model()
    path = tmp_path / "cut.gguf"
    for size in [0, 3, 4, 23, 24, 100, 500, 1000, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:size])
        assert_refused(path, "invalid_weights", ["cut.gguf"], plain_peak_bytes)


def replace_once(path, old, new):
    content = path.read_bytes()
    assert content.count(old) >= 1, f"{path} does not hold {old!r}"
    path.write_bytes(content.replace(old, new, 1))


@pytest.mark.parametrize(("old", "new", "code", "words"), [
    (b"llama.embedding_length", b"llama.embedding_lengtH", "invalid_config", "llama.embedding_length: is missing"),
    (b"gpt2", b"gpt9", "invalid_tokenizer", "tokenizer.ggml.model"),
    (b"smollm", b"smellm", "invalid_tokenizer", "tokenizer.ggml.pre"),
    (b"t h", b"t q", "invalid_tokenizer", "tokenizer.ggml.merges"),
    (b"blk.0.attn_q.weight", b"blk.0.attn_Q.weight", "invalid_weights", "blk.0.attn_q.weight"),
    (b"{% for m in", b"{% fir m in", "invalid_config", "one.gguf: chat template"),
])
def test_a_gguf_with_one_thing_wrong(tmp_path, old, new, code, words, plain_peak_bytes):
    path = tmp_path / "one.gguf"
    path.write_bytes(tiny_gguf.model())
    replace_once(path, old, new)
    assert_refused(path, code, [words], plain_peak_bytes)


def test_weights_that_are_cut(folder, plain_peak_bytes):
    path = folder()
    os.truncate(path / "model.safetensors", (path / "model.safetensors").stat().st_size // 2)
    assert_refused(path, "invalid_weights", ["model.safetensors", "data offset"], plain_peak_bytes)


def test_weights_of_another_shape(folder, plain_peak_bytes):
    path = folder()
    header, data = read_safetensors(path / "model.safetensors")
    header["model.norm.weight"]["shape"] = [32, 2]
    write_safetensors(path / "model.safetensors", header, data)
    assert_refused(path, "invalid_weights", ['"model.norm.weight"', "[32, 2]", "[64]"], plain_peak_bytes)


def test_a_tensor_that_nobody_knows(folder, plain_peak_bytes):
    path = folder()
    header, data = read_safetensors(path / "model.safetensors")
    header["frobnicate"] = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    write_safetensors(path / "model.safetensors", header, data)
    assert_refused(path, "invalid_weights", ["frobnicate"], plain_peak_bytes)


def read_safetensors(path):
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8:8 + length]), content[8 + length:]


def write_safetensors(path, header, data):
    path.write_bytes(bad_safetensors.file_of(header, data))


# The index of several files ------------------------------------------------------------------------------------------


def make_shards(path, weight_map=None):
    """The weights in one shard under an index; `weight_map` changes what the index says."""
    header, _ = read_safetensors(path / "model.safetensors")
    header.pop("__metadata__", None)
    (path / "model.safetensors").rename(path / "a.safetensors")
    index = {"weight_map": {name: "a.safetensors" for name in header} | (weight_map or {})}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(("name", "code", "words"), [
    ("../../x", "invalid_path", "../../x"),
    ("/etc/passwd", "invalid_path", "/etc/passwd"),
    ("..", "invalid_path", ".."),
    ("", "invalid_path", "model.norm.weight"),
    (".", "invalid_path", "model.norm.weight"),
    ("absent.safetensors", "invalid_weights", "absent.safetensors"),
    (7, "invalid_weights", "model.norm.weight: 7 is not a string"),
])
def test_an_index_that_names(folder, name, code, words, plain_peak_bytes):
    path = folder()
    make_shards(path, {"model.norm.weight": name})
    assert_refused(path, code, [words], plain_peak_bytes)


def test_an_index_of_a_tensor_that_its_file_lacks(folder, plain_peak_bytes):
    path = folder()
    make_shards(path, {"absent.weight": "a.safetensors"})
    assert_refused(path, "invalid_weights", ["model.safetensors.index.json", "absent.weight"], plain_peak_bytes)


def test_a_tensor_in_two_shards(folder, plain_peak_bytes):
    path = folder()
    make_shards(path)
    shutil.copy(path / "a.safetensors", path / "b.safetensors")
    index = path / "model.safetensors.index.json"
    weights = json.loads(index.read_text())["weight_map"] | {"model.norm.weight": "b.safetensors"}
    index.write_text(json.dumps({"weight_map": weights}))
    assert_refused(path, "invalid_weights", ["model.norm.weight", "b.safetensors"], plain_peak_bytes)


@pytest.mark.parametrize(("text", "words"), [
    ("{", "not valid JSON"),
    ("[]", "an array at the top"),
    ("{}", "weight_map: is missing"),
    ('{"weight_map": []}', "weight_map: an array is not an object"),
    ('{"weight_map": {"a": "b", "a": "c"}}', "weight_map.a: stands twice"),
    ('{"weight_map": {"a\\n\\u001b[2J": 7}}', "a\\n\\u001b[2J"),
    ('{"a":' + "[" * 1_000_000, "model.safetensors.index.json"),
    ('{"' + "n" * 1_000_000 + '": [' + "{}," * 100_000 + "{}]}", "weight_map: is missing"),
    ('{"a": [' + "0," * 4_000_000 + "0]}", "more JSON values"),
    ('{"a": [' + "{}," * 4_000_000 + "{}]}", "more JSON objects"),
], ids=["open", "an array", "no map", "a map that is none", "a name twice", "controls", "open brackets", "a long name",
        "too many values", "too many objects"])
def test_an_index_of(folder, text, words, plain_peak_bytes):
    path = folder()
    make_shards(path)
    (path / "model.safetensors.index.json").write_text(text)
    assert_refused(path, "invalid_weights", ["model.safetensors.index.json", words], plain_peak_bytes)


# config.json ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, -1, 10**9, 2**31, 2**63, 10**30, 1.5, "64", [64], {}, True])
@pytest.mark.parametrize("field", ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                                   "num_key_value_heads", "vocab_size", "max_position_embeddings", "head_dim"])
def test_a_size_of(folder, field, value, plain_peak_bytes):
    path = folder()
    change_json(path / "config.json", {field: value})
    assert_refused(path, "invalid_config", ["config.json", field], plain_peak_bytes)


def change_json(path, changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


ROPE = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64}


@pytest.mark.parametrize(("changes", "words"), [
    ({"num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": None}, "num_attention_heads"),
    ({"num_attention_heads": 4, "num_key_value_heads": 3}, "num_key_value_heads"),
    ({"head_dim": 15}, "15"),
    ({"model_type": "frobnicate"}, '"frobnicate" is not a supported architecture; one of bert'),
    ({"model_type": None}, "model_type: is missing"),
    ({"model_type": 7}, "model_type"),
    ({"vocab_size": 485}, "vocab_size"),
    ({"vocab_size": 483}, "vocab_size"),
    ({"rms_norm_eps": 0}, "rms_norm_eps"),
    ({"rms_norm_eps": -1e-5}, "rms_norm_eps"),
    ({"hidden_act": "frobnicate"}, "hidden_act"),
    ({"tie_word_embeddings": "no"}, "tie_word_embeddings"),
    ({"rope_parameters": {"rope_theta": 0.0}}, "rope_theta"),
    ({"rope_parameters": {"rope_theta": -1.0}}, "rope_theta"),
    ({"rope_parameters": {"rope_theta": "10000"}}, "rope_theta"),
    ({"rope_parameters": ROPE | {"rope_type": "frobnicate"}}, "rope_type"),
    ({"rope_parameters": ROPE | {"factor": 0}}, "factor"),
    ({"rope_parameters": ROPE | {"factor": -8}}, "factor"),
    ({"rope_parameters": ROPE | {"high_freq_factor": 1.0}}, "high_freq_factor"),
    ({"rope_parameters": ROPE | {"original_max_position_embeddings": 0}}, "original_max_position_embeddings"),
    ({"eos_token_id": -1}, "eos_token_id"),
    ({"eos_token_id": 484}, "eos_token_id"),
    ({"eos_token_id": [0, 2**40]}, "eos_token_id"),
], ids=repr)
def test_a_configuration_with(folder, changes, words, plain_peak_bytes):
    path = folder()
    change_json(path / "config.json", changes)
    assert_refused(path, "invalid_config", ["config.json", words], plain_peak_bytes)


@pytest.mark.parametrize(("old", "new", "words"), [
    ('"rope_theta": 10000.0', '"rope_theta": NaN', "not valid JSON"),
    ('"rope_theta": 10000.0', '"rope_theta": 1e999', "not valid JSON"),
    ('"vocab_size"', '"hidden_size": 64, "vocab_size"', "hidden_size: stands twice"),
    ("{", "[", "not valid JSON"),
    ("{", '{"a": ' + "[" * 1000 + "]" * 1000 + ",", "nested deeper"),
    ("{", "\ufeff" + "{ x", "config.json"),
], ids=["NaN", "1e999", "a key twice", "a bracket", "deep", "a mark"])
def test_a_configuration_whose_text_is_spoiled(folder, old, new, words, plain_peak_bytes):
    path = folder()
    replace_once(path / "config.json", old.encode(), new.encode())
    assert_refused(path, "invalid_config", ["config.json", words], plain_peak_bytes)


def test_a_configuration_of_many_megabytes(folder, plain_peak_bytes):
    path = folder()
    (path / "config.json").write_text("{" + " " * (80 << 20) + "}")
    assert_refused(path, "invalid_config", ["config.json", "exceed the limit"], plain_peak_bytes)


@pytest.mark.parametrize("value", [0, -1, 10**9, 1.5, "32"])
@pytest.mark.parametrize("field", ["hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size",
                                   "max_position_embeddings", "type_vocab_size", "intermediate_size"])
def test_a_size_of_an_encoder(folder, field, value, plain_peak_bytes):
    path = folder("bert-mean")
    change_json(path / "config.json", {field: value})
    assert_refused(path, "invalid_config", ["config.json", field], plain_peak_bytes)


@pytest.mark.parametrize(("name", "text", "words"), [
    ("modules.json", "{}", "modules.json"),
    ("modules.json", '[{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling", "path": "../../etc"}]', "etc"),
    ("1_Pooling/config.json", '{"pooling_mode": "frobnicate"}', "frobnicate"),
    ("1_Pooling/config.json", '{"pooling_mode_mean_tokens": 1}', "pooling_mode_mean_tokens"),
])
def test_files_of_sentence_transformers(folder, name, text, words, plain_peak_bytes):
    path = folder("bert-mean")
    (path / name).write_text(text)
    run = Run("--model", f"x={path}")
    assert run.exit_code == EXIT_CONFIG and len(run.lines()) == 1, run.said
    assert words in run.said
    assert run.seconds < MOST_SECONDS


# The tokenizer -------------------------------------------------------------------------------------------------------


def tokenizer_with(change):
    """The text of llama's tokenizer.json after change(tokenizer), which may return another text."""
    tokenizer = json.loads((TINY_LLAMA / "tokenizer.json").read_text())
    text = change(tokenizer)
    return json.dumps(tokenizer) if text is None else text


def set_merges(tokenizer):
    tokenizer["model"]["merges"] = [["no such token", "neither this"]]


def set_far_id(tokenizer):
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary[next(iter(vocabulary))] = 4_000_000_000


def add_tokens(tokenizer):
    tokenizer["model"]["vocab"].update({f"more{i}": len(tokenizer["model"]["vocab"]) + i for i in range(100)})


def set_added_id(tokenizer):
    tokenizer["added_tokens"][0]["id"] = 999_999


def set_regex(tokenizer):
    pattern = "(" * 200 + "a" + "){1,1000}" * 200
    tokenizer["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def set_unbalanced_regex(tokenizer):
    tokenizer["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": "((("}, "behavior": "Isolated", "invert": False}


def set_decoder(tokenizer):
    tokenizer["decoder"] = {"typ": "WordPiece"}


def set_model(tokenizer):
    tokenizer["model"] = {"type": "Frobnicate"}


@pytest.mark.parametrize("change", [
    lambda t: json.dumps(t)[: len(json.dumps(t)) // 2], lambda t: "", lambda t: "null", lambda t: "{}",
    lambda t: '{"a":' + "[" * 1_000_000, lambda t: '{"a":' + "[" * 500_000 + "]" * 500_000 + "}",
    lambda t: '{"model":' + '{"a":' * 100_000 + "1" + "}" * 100_001,
    set_merges, set_far_id, add_tokens, set_added_id, set_regex, set_unbalanced_regex, set_decoder, set_model,
], ids=["truncated", "empty", "null", "an empty object", "10^6 open brackets", "10^6 brackets", "10^5 objects",
        "merges of unknown tokens", "an id past 32 bits", "more tokens than rows", "a far added id", "a regex bomb",
        "an unbalanced regex", "a decoder without type", "an unknown model"])
def test_a_tokenizer_that_is(folder, change, plain_peak_bytes):
    path = folder()
    (path / "tokenizer.json").write_text(tokenizer_with(change))
    assert_refused(path, "invalid_tokenizer", ["tokenizer.json"], plain_peak_bytes)


def test_a_tokenizer_that_is_missing(folder, plain_peak_bytes):
    path = folder()
    (path / "tokenizer.json").unlink()
    assert_refused(path, "invalid_tokenizer", ["tokenizer.json"], plain_peak_bytes)


def test_bytes_that_are_no_utf8(folder, plain_peak_bytes):
    path = folder()
    replace_once(path / "tokenizer.json", b'"version"', b'"\xff\xfe"')
    assert_refused(path, "invalid_tokenizer", ["tokenizer.json"], plain_peak_bytes)


@pytest.mark.parametrize(("name", "text", "code", "words"), [
    ("tokenizer_config.json", "{", "invalid_tokenizer", "tokenizer_config.json"),
    ("tokenizer_config.json", '{"eos_token": 7}', "invalid_tokenizer", "eos_token"),
    ("tokenizer_config.json", '{"eos_token": "no such token"}', "invalid_tokenizer", "no such token"),
    ("tokenizer_config.json", '{"eos_token": {"a": 1}}', "invalid_tokenizer", "content"),
    ("generation_config.json", '{"temperature": -1}', "invalid_config", "temperature"),
    ("generation_config.json", '{"top_k": 1e99}', "invalid_config", "top_k"),
    ("generation_config.json", '{"eos_token_id": [484]}', "invalid_config", "eos_token_id"),
    ("chat_template.jinja", "{% for m in messages %}", "invalid_config", "chat template"),
    ("chat_template.jinja", "{{ " + "(" * 30_000, "invalid_config", "chat template"),
    ("chat_template.jinja", "x" * (2 << 20), "invalid_tokenizer", "chat_template.jinja"),
])
def test_a_file_beside_it(folder, name, text, code, words, plain_peak_bytes):
    path = folder()
    (path / name).write_text(text)
    assert_refused(path, code, [words], plain_peak_bytes)


# Paths ---------------------------------------------------------------------------------------------------------------


def link_out(path):
    outside = path.parent / "outside.safetensors"
    (path / "model.safetensors").rename(outside)
    (path / "model.safetensors").symlink_to(outside)


def make_fifo(path):
    (path / "model.safetensors").unlink()
    os.mkfifo(path / "model.safetensors")


def make_directory(path):
    (path / "model.safetensors").unlink()
    (path / "model.safetensors").mkdir()


def make_dangling(path):
    (path / "model.safetensors").unlink()
    (path / "model.safetensors").symlink_to(path / "nowhere")


def make_loop(path):
    (path / "model.safetensors").unlink()
    (path / "model.safetensors").symlink_to(path / "model.safetensors")


def make_pickle(path):
    (path / "model.safetensors").rename(path / "pytorch_model.bin")


@pytest.mark.parametrize(("spoil", "words"), [
    (link_out, "out of the model's folder"),
    (make_fifo, "model.safetensors"),
    (make_directory, "model.safetensors"),
    (make_dangling, "model.safetensors"),
    (make_loop, "model.safetensors"),
    (make_pickle, "pickle weights are never loaded"),
    (lambda path: (path / "config.json").unlink(), "config.json"),
    (lambda path: (path / "model.safetensors").unlink(), "model.safetensors"),
], ids=["a link out", "a fifo", "a directory", "a dangling link", "a link to itself", "a pickle", "no configuration",
        "no weights"])
def test_a_folder_with(folder, spoil, words, plain_peak_bytes):
    path = folder()
    spoil(path)
    assert_refused(path, "invalid_path", [words], plain_peak_bytes)


def test_a_file_that_may_not_be_read(folder, plain_peak_bytes):
    path = folder()
    (path / "model.safetensors").chmod(0)
    # Root may read all until it gives that up.
    before = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    assert_refused(path, "invalid_path", ["model.safetensors"], plain_peak_bytes, before)


@pytest.mark.parametrize(("name", "words"), [
    ("model.bin", "pickle weights are never loaded"),
    ("model.pt", "pickle weights are never loaded"),
    ("model.onnx", "a model is a directory or a .gguf file"),
    ("absent", "absent"),
])
def test_a_path_to(tmp_path, name, words, plain_peak_bytes):
    path = tmp_path / name
    if name != "absent":
        path.write_bytes(b"PK\3\4")
    assert_refused(path, "invalid_path", [words], plain_peak_bytes)


# Quantised as MLX does it --------------------------------------------------------------------------------------------


def change_quantisation(**changes):
    def change(path):
        config = json.loads((path / "config.json").read_text())
        config["quantization"] |= changes
        (path / "config.json").write_text(json.dumps(config))

    return change


def change_tensor(name, **changes):
    def change(path):
        header, data = read_safetensors(path / "model.safetensors")
        header[name] |= changes
        write_safetensors(path / "model.safetensors", header, data)

    return change


def drop_tensor(name):
    """The tensor keeps its bytes, under a name that nobody asks for."""

    def change(path):
        header, data = read_safetensors(path / "model.safetensors")
        header[name + "_"] = header.pop(name)
        write_safetensors(path / "model.safetensors", header, data)

    return change


QUERY = "model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(("spoil", "code", "words"), [
    (change_quantisation(group_size=64), "invalid_weights", "scales"),
    (change_quantisation(group_size=16), "invalid_config", "group_size"),
    (change_quantisation(group_size=0), "invalid_config", "group_size"),
    (change_quantisation(group_size=-32), "invalid_config", "group_size"),
    (change_quantisation(group_size=2**31), "invalid_config", "group_size"),
    (change_quantisation(bits=8), "invalid_weights", "weight"),
    (change_quantisation(bits=0), "invalid_config", "bits"),
    (change_quantisation(bits=7), "invalid_config", "bits"),
    (change_quantisation(bits="4"), "invalid_config", "bits"),
    (change_tensor(QUERY + ".scales", shape=[2, 64]), "invalid_weights", QUERY),
    (change_tensor(QUERY + ".scales", shape=[128]), "invalid_weights", QUERY),
    (change_tensor(QUERY + ".biases", shape=[32, 4]), "invalid_weights", QUERY),
    (change_tensor(QUERY + ".weight", shape=[32, 16]), "invalid_weights", QUERY),
    (change_tensor(QUERY + ".weight", dtype="I32"), "invalid_weights", QUERY),
    (change_tensor(QUERY + ".weight", dtype="F32"), "invalid_weights", QUERY),
    (change_tensor(QUERY + ".scales", dtype="U32"), "invalid_weights", QUERY),
    (drop_tensor(QUERY + ".scales"), "invalid_weights", QUERY),
    (drop_tensor(QUERY + ".biases"), "invalid_weights", QUERY),
], ids=["groups of 64", "groups of 16", "groups of 0", "groups of -32", "groups of 2^31", "8 bits", "0 bits", "7 bits",
        "bits of text", "scales transposed", "scales in a row", "biases of another shape", "weights of another shape",
        "signed weights", "float weights with scales", "integer scales", "no scales", "no biases"])
def test_quantised_weights_with(folder, spoil, code, words, plain_peak_bytes):
    path = folder(LLAMA_MLX.name)
    spoil(path)
    assert_refused(path, code, [words], plain_peak_bytes)


# Options -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arguments", "words"), [
    (["--port", "70000"], "--port"),
    (["--port", "-1"], "--port"),
    (["--port", "x"], "--port"),
    (["--frobnicate"], "--frobnicate"),
    (["--threads", "9999"], "--threads"),
    (["--threads", "1.5"], "--threads"),
    (["--backend", "frobnicate"], "--backend"),
    (["--kv-bytes", "12 GBs"], "--kv-bytes"),
    (["--kv-bytes", "-1"], "--kv-bytes"),
    (["--max-sequences", "0"], "--max-sequences"),
    (["--log-level", "loud"], "--log-level"),
    (["--stall-after-ms", "1"], "--stall-after-ms"),
    (["--header-timeout-ms", "99999999999999999999"], "--header-timeout-ms"),
], ids=" ".join)
def test_a_wrong_option(arguments, words):
    run = Run("--model", f"x={TINY_LLAMA}", *arguments)
    assert run.exit_code == EXIT_USAGE, (run.exit_code, run.said)
    assert words in run.said
    assert run.seconds < MOST_SECONDS


@pytest.mark.parametrize(("arguments", "words"), [
    (["--model", f"../x={TINY_LLAMA}"], "../x"),
    (["--model", f"a/b/c={TINY_LLAMA}"], "a/b/c"),
    (["--model", f"{'x' * 97}={TINY_LLAMA}"], "96"),
    (["--model", f"a b={TINY_LLAMA}"], "a b"),
    (["--model", f"={TINY_LLAMA}"], "--model"),
    (["--model", "x="], "--model"),
    (["--model", ""], "--model"),
    (["--model", f"x={TINY_LLAMA}", "--model", f"x={TINY_BERT}"], "x"),
    (["--model", f"x={TINY_LLAMA}", "--host", "example.com"], "--host"),
    (["--model", f"x={TINY_LLAMA}", "--host", "0.0.0.0"], "--insecure-no-auth"),
], ids=repr)
def test_an_option_that_means_nothing(arguments, words):
    run = Run(*arguments)
    assert run.exit_code == EXIT_CONFIG, (run.exit_code, run.said)
    assert len(run.lines()) == 1 and "invalid_option: " in run.said and words in run.said, run.said


@pytest.mark.parametrize(("content", "code", "words"), [
    (b"", "invalid_option", "has no key"),
    (b"# none\n\n", "invalid_option", "has no key"),
    (b"short\n", "invalid_option", "a key of 5 characters"),
    (b"x" * (32 << 20), "invalid_path", "--api-key-file"),
    (None, "invalid_path", "--api-key-file"),
], ids=["empty", "comments", "a short key", "large", "absent"])
def test_a_key_file(tmp_path, content, code, words):
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o600)
    run = Run("--model", f"x={TINY_LLAMA}", "--api-key-file", path)
    assert run.exit_code == EXIT_CONFIG, run.said
    assert len(run.lines()) == 1 and f"{code}: " in run.said and words in run.said, run.said


# While it serves -----------------------------------------------------------------------------------------------------


def test_weights_that_shrink_while_they_serve(folder):
    path = folder()
    server = Server({"x": path}, "--backend", "cpu", "--restart-delay-ms", 50).wait_until_ready()
    try:
        with open(path / "model.safetensors", "r+b") as weights:
            weights.truncate(10_000)
        # They are in memory; a new worker has to read them again.
        assert server.chat("hi", max_tokens=2, temperature=0).status_code == 200
        os.kill(server.worker_pid(), signal.SIGKILL)
        wait_for(lambda: server.chat("hi", max_tokens=2).status_code in (500, 503), 30, server.read_log)
        wait_for(lambda: "model.safetensors" in server.read_log(), 30, server.read_log)
        assert server.process.poll() is None
        assert server.get("/livez").status_code in (200, 503)
        reply = server.chat("hi", max_tokens=2)
        assert reply.status_code in (500, 503), reply.text
        assert reply.json()["code"] in ("model_failed", "engine_unavailable", "model_loading"), reply.text
    finally:
        server.stop()
