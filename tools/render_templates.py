#!/usr/bin/env python3
"""Renders the chat templates of tests/data/templates as transformers does it, so that tests can compare.

    tools/render_templates.py [FOLDER]      default: tests/data/templates

Reads NAME.jinja and conversations.json there and writes rendered.json. Its `conversations` are what the templates are
given, each part as the text of its JSON. Of each of `templates` it has the special tokens, and for a conversation the
text, or {"raises": message} where the template raises an exception; with ChatML's turns also the text's ids by the
tokenizer of tests/data/models/llama. A conversation that a template can't render in
another way, or that is about tools when the template is not, is left out. The settings are those of transformers'
apply_chat_template; `strftime_now` is left to the tests, as `date_string` is always given. Needs jinja2
and tokenizers; tools/requirements.txt has the versions that were used.
"""

import json
import pathlib
import sys
from datetime import datetime

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

# What a tokenizer gives its template, and the one variable that would otherwise depend on the day.
SPECIAL_TOKENS = {
    "gemma-3": {"bos_token": "<bos>", "eos_token": "<eos>"},
    "llama-3.1": {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
    "llama-3.2": {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
    "mistral-v0.3": {"bos_token": "<s>", "eos_token": "</s>"},
    "phi-3": {"bos_token": "<s>", "eos_token": "<|endoftext|>"},
    "qwen2.5": {"eos_token": "<|im_end|>"},
    "qwen3": {"eos_token": "<|im_end|>"},
    "smollm2": {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"},
}
HAVE_IDS = ["qwen2.5", "qwen3", "smollm2"]
ARGUMENTS = {"date_string": "26 Jul 2024"}


class Raised(jinja2.exceptions.TemplateError):
    """What a template said by raise_exception."""


def raise_exception(message):
    raise Raised(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols])
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return made


def is_about_tools(conversation):
    return "tools" in conversation or any("tool_calls" in message for message in conversation["messages"])


def render(template, variables):
    try:
        return template.render(variables)
    except Raised as error:
        return {"raises": error.message}
    except (jinja2.exceptions.TemplateError, TypeError):
        return None


def render_all(source, special_tokens, conversations):
    template = environment().from_string(source)
    texts = {}
    for title, conversation in conversations.items():
        if is_about_tools(conversation) and "tools" not in source:
            continue
        variables = {"tools": None, "documents": None, "add_generation_prompt": True, **special_tokens, **ARGUMENTS}
        variables.update((key, value) for key, value in conversation.items() if key != "arguments")
        text = render(template, {**variables, **conversation.get("arguments", {})})
        if text is not None:
            texts[title] = text
    return {"special_tokens": special_tokens, "texts": texts}


def as_texts(conversation):
    parts = {"messages": conversation["messages"], "arguments": {**ARGUMENTS, **conversation.get("arguments", {})}}
    if "tools" in conversation:
        parts["tools"] = conversation["tools"]
    texts = {name: json.dumps(part, ensure_ascii=False) for name, part in parts.items()}
    return {**texts, "add_generation_prompt": conversation.get("add_generation_prompt", True)}


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else root / "tests/data/templates"
    conversations = json.loads((folder / "conversations.json").read_text(encoding="utf-8"))
    rendered = {
        "conversations": {title: as_texts(conversation) for title, conversation in conversations.items()},
        "templates": {
            name: render_all((folder / f"{name}.jinja").read_text(encoding="utf-8"), tokens, conversations)
            for name, tokens in SPECIAL_TOKENS.items()
        },
    }
    tokenizer = Tokenizer.from_file(str(root / "tests/data/models/llama/tokenizer.json"))
    for name in HAVE_IDS:
        texts = rendered["templates"][name]["texts"]
        ids = {title: tokenizer.encode(text, add_special_tokens=False).ids for title, text in texts.items()}
        rendered["templates"][name]["ids"] = {title: " ".join(map(str, of_text)) for title, of_text in ids.items()}
    text = json.dumps(rendered, ensure_ascii=False, indent=1)
    (folder / "rendered.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
