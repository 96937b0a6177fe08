"""Replies that keep to a schema: three hundred schemas of many kinds, each reply checked by a validator that knows
nothing of this server; and schemas and grammars that mean harm, refused in time while others' streams go on as if
nothing were."""

import concurrent.futures
import decimal
import json
import re
import threading
import time

import jsonschema
import pytest
import requests
from conftest import SMOLLM2, Server
from schemas import generated_cases, refused_cases, written_cases

CASES = 300
SEED = 8
MAX_TOKENS = 512
AT_ONCE = 8
FINISHED = 0.95  # of the replies; the others are still writing, and were cut
IN_TIME_S = 2.0  # where nothing else keeps the machine busy

# What is refused, and why; each reason is a part of what the server says.
UNSUPPORTED = {
    "no value twice": "uniqueItems is not supported",  # what came before would have to be remembered
    "one of them at least": "contains is not supported",
    "anything but": "not is not supported",
    "if and then": "if is not supported",
    "one with the other": "dependentRequired is not supported",
    "names by a schema": "propertyNames is not supported",
    "some of the optional ones": "min/maxProperties only supported when all keys",  # they would have to be counted
    "an unknown format": "unknown format",
    "look-ahead": "the pattern can't be kept to",
    "elsewhere": "refers to another document",  # nothing is fetched
}

FORMATS = jsonschema.FormatChecker([])
FORMATS.checkers = {name: jsonschema.Draft202012Validator.FORMAT_CHECKER.checkers[name]
                    for name in ["date", "date-time", "email", "ipv4", "ipv6", "time", "uuid"]}


@FORMATS.checks("hostname")
def is_hostname(text):
    label = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
    return not isinstance(text, str) or (len(text) <= 253 and re.fullmatch(rf"{label}(\.{label})*", text, re.I))


@FORMATS.checks("duration")
def is_duration(text):
    """ISO 8601, as appendix A of RFC 3339 has it."""
    time_part = r"T(\d+H(\d+M(\d+S)?)?|\d+M(\d+S)?|\d+S)"
    date_part = r"(\d+D|\d+M(\d+D)?|\d+Y(\d+M(\d+D)?)?)"
    return not isinstance(text, str) or re.fullmatch(rf"P({date_part}({time_part})?|{time_part}|\d+W)", text)


def number(text):
    try:
        return decimal.Decimal(text)
    except decimal.InvalidOperation:  # an exponent of twenty digits
        return float(text)


def exact(text):
    """JSON with numbers as they are written: multiples of 0.1 are none of what a double makes of it."""
    return json.loads(text, parse_float=number, parse_constant=pytest.fail)


def complaints(schema, text):
    """What is wrong with a reply."""
    try:
        value = exact(text)
    except ValueError as error:
        return [f"no JSON: {error}"]
    schema = exact(json.dumps(schema))
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    return [error.message for error in kind(schema, format_checker=FORMATS).iter_errors(value)]


@pytest.fixture(scope="module")
def smollm2():
    server = Server({"smollm2": SMOLLM2}, "--rate-limit", 0).wait_until_ready()
    yield server
    assert server.stop() == 0, server.read_log()


def formatted(schema):
    return {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema, "strict": True}}


def ask(server, prompt, **fields):
    """As clients do, again where there was no room."""
    body = {"model": "smollm2", "messages": [{"role": "user", "content": prompt}], "max_tokens": MAX_TOKENS, **fields}
    for _ in range(10):
        reply = requests.post(server.url + "/v1/chat/completions", json=body, timeout=300)
        if reply.status_code != 429:
            break
        time.sleep(int(reply.headers["retry-after"]))
    return reply


def cases():
    written = list(written_cases())
    return written + list(generated_cases(CASES - len(written), SEED))


def test_the_cases_are_many_and_all_different():
    schemas = [json.dumps(schema) for _, schema in cases()]
    assert len(schemas) == CASES and len({name for name, _ in cases()}) == CASES
    assert len(set(schemas)) > 0.95 * CASES
    assert [json.dumps(schema) for _, schema in cases()] == schemas, "made anew they are the same"
    for keyword in ["$ref", "anyOf", "oneOf", "allOf", "enum", "const", "pattern", "format", "multipleOf", "minLength",
                    "minItems", "prefixItems", "additionalProperties", "patternProperties", "exclusiveMinimum"]:
        assert sum(f'"{keyword}"' in schema for schema in schemas) > 0, keyword


def example(server, number, name, schema, **fields):
    """What is said again and again becomes less likely, so that lists, trees and long numbers come to an end."""
    return ask(server, f"Give a short example of this as JSON: {name.split(': ')[-1]}.", temperature=0.7,
               frequency_penalty=0.5, seed=number, response_format=formatted(schema), **fields)


def test_every_reply_keeps_to_its_schema(smollm2):
    refused, wrong, cut = [], [], []
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as clients:
        replies = clients.map(lambda case: example(smollm2, case[0], *case[1]), enumerate(cases()))
        for (name, schema), reply in zip(cases(), replies, strict=True):
            if reply.status_code != 200:
                refused.append((name, reply.text))
                continue
            (choice,) = reply.json()["choices"]
            text = choice["message"]["content"]
            if choice["finish_reason"] == "length":
                cut.append((name, text[-60:]))
                continue
            assert choice["finish_reason"] == "stop", (name, choice)
            wrong += [(name, complaint, text) for complaint in complaints(schema, text)]
    assert not wrong, wrong
    assert not refused, refused
    assert len(cut) <= (1 - FINISHED) * CASES, cut


def test_what_is_not_supported_is_said(smollm2):
    assert {name for name, _ in refused_cases()} == UNSUPPORTED.keys()
    for number, (name, schema) in enumerate(refused_cases()):
        reply = example(smollm2, number, name, schema)
        assert reply.status_code == 400, (name, reply.text)
        error = reply.json()["error"]
        assert error["code"] == "unsupported_schema" and UNSUPPORTED[name] in error["message"], error


def test_streams_that_keep_to_a_schema_are_the_same_text(smollm2):
    for number, (name, schema) in list(enumerate(cases()))[:CASES:30]:
        fields = {"temperature": 0.7, "seed": number, "response_format": formatted(schema), "max_tokens": 100}
        prompt = f"Give a short example of this as JSON: {name.split(': ')[1]}."
        whole = ask(smollm2, prompt, **fields).json()["choices"][0]
        assert read_stream(smollm2, prompt, **fields) == (whole["message"]["content"], whole["finish_reason"]), name


def read_stream(server, prompt, **fields):
    """The text, and how it ended."""
    text, finish = "", None
    body = {"model": "smollm2", "messages": [{"role": "user", "content": prompt}], "stream": True, **fields}
    with requests.post(server.url + "/v1/chat/completions", json=body, stream=True, timeout=300) as reply:
        assert reply.status_code == 200, reply.text
        for line in reply.iter_lines():
            if line.startswith(b"data: {"):
                (choice,) = json.loads(line[6:])["choices"]
                text += choice["delta"].get("content") or ""
                finish = choice["finish_reason"] or finish
    assert line == b"data: [DONE]" or not line, line
    return text, finish


def nested(depth):
    """A response_format as text: no library writes what is that deep."""
    schema = '{"type":"object","required":["a"],"properties":{"a":' * depth + '{"type":"integer"}' + "}}" * depth
    return json.dumps(formatted("S")).replace('"S"', schema)


def grammar(definition, syntax="lark"):
    return {"type": "grammar", "syntax": syntax, "definition": definition}


SCHEMA = {"invalid_schema", "unsupported_schema"}
# name -> response_format, or its text; what it may be refused with; None: it may as well be answered.
HOSTILE = {
    "a list": (formatted([]), SCHEMA | {"invalid_type"}),
    "a text": (formatted("object"), SCHEMA | {"invalid_type"}),
    "a reference to itself": (formatted({"$ref": "#"}), SCHEMA),
    "references in a circle": (formatted({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
                                          "$ref": "#/$defs/a"}), SCHEMA),
    "a reference to elsewhere": (formatted({"$ref": "http://127.0.0.1:9/schema.json"}), SCHEMA),
    "a reference to a file": (formatted({"$ref": "file:///etc/passwd"}), SCHEMA),
    "a value without an end": (formatted({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}),
                               SCHEMA),
    "a depth of 20": (nested(20), SCHEMA | {None}),
    "a depth of 1000": (nested(1000), SCHEMA | {"json_too_deep"}),
    "100,000 values": (formatted({"enum": [f"value {i}" for i in range(100_000)]}), SCHEMA | {None}),
    "10,000 long values": (formatted({"enum": [f"{i} " + "x" * 200 for i in range(10_000)]}), SCHEMA | {None}),
    "100,000 properties": (formatted({"type": "object", "properties": {f"p{i}": {} for i in range(100_000)}}), SCHEMA),
    "many choices of many choices": (formatted({"allOf": [{"anyOf": [{"minimum": i * j} for i in range(60)]}
                                                          for j in range(60)]}), SCHEMA | {None}),
    "a pattern that explodes elsewhere": (formatted({"type": "string", "pattern": "(a+)+b"}), SCHEMA | {None}),
    "a pattern with look-around": (formatted({"type": "string", "pattern": "(?=a)b"}), SCHEMA),
    "a pattern of many repeats": (formatted({"type": "string", "pattern": "((a{1,999}){1,999}){1,999}"}),
                                  SCHEMA | {None}),
    "a pattern of many choices": (formatted({"type": "string", "pattern": "(.*(a|b|c).{40}){40}"}), SCHEMA | {None}),
    "an unknown type": (formatted({"type": "float"}), SCHEMA),
    "left recursion and nothing else": (grammar("start: start \"a\""), {"invalid_grammar"}),
    "30,000 parentheses": (grammar("start: " + "(" * 30_000 + "\"a\"" + ")" * 30_000), {"invalid_grammar"}),
    "30,000 parentheses in a pattern": (grammar("(" * 30_000 + "a" + ")" * 30_000, "regex"), {"invalid_grammar"}),
    "an empty grammar": (grammar(""), {"invalid_grammar", "invalid_value"}),
    "a grammar that is none": (grammar("start: %%%"), {"invalid_grammar"}),
    "five megabytes": (grammar("start: " + "\"a\" " * 1_300_000), {"invalid_grammar", "invalid_value"}),
    "a pattern that explodes": (grammar("(a+)+b", "regex"), {"invalid_grammar", None}),
}
STORIES = ["a lighthouse", "a river", "an old clock", "the sea", "a small town", "a mountain", "a train", "the moon"]


def test_what_means_harm_is_refused_in_time_and_disturbs_nobody(smollm2):
    asked = [(f"Tell me a story of {story}.", {"temperature": 0.8, "seed": i, "max_tokens": 120})
             for i, story in enumerate(STORIES)]
    # Every other one keeps to a schema itself.
    for _, fields in asked[::2]:
        fields["response_format"] = formatted(
            {"type": "object", "properties": {"story": {"type": "string", "minLength": 200, "maxLength": 400}},
             "required": ["story"], "additionalProperties": False})
    with concurrent.futures.ThreadPoolExecutor(len(asked)) as clients:
        undisturbed = list(clients.map(lambda ask: read_stream(smollm2, ask[0], **ask[1]), asked))
    assert all(len(text) > 100 for text, _ in undisturbed), undisturbed

    over, disturbed, streams = threading.Event(), [], []

    def listen(index):
        while not over.is_set():
            got = read_stream(smollm2, asked[index][0], **asked[index][1])
            streams.append(index)
            if got != undisturbed[index]:
                disturbed.append((index, got))

    listeners = [threading.Thread(target=listen, args=(index,)) for index in range(len(asked))]
    for listener in listeners:
        listener.start()
    late, unexpected = {}, {}

    def post(response_format):
        """The reply, and after how many seconds."""
        text = response_format if isinstance(response_format, str) else json.dumps(response_format)
        body = json.dumps({"model": "smollm2", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1,
                           "response_format": "F"}).replace('"F"', text)
        begin = time.monotonic()
        reply = requests.post(smollm2.url + "/v1/chat/completions", body, timeout=60,
                              headers={"Content-Type": "application/json"})
        return reply, time.monotonic() - begin

    try:
        for name, (response_format, codes) in HOSTILE.items():
            _, least = post("7")  # what is refused at a glance, on this machine now
            reply, seconds = post(response_format)
            code = None if reply.status_code == 200 else reply.json()["error"]["code"]
            if seconds > IN_TIME_S + 20 * least:
                late[name] = seconds, least
            if code not in codes or (code and reply.status_code != 400):
                unexpected[name] = (reply.status_code, reply.text[:200])
    finally:
        over.set()
        for listener in listeners:
            listener.join()
    assert not unexpected, unexpected
    assert not late, late
    assert len(streams) >= len(asked) and not disturbed, disturbed
    assert smollm2.get("/healthz").json()["engine"]["restarts"] == 0
