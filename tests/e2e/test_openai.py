"""OpenAI's own client against the real server with the default models."""

import base64
import json
import math
import struct

import openai
import pytest
from conftest import DATA, TINY_LLAMA, wait_for
from test_clients import SOON_S, cancelled

QUESTION = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
ANSWER = "The capital of France is Paris."
GOLDEN = json.loads((DATA / "goldens" / "smollm2-135m-instruct-q4_1.json").read_text())


def read_golden(name):
    """An int32 or float32 tensor of the chat model's golden, flat."""
    data = (DATA / "goldens" / "smollm2-135m-instruct-q4_1.golden.safetensors").read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    entry = json.loads(data[8 : 8 + size])[name]
    first, last = (8 + size + offset for offset in entry["data_offsets"])
    return list(struct.unpack(f"<{(last - first) // 4}{'i' if entry['dtype'] == 'I32' else 'f'}", data[first:last]))


@pytest.fixture(scope="module")
def client(real):
    with openai.OpenAI(base_url=f"{real.url}/v1", api_key="none", max_retries=0, timeout=120) as client:
        yield client


def test_models_are_listed_and_found(client):
    models = {model.id: model for model in client.models.list()}
    assert set(models) == {"smollm2", "minilm"}
    assert models["smollm2"].object == "model" and models["smollm2"].owned_by == "cortex"
    assert models["smollm2"].max_model_len == models["smollm2"].context_length > 1000
    assert models["smollm2"].capabilities == ["chat", "tools", "json_schema", "completion"]
    assert client.models.retrieve("minilm").id == "minilm"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no/such")


def test_a_chat(client):
    reply = client.chat.completions.create(model="smollm2", messages=QUESTION, temperature=0, max_completion_tokens=20)
    assert reply.id.startswith("chatcmpl-") and reply.object == "chat.completion" and reply.model == "smollm2"
    choice = reply.choices[0]
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "stop", None)
    assert (choice.message.role, choice.message.content) == ("assistant", ANSWER)
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (42, 8, 50)
    assert reply.usage.prompt_tokens_details.cached_tokens == 0


def test_a_stream_says_the_same_and_its_usage(client):
    stream = client.chat.completions.create(
        model="smollm2", messages=QUESTION, temperature=0, max_tokens=20, stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == ANSWER
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 8


def test_logprobs_tell_each_token(client):
    reply = client.chat.completions.create(
        model="smollm2", messages=QUESTION, temperature=0, max_tokens=20, logprobs=True, top_logprobs=2
    )
    tokens = reply.choices[0].logprobs.content
    assert "".join(token.token for token in tokens) == ANSWER
    for token in tokens:
        assert bytes(token.bytes).decode() == token.token
        assert token.logprob == token.top_logprobs[0].logprob >= token.top_logprobs[1].logprob


def test_choices_are_samples_of_their_own(client):
    def ask(**fields):
        return client.chat.completions.create(
            model="smollm2", messages=[{"role": "user", "content": "Tell me a story."}], max_tokens=12, **fields
        )

    both = ask(n=2, seed=5)
    texts = [choice.message.content for choice in both.choices]
    assert [choice.index for choice in both.choices] == [0, 1]
    assert texts[0] != texts[1]
    # Each is what its own seed gives alone.
    alone = [ask(seed=seed) for seed in (5, 6)]
    assert texts == [reply.choices[0].message.content for reply in alone]
    assert both.usage.completion_tokens == sum(reply.usage.completion_tokens for reply in alone)
    assert both.usage.prompt_tokens == alone[0].usage.prompt_tokens
    streamed = ["", ""]
    for chunk in ask(n=2, seed=5, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == texts


def test_a_stop_string_never_appears(client):
    reply = client.chat.completions.create(model="smollm2", messages=QUESTION, temperature=0, stop=["France"])
    assert reply.choices[0].message.content == "The capital of "
    assert reply.choices[0].finish_reason == "stop"


def test_a_message_can_be_continued(client):
    reply = client.chat.completions.create(
        model="smollm2", messages=QUESTION + [{"role": "assistant", "content": "The capital of France"}],
        temperature=0, max_tokens=20, extra_body={"continue_final_message": True, "add_generation_prompt": False},
    )
    assert reply.choices[0].message.content == " is Paris."


@pytest.mark.parametrize("k", range(4))
def test_greedy_completions_are_the_golden_ones(client, k):
    prompt, expected = GOLDEN["prompts"][k], read_golden(f"greedy_{k}")
    text = prompt["greedy_text"].removesuffix("<|im_end|>")
    for given in (prompt["text"], read_golden(f"ids_{k}")):
        reply = client.completions.create(
            model="smollm2", prompt=given, temperature=0, max_tokens=len(expected), logprobs=0
        )
        assert reply.choices[0].text == text
        assert reply.usage.completion_tokens == len(expected)
        assert reply.usage.prompt_tokens == len(read_golden(f"ids_{k}"))
        assert "".join(reply.choices[0].logprobs.tokens) == text


def test_an_echo_tells_the_prompts_logprobs(client):
    ids = read_golden("ids_1")
    reply = client.completions.create(model="smollm2", prompt=ids, echo=True, logprobs=3, max_tokens=0)
    logprobs = reply.choices[0].logprobs
    assert reply.choices[0].text == GOLDEN["prompts"][1]["text"] == "".join(logprobs.tokens)
    assert len(logprobs.tokens) == len(ids) == reply.usage.prompt_tokens
    assert logprobs.token_logprobs[0] is None and logprobs.top_logprobs[0] is None
    offset = 0
    for token, begin in zip(logprobs.tokens, logprobs.text_offset):
        assert begin == offset
        offset += len(token)
    # Against the golden's logits, of which it has the 32 largest at each position.
    top_ids, top_logits, sums = (read_golden(f"{name}_1") for name in ("top_ids", "top_logits", "logsumexp"))
    compared = 0
    for i in range(1, len(ids)):
        row = slice(32 * (i - 1), 32 * i)
        golden = {top: logit - sums[i - 1] for top, logit in zip(top_ids[row], top_logits[row])}
        assert abs(max(logprobs.top_logprobs[i].values()) - max(golden.values())) < 0.05, i
        assert len(logprobs.top_logprobs[i]) in (3, 4)
        assert logprobs.top_logprobs[i][logprobs.tokens[i]] == logprobs.token_logprobs[i]
        if ids[i] in golden:
            assert abs(logprobs.token_logprobs[i] - golden[ids[i]]) < 0.05, i
            compared += 1
    assert compared > len(ids) / 2


def test_several_prompts_are_several_choices(client):
    reply = client.completions.create(
        model="smollm2", prompt=["One, two, three,", "Paris is the capital of"], temperature=0, max_tokens=3, echo=True
    )
    assert [choice.index for choice in reply.choices] == [0, 1]
    assert reply.choices[0].text.startswith("One, two, three,") and reply.choices[1].text.startswith("Paris is")
    pieces = ["", ""]
    for chunk in client.completions.create(
        model="smollm2", prompt=["One, two, three,", "Paris is the capital of"], temperature=0, max_tokens=3, stream=True
    ):
        pieces[chunk.choices[0].index] += chunk.choices[0].text
    assert [choice.text for choice in reply.choices] == [
        "One, two, three," + pieces[0], "Paris is the capital of" + pieces[1]
    ]


def test_embeddings_are_the_same_in_both_formats(client, real):
    texts = ["Paris is in France.", "Bananas are yellow."]
    # The client asks for base64 by itself and decodes it.
    decoded = client.embeddings.create(model="minilm", input=texts)
    floats = client.embeddings.create(model="minilm", input=texts, encoding_format="float")
    raw = real.post("/v1/embeddings", {"input": texts, "encoding_format": "base64"}).json()
    for i in range(2):
        vector = floats.data[i].embedding
        assert len(vector) == 384 and floats.data[i].index == i
        assert abs(math.sqrt(sum(x * x for x in vector)) - 1) < 1e-5
        assert list(decoded.data[i].embedding) == pytest.approx(vector, abs=1e-7)
        assert list(struct.unpack("<384f", base64.b64decode(raw["data"][i]["embedding"]))) == pytest.approx(
            vector, abs=1e-7
        )
    assert floats.usage.prompt_tokens == floats.usage.total_tokens > 8
    assert real.post("/embed", {"inputs": texts[0]}).json()[0] == pytest.approx(floats.data[0].embedding, abs=1e-6)


@pytest.mark.parametrize("call, error, code, param", [
    (lambda c: c.chat.completions.create(model="smollm2", messages=QUESTION, temperature=3), openai.BadRequestError,
     "invalid_value", "temperature"),
    (lambda c: c.chat.completions.create(model="smollm2", messages=[]), openai.BadRequestError, "invalid_value",
     "messages"),
    (lambda c: c.chat.completions.create(model="no", messages=QUESTION), openai.NotFoundError, "model_not_found",
     "model"),
    (lambda c: c.chat.completions.create(model="minilm", messages=QUESTION), openai.BadRequestError,
     "model_not_capable", "model"),
    (lambda c: c.chat.completions.create(model="smollm2", messages=QUESTION, max_tokens=10**6),
     openai.BadRequestError, "context_length_exceeded", "messages"),
    (lambda c: c.chat.completions.create(model="smollm2", messages=QUESTION, extra_body={"chat_template": "x"}),
     openai.PermissionDeniedError, "chat_template_not_allowed", "chat_template"),
    (lambda c: c.chat.completions.create(
        model="smollm2", messages=QUESTION, response_format={"type": "xml"}),
     openai.BadRequestError, "invalid_value", "response_format.type"),
    (lambda c: c.completions.create(model="smollm2", prompt=[10**9]), openai.BadRequestError, "invalid_token_id",
     "prompt"),
    (lambda c: c.embeddings.create(model="minilm", input=""), openai.BadRequestError, "empty_input", "input"),
    (lambda c: c.embeddings.create(model="minilm", input="a", dimensions=100), openai.BadRequestError,
     "invalid_value", "dimensions"),
])
def test_errors_have_their_classes(client, call, error, code, param):
    with pytest.raises(error) as raised:
        call(client)
    assert (raised.value.code, raised.value.param) == (code, param)
    assert raised.value.request_id


def test_a_wrong_key_is_an_authentication_error(start, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("a-secret-key-of-ours\n")
    keys.chmod(0o600)
    server = start({"tiny": TINY_LLAMA}, "--api-key-file", keys).wait_until_ready()
    messages = [{"role": "user", "content": "hi"}]
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(model="tiny", messages=messages)
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="a-secret-key-of-ours", max_retries=0) as client:
        assert client.chat.completions.create(model="tiny", messages=messages, max_tokens=2).choices


NEVER_ENDS = {"model": "tiny", "stream": True, "max_tokens": 400, "logit_bias": {"2": -100}}


@pytest.fixture
def slow_server(start, slow):
    """To which NEVER_ENDS takes 20 s."""
    slow("decode", 50)
    return start({"tiny": TINY_LLAMA}, "--backend", "cpu", "--speculation", "off").wait_until_ready()


@pytest.fixture
def slow_client(slow_server):
    with openai.OpenAI(base_url=f"{slow_server.url}/v1", api_key="none", max_retries=0, timeout=120) as client:
        yield client


def test_a_late_error_is_raised_by_the_stream(slow_client, slow_server):
    stream = slow_client.chat.completions.create(messages=[{"role": "user", "content": "Tell me a long story."}], **NEVER_ENDS)
    with pytest.raises(openai.APIError) as raised:
        for i, chunk in enumerate(stream):
            if i == 2:
                assert slow_server.delete(f"/requests/{chunk.id}").json() == {"id": chunk.id, "cancelled": True}
    assert raised.value.code == "cancelled"


def test_closing_a_stream_ends_its_request(slow_client, slow_server):
    stream = slow_client.completions.create(prompt="Once upon a time", n=3, **NEVER_ENDS)
    chunk = next(iter(stream))
    stream.close()
    wait_for(lambda: cancelled(slow_server) == 1, SOON_S)
    assert slow_server.delete(f"/requests/{chunk.id}").status_code == 404
    wait_for(lambda: slow_server.get("/healthz").json()["engine"]["running"] == 0, SOON_S)
