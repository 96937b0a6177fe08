"""A whole model in a GGUF file of a few kilobytes: one llama layer, weights of zero, a vocabulary of letters.

    tiny_gguf.py FILE
"""

import pathlib
import struct
import sys

from bad_gguf import ARRAY, F32, FLOAT32, STRING, key, text

UINT32, INT32, BOOLEAN = 4, 5, 7  # types of values
Q4_1, Q8_0 = 3, 8  # types of tensors
BLOCK_BYTES = {F32: 4, Q4_1: 20, Q8_0: 34}
BLOCK_ELEMENTS = {F32: 1, Q4_1: 32, Q8_0: 32}

HIDDEN, HEADS, KV_HEADS, CONTEXT = 32, 2, 1, 128
LETTERS = ["<|im_start|>", "<|im_end|>"] + [chr(c) for c in range(ord("a"), ord("z") + 1)] + ["Ġ", "Ċ", "th", "the"]
KV = HIDDEN // HEADS * KV_HEADS

# name, innermost dimension first, type
TENSORS = [
    ("token_embd.weight", (HIDDEN, len(LETTERS)), Q8_0),
    ("output_norm.weight", (HIDDEN,), F32),
    ("blk.0.attn_norm.weight", (HIDDEN,), F32),
    ("blk.0.ffn_norm.weight", (HIDDEN,), F32),
    ("blk.0.attn_q.weight", (HIDDEN, HIDDEN), Q4_1),
    ("blk.0.attn_k.weight", (HIDDEN, KV), Q4_1),
    ("blk.0.attn_v.weight", (HIDDEN, KV), Q4_1),
    ("blk.0.attn_output.weight", (HIDDEN, HIDDEN), Q4_1),
    ("blk.0.ffn_gate.weight", (HIDDEN, HIDDEN), Q4_1),
    ("blk.0.ffn_up.weight", (HIDDEN, HIDDEN), Q4_1),
    ("blk.0.ffn_down.weight", (HIDDEN, HIDDEN), Q4_1),
]


def texts(name, values):
    content = b"".join(text(value.encode()) for value in values)
    return key(name, ARRAY, struct.pack("<IQ", STRING, len(values)) + content)


def number(name, value):
    return key(name, UINT32, struct.pack("<I", value))


KEYS = [
    key(b"general.architecture", STRING, text(b"llama")),
    number(b"llama.context_length", CONTEXT),
    number(b"llama.embedding_length", HIDDEN),
    number(b"llama.block_count", 1),
    number(b"llama.feed_forward_length", HIDDEN),
    number(b"llama.attention.head_count", HEADS),
    number(b"llama.attention.head_count_kv", KV_HEADS),
    key(b"llama.attention.layer_norm_rms_epsilon", FLOAT32, struct.pack("<f", 1e-5)),
    key(b"tokenizer.ggml.model", STRING, text(b"gpt2")),
    key(b"tokenizer.ggml.pre", STRING, text(b"smollm")),
    texts(b"tokenizer.ggml.tokens", LETTERS),
    key(b"tokenizer.ggml.token_type", ARRAY,
        struct.pack("<IQ", INT32, len(LETTERS)) + struct.pack("<%di" % len(LETTERS), 3, 3, *[1] * (len(LETTERS) - 2))),
    texts(b"tokenizer.ggml.merges", ["t h", "th e"]),
    number(b"tokenizer.ggml.eos_token_id", 1),
    key(b"tokenizer.ggml.add_bos_token", BOOLEAN, b"\0"),
    key(b"tokenizer.chat_template", STRING,
        text(b"{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}")),
]


def model(alignment=32):
    infos = b""
    data = b""
    for name, dimensions, kind in TENSORS:
        data += bytes(-len(data) % alignment)
        infos += text(name.encode()) + struct.pack("<I%dQIQ" % len(dimensions), len(dimensions), *dimensions, kind, len(data))
        elements = 1
        for dimension in dimensions:
            elements *= dimension
        data += bytes(elements // BLOCK_ELEMENTS[kind] * BLOCK_BYTES[kind])
    head = b"GGUF" + struct.pack("<IQQ", 3, len(TENSORS), len(KEYS)) + b"".join(KEYS) + infos
    return head + bytes(-len(head) % alignment) + data


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    pathlib.Path(sys.argv[1]).write_bytes(model())
