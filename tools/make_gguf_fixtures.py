#!/usr/bin/env python3
"""Writes the GGUF fixtures of the tests, the same bytes each time.

tests/data/gguf/blocks.gguf holds, for every quantised type, a tensor TYPE of random blocks and TYPE.values, the same
dequantised by the gguf package. tests/data/models/gguf-* are random models whose golden.safetensors has the logits that
transformers computes in float32 for the dequantised weights, and a greedy continuation. Needs gguf, numpy, safetensors,
tokenizers, torch and transformers from PyPI.
"""

import dataclasses
import json
import pathlib

import gguf
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType as Type
from safetensors.torch import save_file
from tokenizers import Tokenizer

DATA = pathlib.Path(__file__).parent.parent / "tests" / "data"
SEED = 20
BLOCK_ROWS = 5
PLAIN = {Type.F32: np.float32, Type.F16: np.float16}
PROMPTS = (
    "The scheduler hands each sequence",
    "Paris",
    "Größe, 東京タワー 🙂 Привет. When memory runs short, idle blocks leave first. " * 2,
)
GREEDY_TOKENS = 12


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Where a block of a type has its f16 fields, and what its values spread by when the scale is 1 and the bytes are
    random. A minimum is `centre` times the scale, so that the values spread about 0."""

    scale: int
    spread: float
    minimum: int | None = None
    centre: float = 0.0


BLOCKS = {
    Type.Q4_0: Blocks(scale=0, spread=4.6),
    Type.Q4_1: Blocks(scale=0, spread=4.6, minimum=2, centre=-7.5),
    Type.Q5_0: Blocks(scale=0, spread=9.2),
    Type.Q5_1: Blocks(scale=0, spread=9.2, minimum=2, centre=-15.5),
    Type.Q8_0: Blocks(scale=0, spread=73.9),
    Type.Q4_K: Blocks(scale=0, spread=270.0, minimum=2, centre=7.5),
    Type.Q5_K: Blocks(scale=0, spread=540.0, minimum=2, centre=15.5),
    Type.Q6_K: Blocks(scale=208, spread=1365.0),
}


def random_blocks(random, kind, rows, columns, spread, wild=False):
    """Raw rows. When wild, scales and minima are any finite f16, else such that values spread by `spread`."""
    block_elements, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    count = rows * columns // block_elements
    raw = random.integers(0, 256, (count, block_bytes), dtype=np.uint8)
    blocks = BLOCKS[kind]
    scale = (spread / blocks.spread * random.uniform(0.7, 1.3, count)).astype(np.float16)
    minimum = (scale.astype(np.float32) * blocks.centre).astype(np.float16)
    if wild:
        scale, minimum = (finite_halves(random, count) for _ in range(2))
    raw[:, blocks.scale : blocks.scale + 2] = scale.view(np.uint8).reshape(count, 2)
    if blocks.minimum is not None:
        raw[:, blocks.minimum : blocks.minimum + 2] = minimum.view(np.uint8).reshape(count, 2)
    return raw.reshape(rows, -1)


def finite_halves(random, count):
    bits = random.integers(0, 1 << 16, 4 * count, dtype=np.uint16)
    return bits[(bits & 0x7C00) != 0x7C00][:count].view(np.float16)


def random_tensor(random, kind, shape, spread):
    """What the file holds and its values."""
    if kind == Type.BF16:
        raw = gguf.quants.quantize(random.normal(0, spread, shape).astype(np.float32), kind)
    elif kind in PLAIN:
        raw = random.normal(0, spread, shape).astype(PLAIN[kind])
    else:
        raw = random_blocks(random, kind, *shape, spread)
    return raw, gguf.quants.dequantize(raw, kind).astype(np.float32)


def write(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_blocks():
    random = np.random.default_rng(SEED)
    path = DATA / "gguf" / "blocks.gguf"
    path.parent.mkdir(exist_ok=True)
    writer = gguf.GGUFWriter(path, "llama")
    for kind in BLOCKS:
        columns = 256 if kind.name.endswith("_K") else 96
        raw = random_blocks(random, kind, BLOCK_ROWS, columns, 1.0, wild=True)
        writer.add_tensor(kind.name, raw, raw_dtype=kind)
        writer.add_tensor(kind.name + ".values", gguf.quants.dequantize(raw, kind))
    write(writer)


@dataclasses.dataclass(frozen=True)
class Fixture:
    """A model whose matrices are of type `matrices`, but of `narrow` where the rows are no multiple of 256 and `values`
    for the value projection."""

    name: str
    architecture: str
    hidden: int
    matrices: Type
    narrow: Type | None = None
    values: Type | None = None
    tied: bool = True

    def type_of(self, name, shape):
        if len(shape) == 1:
            return Type.F32
        if self.narrow is not None and shape[1] % 256 != 0:
            return self.narrow
        return self.values if self.values is not None and "v_proj" in name else self.matrices


FIXTURES = (
    Fixture("gguf-llama-f32", "llama", 64, Type.F32),
    Fixture("gguf-llama-f16", "llama", 64, Type.F16, tied=False),
    Fixture("gguf-llama-q8_0", "llama", 64, Type.Q8_0),
    Fixture("gguf-llama-q4_0", "llama", 64, Type.Q4_0, values=Type.Q5_0),
    Fixture("gguf-llama-q4_k", "llama", 256, Type.Q4_K, narrow=Type.Q5_0, values=Type.Q6_K),
    Fixture("gguf-qwen2-bf16", "qwen2", 64, Type.BF16),
    Fixture("gguf-qwen2-q4_1", "qwen2", 64, Type.Q4_1, values=Type.Q5_1),
    Fixture("gguf-qwen2-q5_k", "qwen2", 256, Type.Q5_K, narrow=Type.Q5_1, values=Type.Q6_K),
)


def make_config(fixture, vocabulary):
    kind = {"llama": transformers.LlamaConfig, "qwen2": transformers.Qwen2Config}[fixture.architecture]
    return kind(
        vocab_size=vocabulary,
        hidden_size=fixture.hidden,
        intermediate_size=96 if fixture.hidden == 64 else 128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16 if fixture.hidden == 64 else 32,
        max_position_embeddings=512,
        rms_norm_eps=1e-5,
        tie_word_embeddings=fixture.tied,
    )


def interleave(raw, heads):
    """Rows in the order of interleaved rope: within a head, i and i + half become 2i and 2i + 1."""
    return raw.reshape(heads, 2, raw.shape[0] // heads // 2, *raw.shape[1:]).swapaxes(1, 2).reshape(raw.shape)


def gguf_name(names, name):
    stored = names.get_name(name, try_suffixes=(".weight", ".bias"))
    assert stored, name
    return stored


def add_vocabulary(writer, fixture, tokenizer):
    model = json.loads(tokenizer.to_str())
    vocabulary = sorted(model["model"]["vocab"], key=model["model"]["vocab"].get)
    special = {token["content"] for token in model["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre({"llama": "smollm", "qwen2": "qwen2"}[fixture.architecture])
    writer.add_token_list(vocabulary)
    writer.add_token_types(
        [gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in vocabulary]
    )
    writer.add_token_merges([" ".join(pair) for pair in model["model"]["merges"]])
    writer.add_bos_token_id(vocabulary.index("<|endoftext|>"))
    writer.add_eos_token_id(vocabulary.index("<|im_end|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


def add_config(writer, config):
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)


def make_weights(random, fixture, model, writer):
    """Fills the model and the file with the same values."""
    heads = {"q_proj": model.config.num_attention_heads, "k_proj": model.config.num_key_value_heads}
    names = gguf.get_tensor_name_map(
        {"llama": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2}[fixture.architecture],
        model.config.num_hidden_layers,
    )
    for name, parameter in model.named_parameters():
        shape = tuple(parameter.shape)
        kind = fixture.type_of(name, shape)
        raw, values = random_tensor(random, kind, shape, 0.1 if len(shape) == 1 else shape[1] ** -0.5)
        if name.endswith("norm.weight"):
            raw = values = values + np.float32(1)
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(values))
        turns = next((count for part, count in heads.items() if part in name), None)
        if fixture.architecture == "llama" and turns:
            raw = interleave(raw, turns)
        writer.add_tensor(gguf_name(names, name), np.ascontiguousarray(raw), raw_dtype=kind)


@torch.no_grad()
def golden_of(model, tokenizer):
    tensors = {}
    for index, prompt in enumerate(PROMPTS):
        ids = tokenizer.encode(prompt, add_special_tokens=False).ids
        tensors[f"ids_{index}"] = torch.tensor(ids, dtype=torch.int32)
        tensors[f"logits_{index}"] = model(torch.tensor([ids])).logits[0].contiguous()
    ids = tensors["ids_0"].tolist()
    for _ in range(GREEDY_TOKENS):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    tensors["greedy_0"] = torch.tensor(ids[-GREEDY_TOKENS:], dtype=torch.int32)
    return tensors


def make_model(fixture):
    random = np.random.default_rng(SEED)
    tokenizer = Tokenizer.from_file(str(DATA / "models" / "llama" / "tokenizer.json"))
    config = make_config(fixture, tokenizer.get_vocab_size())
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    folder = DATA / "models" / fixture.name
    folder.mkdir(exist_ok=True)
    writer = gguf.GGUFWriter(folder / "model.gguf", fixture.architecture)
    add_config(writer, config)
    add_vocabulary(writer, fixture, tokenizer)
    make_weights(random, fixture, model, writer)
    write(writer)
    save_file(golden_of(model, tokenizer), folder / "golden.safetensors")
    print(fixture.name, *(f"{path.name} {path.stat().st_size}" for path in sorted(folder.iterdir())))


if __name__ == "__main__":
    make_blocks()
    for each in FIXTURES:
        make_model(each)
