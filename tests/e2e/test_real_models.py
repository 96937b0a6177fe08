"""The default models through the real server: a chat, an embedding and a rerank, as a new user would ask for them."""

import json
import math
import subprocess

import pytest
from conftest import BINARY, DATA, MINILM, SMOLLM2

QUESTION = "What is the capital of France? Answer in one word."


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def test_smollm2_answers(real):
    reply = real.chat(QUESTION, temperature=0, max_tokens=20)
    assert reply.status_code == 200, reply.text
    body = reply.json()
    assert body["object"] == "chat"
    assert body["message"] == {"role": "assistant", "content": "The capital of France is Paris."}
    assert body["finish_reason"] == "stop"
    assert body["usage"]["prompt_tokens"] == 42
    assert body["usage"]["completion_tokens"] == 8
    assert body["usage"]["total_tokens"] == 50
    assert body["timings"]["ttft_ms"] > 0


def test_a_stream_says_the_same(real):
    reply = real.chat(QUESTION, temperature=0, max_tokens=20, stream=True)
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["cache-control"] == "no-store"
    events = [line[len("data: "):] for line in reply.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert {chunk["object"] for chunk in chunks} == {"chat.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(chunk["delta"].get("content", "") for chunk in chunks)
    assert text == "The capital of France is Paris."
    assert chunks[-1]["finish_reason"] == "stop"
    assert chunks[-1]["usage"]["completion_tokens"] == 8


def test_stop_strings_cut_and_count(real):
    body = real.chat(QUESTION, temperature=0, max_tokens=20, stop=["France"]).json()
    assert body["message"]["content"] == "The capital of "
    assert body["finish_reason"] == "stop"
    assert body["usage"]["completion_tokens"] == 4


def test_max_tokens_ends_with_length(real):
    body = real.chat(QUESTION, temperature=0, max_tokens=3).json()
    assert body["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 3


def test_a_seed_repeats_a_sample(real):
    first = real.chat("Tell me a story.", temperature=1, seed=7, max_tokens=16).json()["message"]["content"]
    again = real.chat("Tell me a story.", temperature=1, seed=7, max_tokens=16).json()["message"]["content"]
    other = real.chat("Tell me a story.", temperature=1, seed=8, max_tokens=16).json()["message"]["content"]
    assert first == again
    assert first != other


def test_logprobs_tell_each_token(real):
    body = real.chat(QUESTION, temperature=0, max_tokens=20, logprobs=True, top_logprobs=2).json()
    tokens = body["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == body["message"]["content"]
    for token in tokens:
        assert bytes(token["bytes"]).decode() == token["token"]
        assert len(token["top_logprobs"]) == 2
        assert token["top_logprobs"][0]["logprob"] >= token["top_logprobs"][1]["logprob"]
        assert token["logprob"] == token["top_logprobs"][0]["logprob"]  # greedy


def test_a_conversation_goes_on(real):
    first = real.chat("My name is Ada. Remember it.", temperature=0, max_tokens=24).json()
    conversation = first["conversation_id"]
    second = real.chat("What is my name?", temperature=0, max_tokens=24, conversation_id=conversation).json()
    assert second["conversation_id"] == conversation
    assert second["usage"]["prompt_tokens"] > first["usage"]["prompt_tokens"]
    stored = real.get(f"/chat/{conversation}").json()
    assert [message["role"] for message in stored["messages"]] == ["user", "assistant"] * 2
    assert stored["messages"][3]["content"] == second["message"]["content"]
    assert real.delete(f"/chat/{conversation}").json() == {"conversation_id": conversation, "deleted": True}
    assert real.get(f"/chat/{conversation}").status_code == 404


def test_minilm_equals_the_golden_vectors(real):
    golden = json.loads((DATA / "goldens" / "all-minilm-l6-v2.json").read_text())
    vectors = read_golden_embeddings()
    for text, vector in zip(golden["texts"], vectors):
        reply = real.post("/embed", {"inputs": text, "truncate": True})
        if text == "":
            assert reply.status_code == 400
            assert reply.json()["code"] == "empty_input"
            continue
        assert reply.status_code == 200, reply.text
        assert cosine(reply.json()[0], vector) >= 0.9999, text[:60]
        assert abs(math.sqrt(sum(x * x for x in reply.json()[0])) - 1) < 1e-5
    too_long = max(golden["texts"], key=len)
    assert real.post("/embed", {"inputs": too_long}).status_code == 413
    assert real.post("/embed", {"inputs": too_long, "truncate": True}).headers["x-truncated-inputs"] == "1"


def test_minilm_stays_near_the_golden_vectors_when_it_is_fast(start):
    server = start({"minilm": MINILM}).wait_until_ready()
    golden = json.loads((DATA / "goldens" / "all-minilm-l6-v2.json").read_text())
    pairs = [(text, vector) for text, vector in zip(golden["texts"], read_golden_embeddings()) if text]
    reply = server.post("/embed", {"inputs": [text for text, _ in pairs], "truncate": True})
    assert min(cosine(got, vector) for got, (_, vector) in zip(reply.json(), pairs)) >= 0.9999


def read_golden_embeddings():
    import struct

    data = (DATA / "goldens" / "all-minilm-l6-v2.golden.safetensors").read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    entry = json.loads(data[8 : 8 + size])["embeddings"]
    rows, columns = entry["shape"]
    begin = 8 + size + entry["data_offsets"][0]
    values = struct.unpack(f"<{rows * columns}f", data[begin : begin + 4 * rows * columns])
    return [values[row * columns : (row + 1) * columns] for row in range(rows)]


def test_the_three_shapes_of_embed_agree(real):
    tei = real.post("/embed", {"inputs": "Paris"}).json()
    one = real.post("/embed", {"text": "Paris"}).json()
    many = real.post("/embed", {"texts": ["Paris", "London"]}).json()
    assert len(tei) == 1 and len(tei[0]) == 384
    assert one == {"embedding": tei[0]}
    assert len(many["embeddings"]) == 2
    assert cosine(many["embeddings"][0], tei[0]) > 0.999999


def test_rerank_puts_the_answer_first(real):
    texts = ["Berlin is in Germany.", "The capital of France is Paris.", "Bananas are yellow."]
    query = "What is the capital of France?"
    results = real.post("/rerank", {"query": query, "texts": texts, "return_text": True}).json()
    assert [result["index"] for result in results][0] == 1
    assert results[0]["text"] == texts[1]
    assert [result["score"] for result in results] == sorted((r["score"] for r in results), reverse=True)
    vectors = real.post("/embed", {"inputs": [query, texts[1]]}).json()
    assert abs(results[0]["score"] - cosine(vectors[0], vectors[1])) < 1e-5
    assert len(real.post("/rerank", {"query": query, "texts": texts, "top_n": 2}).json()) == 2


def test_health_tells_what_is_here(real):
    health = real.get("/healthz").json()
    assert health["status"] == "ok" and health["reasons"] == []
    models = {model["id"]: model for model in health["models"]}
    assert models["smollm2"]["kind"] == "chat" and models["smollm2"]["state"] == "ready"
    assert models["minilm"]["kind"] == "embed" and models["minilm"]["rerank"] == "cosine"
    assert models["minilm"]["context_length"] == 256
    assert models["smollm2"]["bytes"] > 90_000_000
    assert health["engine"]["restarts"] == 0
    assert health["guards"]["memory"]["used_bytes"] > 100_000_000


def test_metrics_count_requests(real):
    real.post("/embed", {"inputs": "Paris"})
    text = real.get("/metrics").text
    assert 'cortex_requests_total{code="200",endpoint="/embed"' in text
    assert "cortex_build_info" in text


@pytest.mark.parametrize(("flags", "tolerance"), [([], 0.01), (["--exact"], 0.002)])
def test_perplexity_command_agrees_with_the_golden(tmp_path, flags, tolerance):
    golden = json.loads((DATA / "goldens" / "smollm2-135m-instruct-q4_1.json").read_text())
    ids = tmp_path / "ids.json"
    ids.write_text(json.dumps(read_golden_ids()))
    output = subprocess.run(
        [BINARY, "perplexity", "--model", SMOLLM2, "--ids", ids, "--json", *flags],
        capture_output=True, text=True, timeout=300, check=True,
    ).stdout
    result = json.loads(output)
    assert result["tokens"] == 1535
    expected = golden["perplexity"]["value"]
    assert abs(result["perplexity"] / expected - 1) < tolerance
    assert abs(math.exp(result["nll"]) - result["perplexity"]) < 1e-6


def read_golden_ids():
    import struct

    data = (DATA / "goldens" / "smollm2-135m-instruct-q4_1.golden.safetensors").read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    entry = json.loads(data[8 : 8 + size])["ppl_ids"]
    begin = 8 + size + entry["data_offsets"][0]
    return list(struct.unpack(f"<{entry['shape'][0]}i", data[begin : begin + 4 * entry["shape"][0]]))


def test_the_embedder_is_found_without_its_name():
    assert MINILM.is_dir(), "script/setup fetches the default models"
