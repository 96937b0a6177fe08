"""Drafts change what a reply costs, never what it says: the same requests to a server that drafts and to one that does
not, greedy and sampled, alone and beside others, free and by grammars, cold, from the cache, and after a restart."""

import concurrent.futures
import random
import time

import pytest
from conftest import SMOLLM2
from test_clients import engine

REQUESTS = 200
AT_ONCE = 8
WORDS = "river stone light paper green window morning city garden music bread water cloud letter winter".split()
TASKS = (
    "Repeat these words: {}.", "Write a sentence with {}.", "Say {} three times.", "Which of {} is the longest word?",
    "Make a numbered list of {}.", "Translate {} into French.", "Sort {} by the alphabet.", "Tell me a story about {}.",
)
PERSON = {"type": "object", "additionalProperties": False, "required": ["name", "age"],
          "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}}}
FORMATS = (
    {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}},
    {"type": "json_object"},
    {"type": "grammar", "syntax": "regex", "definition": "(yes|no|maybe), (because [a-z ]{5,30}|of course)\\."},
    {"type": "grammar", "syntax": "lark", "definition": 'start: item ("," item)*\nitem: /[a-z]{1,8}/'},
)


def random_requests():
    """One in five sampled greedily, one in three to a grammar, one in six asked a second time."""
    chooser = random.Random(8)
    requests = []
    for number in range(REQUESTS):
        if requests and chooser.random() < 1 / 6:
            requests.append(chooser.choice(requests))
            continue
        words = ", ".join(chooser.choice(WORDS) for _ in range(chooser.randint(1, 60)))
        text = chooser.choice(TASKS).format(words)
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": chooser.randint(1, 48), "seed": number,
                "temperature": chooser.choice((0, 0.3, 0.7, 1.0, 1.3)), "logprobs": chooser.random() < 0.2}
        if chooser.random() < 0.3:
            body["top_p"] = 0.9
        if chooser.random() < 0.2:
            body["repetition_penalty"] = 1.1
        if chooser.random() < 0.2:
            body["stop"] = [chooser.choice(WORDS), "."]
        if chooser.random() < 0.1:
            body["prediction"] = {"type": "content", "content": words}
        if chooser.random() < 1 / 3:
            body["response_format"] = chooser.choice(FORMATS)
        requests.append(body)
    return requests


def answers(server, requests):
    """What each says, why it ended and what its tokens were."""

    def ask(body):
        for _ in range(30):
            reply = server.post("/v1/chat/completions", body)
            if reply.status_code != 429:  # a slow machine has more grammars to compile at once than it takes
                break
            time.sleep(int(reply.headers["retry-after"]))
        assert reply.status_code == 200, reply.text
        choice = reply.json()["choices"][0]
        tokens = [token["token"] for token in choice["logprobs"]["content"]] if body["logprobs"] else None
        return choice["message"]["content"], choice["finish_reason"], tokens, reply.json()["usage"]["completion_tokens"]

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(ask, requests))


def drafts_of(server):
    metrics = server.get("/metrics").text
    return {name: sum(float(line.split()[-1]) for line in metrics.splitlines() if line.startswith(f"cortex_{name}"))
            for name in ("draft_tokens_total", "draft_accepted_tokens_total")}


@pytest.fixture
def start_kept(start, tmp_path):
    """start_kept(speculation): a server whose KV outlives it, in a folder of its own."""

    def start_one(speculation):
        folder = tmp_path / speculation
        folder.mkdir(exist_ok=True)
        return start({"chat": SMOLLM2}, "--speculation", speculation, "--kv-dir", folder / "kv",
                     state_dir=folder).wait_until_ready()

    return start_one


def test_drafts_change_no_reply(start_kept, slow):
    slowness = slow("decode", 10)  # so that drafts pay off on every machine
    requests = random_requests()
    assert sum("response_format" in body for body in requests) > REQUESTS / 5
    said, drafted = {}, {}
    for speculation in ("on", "off"):
        server = start_kept(speculation)
        said[speculation] = answers(server, requests[: REQUESTS // 2])
        server.stop()
        server = start_kept(speculation)
        said[speculation] += answers(server, requests[REQUESTS // 2:])
        drafted[speculation] = drafts_of(server)
        server.stop()
        slowness.end()
    for body, without, with_drafts in zip(requests, said["off"], said["on"], strict=True):
        assert with_drafts == without, body
    assert drafted["off"]["draft_tokens_total"] == 0
    assert drafted["on"]["draft_accepted_tokens_total"] > 50, drafted["on"]


def test_a_copy_takes_fewer_steps(start_kept, slow):
    slow("decode", 50)  # so that drafts pay off on every machine
    text = ("The old lighthouse at the end of the harbour was built in 1848 by a family of masons who had come from the "
            "north. Its walls are nearly two metres thick at the base, and the stairs inside wind upwards through five "
            "floors before they reach the lamp. For more than a hundred years a keeper lived there with his family.")
    messages = [{"role": "user", "content": f"Repeat this text word for word:\n\n{text}"},
                {"role": "assistant", "content": text}, {"role": "user", "content": "Repeat it again, word for word."}]
    taken, replies = {}, {}
    for speculation in ("off", "on"):
        server = start_kept(speculation)
        before = engine(server)["steps"]
        body = server.post("/v1/chat/completions", {"messages": messages, "temperature": 0, "max_tokens": 100}).json()
        taken[speculation] = engine(server)["steps"] - before
        replies[speculation] = body["choices"][0]["message"]["content"]
        usage = body["usage"]["completion_tokens_details"]
        server.stop()
    assert replies["on"] == replies["off"] and text in replies["on"]
    assert taken["on"] <= taken["off"] / 2, taken
    assert usage["accepted_prediction_tokens"] > 10
