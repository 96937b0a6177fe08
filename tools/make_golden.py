#!/usr/bin/env python3
"""Makes a tiny decoder of one architecture with random weights, and its true outputs by transformers in float32.

    tools/make_golden.py MODEL_TYPE OUT [--tokenizer FOLDER] [--set NAME=VALUE ...]

    MODEL_TYPE    as config.json names it: olmo2, qwen3, ...
    OUT           the folder to write: config.json, model.safetensors, the tokenizer's files, golden.safetensors
    --tokenizer   whose files are copied; default: tests/data/models/llama
    --set         a configuration value beside the defaults below, as JSON: --set num_key_value_heads=4

golden.safetensors has, for prompt K, `ids_K` [T] and `logits_K` [T, vocabulary], and `greedy_0`: 24 tokens after
prompt 0. Needs torch, transformers and safetensors; tools/requirements.txt has the versions that were used.
"""

import argparse
import json
import pathlib
import shutil

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROMPTS = [
    "The scheduler hands each sequence",
    "Paris",
    "def add(a, b): return a + b  # 1 + 2 = 3\n" * 3,
    "Größe, 東京タワー 🙂 Привет. When memory runs short, idle blocks leave first; when heat rises, the batch shrinks. " * 2,
]
GREEDY_TOKENS = 24
TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"]
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def set_random_weights(model):
    """Large enough that every part of the network shows in the logits; norms are near one, as trained ones are."""
    for name, parameter in model.named_parameters():
        noise = torch.randn_like(parameter)
        if parameter.dim() == 1:
            parameter.data = (noise * 0.1 if name.endswith("bias") else 1.0 + noise * 0.2)
        else:
            parameter.data = noise * parameter.shape[-1] ** -0.5


@torch.no_grad()
def golden_outputs(model, tokenizer):
    outputs = {}
    for index, prompt in enumerate(PROMPTS):
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        outputs[f"ids_{index}"] = ids[0].to(torch.int32)
        outputs[f"logits_{index}"] = model(ids).logits[0].contiguous()
    ids = outputs["ids_0"].long()[None]
    prompt_tokens = ids.shape[1]
    for _ in range(GREEDY_TOKENS):
        ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], dim=1)
    outputs["greedy_0"] = ids[0, prompt_tokens:].to(torch.int32)
    return outputs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_type")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--tokenizer", type=pathlib.Path, default=ROOT / "tests/data/models/llama")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(arguments.tokenizer / "tokenizer.json"))
    values = SIZES | {"vocab_size": len(tokenizer)}
    for setting in arguments.set:
        name, value = setting.split("=", 1)
        values[name] = json.loads(value)
    torch.manual_seed(1)
    config = AutoConfig.for_model(arguments.model_type, **values)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    set_random_weights(model)

    arguments.out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(arguments.out)
    for name in TOKENIZER_FILES:
        if (arguments.tokenizer / name).exists():
            shutil.copyfile(arguments.tokenizer / name, arguments.out / name)
    save_file(golden_outputs(model, tokenizer), arguments.out / "golden.safetensors")


if __name__ == "__main__":
    main()
