"""Formats and predictions with OpenAI's own client against the real server with the default models."""

import json
import re

import jsonschema
import openai
import pydantic
import pytest

QUESTION = [{"role": "user", "content": "Describe a cat named Tom as JSON."}]
CAT = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 30},
        "colors": {"type": "array", "items": {"enum": ["black", "white", "grey"]}, "minItems": 1, "maxItems": 3},
    },
    "required": ["name", "age", "colors"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def client(real):
    with openai.OpenAI(base_url=f"{real.url}/v1", api_key="none", max_retries=0, timeout=120) as client:
        yield client


def ask(client, response_format, **fields):
    fields = {"messages": QUESTION, "temperature": 0, "max_tokens": 200, **fields}
    return client.chat.completions.create(model="smollm2", response_format=response_format, **fields)


def schema(value):
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": value, "strict": True}}


@pytest.mark.parametrize("temperature", [0, 1])
def test_a_schema_is_kept_to(client, temperature):
    reply = ask(client, schema(CAT), temperature=temperature, seed=1, n=2)
    for choice in reply.choices:
        assert choice.finish_reason == "stop"
        value = json.loads(choice.message.content)
        jsonschema.validate(value, CAT)
        assert list(value) == ["name", "age", "colors"]


def test_a_stream_says_the_same(client):
    whole = ask(client, schema(CAT)).choices[0].message.content
    chunks = list(ask(client, schema(CAT), stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole


def test_the_sdk_parses_a_model(client):
    class Cat(pydantic.BaseModel):
        name: str
        age: int

    reply = client.chat.completions.parse(model="smollm2", messages=QUESTION, response_format=Cat, temperature=0,
                                          max_tokens=200)
    assert isinstance(reply.choices[0].message.parsed, Cat)


def test_json_mode(client):
    reply = ask(client, {"type": "json_object"}, max_tokens=300)
    if reply.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(reply.choices[0].message.content), dict)
    assert reply.choices[0].message.content.startswith("{")


def test_grammars(client):
    regex = "[A-C]{3}-[0-9]{2}"
    assert re.fullmatch(regex, ask(client, {"type": "grammar", "syntax": "regex", "definition": regex})
                        .choices[0].message.content)
    lark = 'start: "yes" | "no" NUMBER\nNUMBER: /[1-9]/'
    assert re.fullmatch("yes|no[1-9]", ask(client, {"type": "grammar", "syntax": "lark", "definition": lark})
                        .choices[0].message.content)


def test_a_cut_reply_says_so(client):
    reply = ask(client, schema(CAT), max_tokens=3)
    assert reply.choices[0].finish_reason == "length"


def test_the_native_chat_keeps_to_a_format_too(real):
    reply = real.post("/chat", {"messages": QUESTION, "response_format": schema(CAT), "temperature": 0,
                                "max_tokens": 200}).json()
    jsonschema.validate(json.loads(reply["message"]["content"]), CAT)


@pytest.mark.parametrize("response_format, code", [
    (schema({"type": "nothing"}), "invalid_schema"),
    (schema({"not": {}}), "unsupported_schema"),
    (schema({"$ref": "https://example.com/x"}), "unsupported_schema"),
    ({"type": "grammar", "syntax": "lark", "definition": "start: start \"a\""}, "invalid_grammar"),
    ({"type": "grammar", "syntax": "regex", "definition": "(a"}, "invalid_grammar"),
])
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_kept_to_is_refused(client, real, response_format, code, stream):
    with pytest.raises(openai.BadRequestError) as refusal:
        ask(client, response_format, stream=stream)
    assert refusal.value.code == code
    assert refusal.value.param.startswith("response_format")
    native = real.post("/chat", {"messages": QUESTION, "response_format": response_format, "stream": stream})
    assert (native.status_code, native.json()["code"]) == (422, code)


def test_a_prediction_changes_nothing_but_time(client):
    text = "The quick brown fox jumps over the lazy dog. " * 4
    messages = [{"role": "user", "content": f"Repeat this text word by word: {text}"}]
    plain = client.chat.completions.create(model="smollm2", messages=messages, temperature=0, max_tokens=60)
    helped = client.chat.completions.create(model="smollm2", messages=messages, temperature=0, max_tokens=60,
                                            prediction={"type": "content", "content": text})
    assert helped.choices[0].message.content == plain.choices[0].message.content
    details = helped.usage.completion_tokens_details
    timings = helped.model_extra["timings"]
    assert details.accepted_prediction_tokens == timings["draft_accepted"]
    assert details.rejected_prediction_tokens == timings["draft_tokens"] - timings["draft_accepted"]
