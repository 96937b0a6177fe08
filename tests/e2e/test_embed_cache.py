"""What a server keeps of the texts it has encoded, as its headers, its metrics and its engine's steps tell."""

import pytest

from conftest import DATA, TINY_BERT, wait_for
from test_clients import SOON_S, assert_nothing_is_left, engine, metric, post, reset, start_tiny

HITS, MISSES = "cortex_embed_cache_hits_total", "cortex_embed_cache_misses_total"
RERANKER = DATA / "models" / "bert-reranker"


def texts(first):
    """Different ones, and others with each number: the tiny vocabulary does not tell every word."""
    return ["a " * (first + 1) + "b " * (i + 1) for i in range(24)]


TEXTS = texts(0)


def answer(server, path, body):
    """The body, and how many texts were cached."""
    reply = server.post(path, body)
    assert reply.status_code == 200, reply.text
    return reply.text, int(reply.headers["x-cached-texts"])


@pytest.mark.parametrize("path, body", [
    ("/embed", {"inputs": TEXTS}),
    ("/v1/embeddings", {"input": TEXTS, "encoding_format": "base64"}),
    ("/rerank", {"model": "head", "query": "a", "texts": TEXTS}),
])
def test_the_same_texts_again_take_no_step(start, path, body):
    server = start({"tiny-embed": TINY_BERT, "head": RERANKER}, "--backend", "cpu").wait_until_ready()
    first, cached = answer(server, path, body)
    assert cached == 0
    wait_for(lambda: engine(server)["steps"] > 0, SOON_S)
    steps, size = engine(server)["steps"], metric(server, "cortex_embed_cache_bytes")
    assert (metric(server, HITS), metric(server, MISSES)) == (0, len(TEXTS))
    assert answer(server, path, body) == (first, len(TEXTS))
    assert engine(server)["steps"] == steps
    assert (metric(server, HITS), metric(server, MISSES)) == (len(TEXTS), len(TEXTS))
    assert metric(server, "cortex_embed_cache_bytes") == size > 0
    # Another tenant's are its own, though they are the same.
    if path == "/embed":
        assert answer(server, path, {**body, "cache_salt": "other"}) == (first, 0)


def test_one_text_is_the_same_alone_in_company_and_from_the_cache(start):
    server = start_tiny(start)
    alone, _ = answer(server, "/embed", {"inputs": TEXTS[5], "cache_salt": "alone"})
    together = server.post("/embed", {"inputs": TEXTS}).json()
    kept, cached = answer(server, "/embed", {"inputs": TEXTS[5]})
    assert cached == 1
    assert kept == alone
    assert server.post("/embed", {"inputs": TEXTS[5]}).json()[0] == together[5]


def test_a_cache_that_is_off_computes_everything(start):
    server = start_tiny(start, "--embed-cache", 0)
    body = {"inputs": [TEXTS[0]] * 3}
    first, _ = answer(server, "/embed", body)
    assert answer(server, "/embed", body) == (first, 0)
    assert metric(server, MISSES) == metric(server, "cortex_embed_cache_bytes") == 0


def test_a_small_cache_stays_small(start):
    server = start_tiny(start, "--embed-cache", "8KiB")
    for i in range(20):
        answer(server, "/embed", {"inputs": texts(i)})
        assert metric(server, "cortex_embed_cache_bytes") <= 8192
    assert metric(server, "cortex_embed_cache_bytes") > 4096
    assert answer(server, "/embed", {"inputs": texts(0)[0]})[1] == 0
    assert answer(server, "/embed", {"inputs": texts(19)[-1]})[1] == 1


def test_who_wants_the_texts_of_one_that_leaves_gets_them(start):
    server = start_tiny(start)
    for i in range(8):
        body = {"inputs": texts(100 + i)}
        with post(server, "/embed", body) as leaves, post(server, "/embed", body) as stays:
            reset(leaves)
            assert stays.recv(16).startswith(b"HTTP/1.1 200 ")
    assert_nothing_is_left(server)
