"""Bad input against the real server: status, code and message as the API says, and the next good request works."""

import json
import socket

import pytest

HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"
USER = {"role": "user", "content": "hi"}


def raw_request(port, data):
    """Sends bytes; returns status, headers and the parsed body of the first reply."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        reply = b""
        while chunk := connection.recv(65536):
            reply += chunk
    head, _, body = reply.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return int(lines[0].split(" ")[1]), headers, json.loads(body[: int(headers["content-length"])])


def post(path, body, headers=HOST + JSON):
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    return b"POST %s HTTP/1.1\r\n" % path.encode() + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body


def get(path, headers=HOST, method=b"GET"):
    return method + b" %s HTTP/1.1\r\n" % path.encode() + headers + b"\r\n"


def chat(**fields):
    return post("/chat", {"messages": [USER], "max_tokens": 2, **fields})


# name, bytes, status, code, what the message holds
TABLE = [
    # The wire.
    ("both framings", b"POST /chat HTTP/1.1\r\n" + HOST + JSON +
     b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "invalid_framing", "Transfer-Encoding"),
    ("both framings, the other order", b"POST /chat HTTP/1.1\r\n" + HOST + JSON +
     b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400, "invalid_framing", "Transfer-Encoding"),
    ("two lengths", post("/chat", b"{}", HOST + JSON + b"Content-Length: 2\r\n"), 400, "invalid_framing",
     "Content-Length"),
    ("an unknown coding", b"POST /chat HTTP/1.1\r\n" + HOST + JSON + b"Transfer-Encoding: xchunked\r\n\r\n", 501,
     "unsupported_transfer_encoding", "chunked"),
    ("two hosts", get("/healthz", HOST + b"Host: b\r\n"), 400, "invalid_header", "Host"),
    ("no host", get("/healthz", b""), 400, "invalid_header", "Host"),
    ("a foreign host", get("/healthz", b"Host: evil.example\r\n"), 403, "host_not_allowed", "Host"),
    ("a foreign origin", post("/chat", {}, HOST + JSON + b"Origin: https://evil.example\r\n"), 403,
     "origin_not_allowed", "Origin"),
    ("an unknown route", get("/nope"), 404, "not_found", "route"),
    ("the wrong method", get("/chat"), 405, "method_not_allowed", ""),
    ("the wrong content type", post("/chat", {}, HOST + b"Content-Type: text/plain\r\n"), 415,
     "unsupported_media_type", "application/json"),
    ("no length", b"POST /chat HTTP/1.1\r\n" + HOST + JSON + b"\r\n", 411, "length_required", ""),
    ("too large", b"POST /chat HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 9000000\r\n\r\n", 413,
     "request_too_large", "8"),
    ("a header block of 20 kB", get("/healthz", HOST + b"X-A: " + b"a" * 20000 + b"\r\n"), 431, "headers_too_large",
     ""),
    ("a target of 9 kB", get("/" + "a" * 9000), 414, "uri_too_long", ""),
    ("dot segments", get("/a/../healthz"), 400, "invalid_target", "target"),
    # JSON.
    ("no JSON", post("/chat", b"{\"messages\": ["), 400, "invalid_json", "JSON"),
    ("an empty body", post("/chat", b""), 400, "invalid_json", "JSON"),
    ("an array", post("/chat", []), 400, "invalid_json", "JSON"),
    ("trailing bytes", post("/chat", b"{} x"), 400, "invalid_json", "JSON"),
    ("too deep", post("/chat", b'{"a":' + b"[" * 100 + b"]" * 100 + b"}"), 400, "json_too_deep", "64"),
    ("bad UTF-8", post("/chat", b'{"a":"\xff"}'), 400, "invalid_utf8", "UTF-8"),
    ("a key twice", post("/chat", b'{"model":"a","model":"b"}'), 400, "duplicate_key", "model"),
    # /chat.
    ("no messages", post("/chat", {}), 422, "missing_required_parameter", "messages"),
    ("messages of the wrong type", post("/chat", {"messages": "hi"}), 422, "invalid_type", "messages"),
    ("no message", post("/chat", {"messages": []}), 422, "invalid_value", "messages"),
    ("an unknown role", post("/chat", {"messages": [USER, {"role": "bot", "content": "x"}]}), 422, "invalid_value",
     "messages[1].role"),
    ("content of the wrong type", post("/chat", {"messages": [{"role": "user", "content": 5}]}), 422, "invalid_type",
     "messages[0].content"),
    ("an unknown field", chat(frobnicate=1), 422, "unknown_field", "frobnicate"),
    ("an unknown model", chat(model="nobody"), 404, "model_not_found", "nobody"),
    ("a path as model", chat(model="../x"), 422, "invalid_value", "model"),
    ("an embedder that should chat", chat(model="tiny-embed"), 400, "model_not_capable", "embed"),
    ("a prompt that is too long", post("/chat", {"messages": [{"role": "user", "content": "word " * 3000}]}), 413,
     "context_length_exceeded", "512"),
    ("more output than fits", chat(max_tokens=100000), 413, "context_length_exceeded", "512"),
    ("no output at all", chat(max_tokens=0), 422, "invalid_value", "max_tokens"),
    ("temperature out of range", chat(temperature=3), 422, "invalid_value", "temperature"),
    ("temperature as text", chat(temperature="1"), 422, "invalid_type", "temperature"),
    ("top_p of nothing", chat(top_p=0), 422, "invalid_value", "top_p"),
    ("a fraction as seed", chat(seed=1.5), 422, "invalid_type", "seed"),
    ("too many stops", chat(stop=["x"] * 17), 422, "invalid_value", "16"),
    ("an empty stop", chat(stop=""), 422, "invalid_value", "stop"),
    ("a bias outside the vocabulary", chat(logit_bias={"99999": 1}), 422, "invalid_token_id", "484"),
    ("a bias on no token", chat(logit_bias={"x": 1}), 422, "invalid_token_id", "x"),
    ("a bias out of range", chat(logit_bias={"1": 101}), 422, "invalid_value", "100"),
    ("too many alternatives", chat(logprobs=True, top_logprobs=21), 422, "invalid_value", "20"),
    ("alternatives without logprobs", chat(top_logprobs=2), 422, "invalid_value", "logprobs"),
    ("a salt with a slash", chat(cache_salt="a/b"), 422, "invalid_value", "cache_salt"),
    ("a priority out of range", chat(priority=11), 422, "invalid_value", "priority"),
    ("a negative timeout", chat(timeout_s=-1), 422, "invalid_value", "timeout_s"),
    ("tools", chat(tools=[]), 422, "unsupported_parameter", "tools"),
    ("a response format", chat(response_format={"type": "text"}), 422, "unsupported_parameter", "response_format"),
    ("a template", chat(chat_template="{{ 1 }}"), 403, "chat_template_not_allowed", "chat_template"),
    ("a template argument", chat(chat_template_kwargs={"messages": "x"}), 422, "invalid_value", "messages"),
    ("an unknown conversation", chat(conversation_id="conv_no"), 404, "conversation_not_found", "conv_no"),
    ("a remote image", post("/chat", {"messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "http://example.com/a.png"}}]}]}), 422, "remote_media_disabled",
     "data:"),
    # /embed.
    ("no inputs", post("/embed", {}), 422, "missing_required_parameter", "inputs"),
    ("an empty text", post("/embed", {"inputs": ""}), 400, "empty_input", "inputs"),
    ("an empty list", post("/embed", {"inputs": []}), 400, "empty_input", "inputs"),
    ("an empty text in a list", post("/embed", {"inputs": ["a", ""]}), 400, "empty_input", "inputs[1]"),
    ("33 inputs", post("/embed", {"inputs": ["a"] * 33}), 413, "batch_too_large", "33 > maximum allowed batch size 32"),
    ("mixed inputs", post("/embed", {"inputs": ["a", [1]]}), 422, "invalid_type", "inputs[1]"),
    ("inputs of the wrong type", post("/embed", {"inputs": {"a": 1}}), 422, "invalid_type", "inputs"),
    ("two kinds of input", post("/embed", {"inputs": "a", "text": "a"}), 422, "invalid_value", "inputs"),
    ("an id outside the vocabulary", post("/embed", {"inputs": [1, 257]}), 422, "invalid_token_id", "257"),
    ("a text that is too long", post("/embed", {"inputs": "word " * 2000}), 413, "context_length_exceeded", "320"),
    ("an unknown direction", post("/embed", {"inputs": "a", "truncation_direction": "up"}), 422, "invalid_value",
     "truncation_direction"),
    ("fewer dimensions", post("/embed", {"inputs": "a", "dimensions": 8}), 422, "invalid_value", "dimensions"),
    ("a chat model that should embed", post("/embed", {"inputs": "a", "model": "tiny-chat"}), 400,
     "model_not_capable", "chat"),
    # /rerank.
    ("no query", post("/rerank", {"texts": ["a"]}), 422, "missing_required_parameter", "query"),
    ("no texts", post("/rerank", {"query": "q", "texts": []}), 400, "empty_input", "texts"),
    ("an empty query", post("/rerank", {"query": "", "texts": ["a"]}), 400, "empty_input", "query"),
    ("texts and documents", post("/rerank", {"query": "q", "texts": ["a"], "documents": ["a"]}), 422, "invalid_value",
     "documents"),
    ("a negative top_n", post("/rerank", {"query": "q", "texts": ["a"], "top_n": -1}), 422, "invalid_value", "top_n"),
]


@pytest.mark.parametrize(("data", "status", "code", "words"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_bad_input_is_named_and_the_next_request_works(tiny, data, status, code, words):
    got_status, headers, body = raw_request(tiny.port, data)
    assert (got_status, body["code"]) == (status, code), body
    assert words in body["error"], body
    assert headers["content-type"].startswith("application/json")
    assert headers["x-request-id"] == body["request_id"]

    assert tiny.get("/healthz").status_code == 200
    good = tiny.chat("hi", max_tokens=2, temperature=0)
    assert good.status_code == 200, good.text


def test_a_wrong_method_says_which_are_right(tiny):
    _, headers, _ = raw_request(tiny.port, get("/chat"))
    assert headers["allow"] == "OPTIONS, POST" or headers["allow"] == "POST, OPTIONS", headers


def test_head_has_no_body(tiny):
    reply = tiny.get("/healthz")
    head = raw_head(tiny.port, "/healthz")
    assert reply.status_code == 200
    assert head.startswith(b"HTTP/1.1 200 ")
    assert head.endswith(b"\r\n\r\n")


def raw_head(port, path):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(get(path, HOST + b"Connection: close\r\n", b"HEAD"))
        reply = b""
        while chunk := connection.recv(65536):
            reply += chunk
    return reply


def test_a_header_that_never_ends_is_timed_out(tiny):
    with socket.create_connection(("127.0.0.1", tiny.port), timeout=10) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: lo")
        reply = connection.recv(65536)
    assert reply.startswith(b"HTTP/1.1 408 ")
    assert b"request_timeout" in reply


def test_every_error_repeats_a_well_formed_request_id(tiny):
    reply = tiny.post("/chat", {}, headers={"x-request-id": "abc-1"})
    assert reply.headers["x-request-id"] == "abc-1"
    assert reply.json()["request_id"] == "abc-1"
