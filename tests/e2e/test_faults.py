"""What goes wrong inside while a request is served: a model that gives numbers that are none, a process that dies. The
request hears of it in its dialect, and nothing else does."""

import json
import math
import os
import pathlib
import shutil
import signal
import socket
import struct
import tempfile
import threading

import pytest

from conftest import BACKENDS, TINY_BERT, TINY_LLAMA, Server, wait_for

MODELS = TINY_LLAMA.parent
SICK_TOKEN = 439  # "cortex", in the tiny chat model's vocabulary
SICK = {"role": "user", "content": "cortex"}
WELL = {"role": "user", "content": "hi"}
NAN, INFINITY = math.nan, math.inf


def spoil(path, change):
    """Changes a safetensors file: change(name, shape, values) gives a tensor's new values, or None."""
    data = path.read_bytes()
    begin = 8 + struct.unpack_from("<Q", data)[0]
    spoiled = bytearray(data)
    changed = 0
    for name, entry in json.loads(data[8:begin]).items():
        if name == "__metadata__":
            continue
        assert entry["dtype"] == "F32"
        first, last = (begin + offset for offset in entry["data_offsets"])
        values = change(name, entry["shape"], struct.unpack(f"<{(last - first) // 4}f", data[first:last]))
        if values is None:
            continue
        spoiled[first:last] = struct.pack(f"<{(last - first) // 4}f", *values)
        changed += 1
    assert changed == 1, "one tensor is to be spoiled"
    path.write_bytes(spoiled)


def put(tensor, row, value):
    """A change that puts a value into a row of a tensor."""

    def change(name, shape, values):
        if name != tensor:
            return None
        width = shape[-1]
        return values[: row * width] + (value,) * width + values[(row + 1) * width:]

    return change


def stretch(name, _, values):
    """Logits that are finite one by one and too far apart for float32."""
    return [value * 2.0**126 for value in values] if name == "lm_head.weight" else None


# name of a served model -> the tiny model it is made of, what is wrong with it
SICK_MODELS = {
    "nan-chat": ("llama", put("model.embed_tokens.weight", SICK_TOKEN, NAN)),
    "inf-chat": ("llama", put("model.embed_tokens.weight", SICK_TOKEN, INFINITY)),
    "inf-head-chat": ("llama", put("lm_head.weight", 3, -INFINITY)),
    "wide-chat": ("llama", stretch),
    "nan-embed": ("bert-mean", put("embeddings.word_embeddings.weight", 221, NAN)),  # "cortex" again
    "inf-embed": ("modernbert-mean", put("final_norm.weight", 0, INFINITY)),
    "nan-rerank": ("bert-reranker", put("bert.embeddings.word_embeddings.weight", 221, NAN)),
    "inf-rerank": ("bert-reranker", put("classifier.bias", 0, INFINITY)),
    "nan-judge": ("qwen3-reranker", put("model.embed_tokens.weight", SICK_TOKEN, NAN)),
}


@pytest.fixture(scope="module", params=BACKENDS)
def sick(request):
    """A server whose models are well but for the default ones' copies named above."""
    with tempfile.TemporaryDirectory(prefix="cortex-e2e-") as directory:
        models = {"chat": TINY_LLAMA, "embed": TINY_BERT, "rerank": MODELS / "bert-reranker"}
        for name, (well, change) in SICK_MODELS.items():
            models[name] = pathlib.Path(directory) / name
            shutil.copytree(MODELS / well, models[name], ignore=shutil.ignore_patterns("golden.*"), copy_function=copy)
            spoil(models[name] / "model.safetensors", change)
        models["nan-judge"] = f"{models['nan-judge']},kind=rerank"
        server = Server(models, "--backend", request.param).wait_until_ready(300)
        yield server
        assert server.stop() == 0, server.read_log()


def copy(source, target):
    """As a file that may be written, whatever the source is."""
    return shutil.copyfile(source, target)


def chat(model, message=SICK, **fields):
    return {"model": model, "messages": [message], "temperature": 0, "max_tokens": 4, **fields}


def complete(model, prompt="cortex", **fields):
    return {"model": model, "prompt": prompt, "temperature": 0, "max_tokens": 4, **fields}


V1_CHAT, V1_COMPLETIONS, V1_EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
LATE = {"logit_bias": {str(SICK_TOKEN): 100}}  # says "cortex" and then has to read it

# name, path, body: the fault is there before anything has been said.
AT_ONCE = [
    *[(f"{model}, {path}{', streamed' if stream else ''}", path, make(model, stream=stream))
      for model in ("nan-chat", "inf-chat", "inf-head-chat")
      for path, make in (("/chat", chat), (V1_CHAT, chat), (V1_COMPLETIONS, complete)) for stream in (False, True)],
    *[(f"late, {path}", path, make("nan-chat", well, **LATE))
      for path, make, well in (("/chat", chat, WELL), (V1_CHAT, chat, WELL), (V1_COMPLETIONS, complete, "hi"))],
    ("logprobs of a prompt", V1_COMPLETIONS, complete("nan-chat", "cortex is", echo=True, logprobs=3, max_tokens=0)),
    ("one of two prompts", V1_COMPLETIONS, complete("nan-chat", ["hi", "cortex"])),
    ("two choices", V1_CHAT, chat("inf-chat", n=2, temperature=1)),
    ("a text", "/embed", {"model": "nan-embed", "inputs": "cortex"}),
    ("one of three texts", "/embed", {"model": "nan-embed", "inputs": ["a", "cortex", "b"]}),
    ("a text as it is", "/embed", {"model": "nan-embed", "inputs": "cortex", "normalize": False}),
    ("a text, in another shape", "/embed", {"model": "nan-embed", "texts": ["a", "cortex"]}),
    ("any text", "/embed", {"model": "inf-embed", "inputs": "a"}),
    ("floats", V1_EMBEDDINGS, {"model": "nan-embed", "input": "cortex"}),
    ("base64", V1_EMBEDDINGS, {"model": "nan-embed", "input": "cortex", "encoding_format": "base64"}),
    *[(f"{path}: {name}", path, {"model": model, "query": query, "texts" if path == "/rerank" else "documents": texts})
      for path in ("/rerank", "/v1/rerank")
      for name, model, query, texts in (
          ("a query", "nan-rerank", "cortex", ["a", "b"]), ("one of two texts", "nan-rerank", "a", ["b", "cortex"]),
          ("any text", "inf-rerank", "a", ["b", "c", "d"]), ("a model asked", "nan-judge", "a", ["b"]),
          ("a vector", "nan-embed", "a", ["b", "cortex", "c"]))],
    ("raw scores", "/rerank", {"model": "inf-rerank", "query": "a", "texts": ["b"], "raw_scores": True}),
]


def error_of(body):
    """The code and the message, whatever the dialect."""
    error = body["error"]
    return (body["code"], error) if isinstance(error, str) else (error["code"], error["message"])


def answer_of(server, path, body):
    reply = server.post(path, body)
    assert reply.status_code == 200, reply.text
    reply = reply.json()
    return reply["choices"] if path.startswith("/v1/") else reply["message"] if path == "/chat" else reply


def assert_the_others_are_well(server):
    """The sick models too, on what does not make them so, where the request before this may have left its numbers."""
    for path, make, well in (("/chat", chat, WELL), (V1_COMPLETIONS, complete, "hi")):
        expected = answer_of(server, path, make("chat", well))
        for model in ("nan-chat", "inf-chat"):
            assert answer_of(server, path, make(model, well)) == expected
    texts = {"inputs": ["a b", "c"]}
    assert answer_of(server, "/embed", {"model": "nan-embed", **texts}) == answer_of(server, "/embed", texts)
    pairs = {"query": "a", "texts": ["b", "c"]}
    assert answer_of(server, "/rerank", {"model": "nan-rerank", **pairs}) == answer_of(
        server, "/rerank", {"model": "rerank", **pairs})


@pytest.mark.parametrize(("path", "body"), [row[1:] for row in AT_ONCE], ids=[row[0] for row in AT_ONCE])
def test_numbers_that_are_none(sick, path, body):
    reply = sick.post(path, body)
    assert reply.status_code == 500, reply.text
    assert reply.headers["content-type"] == "application/json"
    code, message = error_of(json.loads(reply.text, parse_constant=pytest.fail))
    assert code == "numerical_error" and "non-finite" in message, reply.text
    assert reply.headers["x-should-retry"] == "false" and "retry-after" not in reply.headers
    assert_the_others_are_well(sick)


@pytest.mark.parametrize("stream", [False, True])
def test_a_probability_of_nothing(sick, stream):
    """Logits are finite here, and so far apart that the logarithm of a probability is not."""
    unlikely = [326, 217]  # nothing is less likely behind the first than the second
    reply = sick.post(V1_COMPLETIONS, complete("wide-chat", unlikely, echo=True, logprobs=2, stream=stream))
    assert reply.status_code == 200, reply.text
    first = events_of(reply.content)[0] if stream else reply.content
    logprobs = json.loads(first, parse_constant=pytest.fail)["choices"][0]["logprobs"]
    assert logprobs["token_logprobs"][1] == -9999
    assert_the_others_are_well(sick)


def exchange(server, path, body):
    """Posts on a connection that stays open; returns what came until the server closed it."""
    data = json.dumps(body).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                           b"Content-Length: %d\r\n\r\n" % (path.encode(), len(data)) + data)
        reply = b""
        while chunk := connection.recv(65536):
            reply += chunk
    return reply


def events_of(reply):
    return [line[len(b"data: "):] for line in reply.split(b"\n") if line.startswith(b"data: ")]


@pytest.mark.parametrize(("path", "body"), [
    ("/chat", chat("nan-chat", WELL, **LATE)),
    ("/chat", chat("inf-chat", WELL, logprobs=True, top_logprobs=2, **LATE)),
    (V1_CHAT, chat("nan-chat", WELL, **LATE)),
    (V1_CHAT, chat("nan-chat", WELL, n=3, stream_options={"include_usage": True}, **LATE)),
    (V1_COMPLETIONS, complete("nan-chat", "hi", **LATE)),
    (V1_COMPLETIONS, complete("inf-chat", "hi", echo=True, logprobs=2, **LATE)),
], ids=["chat", "chat with logprobs", "v1 chat", "v1 chat with choices", "completion", "completion with echo"])
def test_numbers_that_are_none_in_the_middle_of_a_stream(sick, path, body):
    reply = exchange(sick, path, {**body, "stream": True})
    assert reply.startswith(b"HTTP/1.1 200 ")
    *chunks, last = events_of(reply)
    assert any(b"cortex" in chunk for chunk in chunks) and b"[DONE]" not in reply
    code, message = error_of(json.loads(last))
    assert code == "numerical_error" and "non-finite" in message
    for chunk in chunks:
        assert "error" not in json.loads(chunk, parse_constant=pytest.fail)
    assert_the_others_are_well(sick)


def test_what_is_computed_together_with_such_numbers(sick):
    """Well and sick texts and chats share steps; the well ones get what they get alone."""
    asked = [(path, body) for path, body in (
        ("/chat", chat("nan-chat", WELL, max_tokens=24, store=False)), (V1_COMPLETIONS, complete("nan-chat", "Paris is")),
        ("/embed", {"model": "nan-embed", "inputs": ["a b c"] * 3}),
        ("/rerank", {"model": "nan-rerank", "query": "a", "texts": ["b", "c"]}))]
    alone = [answer_of(sick, path, body) for path, body in asked]
    sick_ones = [("/chat", chat("nan-chat", SICK)), ("/chat", chat("nan-chat", WELL, max_tokens=24, **LATE)),
                 ("/embed", {"model": "nan-embed", "inputs": ["cortex"] * 3}),
                 ("/rerank", {"model": "nan-rerank", "query": "a", "texts": ["cortex"]})]
    wrong = []

    def ask(index):
        for _ in range(5):
            status = sick.post(*sick_ones[index]).status_code
            if status != 500:
                wrong.append((sick_ones[index], status))
            together = answer_of(sick, *asked[index])
            if not is_close(together, alone[index]):
                wrong.append((together, alone[index]))

    threads = [threading.Thread(target=ask, args=(index % 4,)) for index in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def is_close(left, right):
    """Equal, numbers up to the order of their sums: what shares a step may change how its matrices are cut."""
    if isinstance(left, float):
        return math.isclose(left, right, rel_tol=1e-4, abs_tol=1e-5)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(is_close, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(is_close(left[key], right[key]) for key in left)
    return left == right


@pytest.mark.parametrize("path", ["/chat", V1_CHAT, V1_COMPLETIONS])
def test_a_worker_that_dies_in_the_middle_of_a_stream(start, slow, path):
    slow("decode", 50)  # its end is twenty seconds away
    server = start({"chat": TINY_LLAMA}, "--backend", "cpu", "--speculation", "off").wait_until_ready()
    body = {"max_tokens": 400, "stream": True, "logit_bias": {"2": -100}, "prompt": "hi", "messages": [WELL]}
    del body["messages" if path == V1_COMPLETIONS else "prompt"]
    reply = server.post(path, body, stream=True)
    lines = (line for line in reply.iter_lines() if line)
    began = [next(lines), next(lines)]
    os.kill(server.worker_pid(), signal.SIGKILL)
    *rest, last = lines
    events = began + rest
    assert reply.status_code == 200 and all(event.startswith(b"data: {") for event in [*events, last])
    assert error_of(json.loads(last[len(b"data: "):]))[0] == "engine_unavailable"
    wait_for(lambda: server.get("/readyz").status_code == 200, 60)
    assert server.post(path, {**body, "stream": False, "max_tokens": 2}).status_code == 200


# Nothing is noticed by silence alone.
NO_STALL = ("--stall-after-ms", 3_600_000)


@pytest.fixture
def struck(start, commit, tmp_path):
    """struck(phase) -> a server whose worker dies of SIGSEGV in that phase (or throws there, as `fault` says), once,
    when the file it returns is there."""

    def start_one(phase, *flags, ready=True, fault="segv_in"):
        trigger = tmp_path / "strike"
        commit(f"{fault}:{phase}@{trigger}")
        if not ready:
            trigger.touch()
        server = start({"chat": TINY_LLAMA, "embed": TINY_BERT}, "--backend", "cpu", *flags)
        return server.wait_until_ready() if ready else server, trigger

    return start_one


def assert_it_serves_again(server):
    server.wait_until_ready()
    health = server.get("/healthz").json()
    assert health["status"] == "ok" and health["engine"]["restarts"] == 1, health
    assert server.post("/chat", chat("chat", WELL)).status_code == 200
    assert server.post("/embed", {"inputs": "a"}).status_code == 200


def test_a_worker_that_dies_while_it_loads(struck):
    server, trigger = struck("loading", ready=False)
    wait_for(lambda: not trigger.exists(), 60, server.read_log)
    assert_it_serves_again(server)


@pytest.mark.parametrize(("phase", "path", "body"), [
    ("prompt", "/chat", chat("chat", WELL)), ("prompt", V1_COMPLETIONS, complete("chat", "hi")),
    ("encode", "/embed", {"inputs": "a"}), ("encode", V1_EMBEDDINGS, {"model": "embed", "input": "a"}),
])
def test_a_worker_that_dies_before_it_has_answered(struck, phase, path, body):
    server, trigger = struck(phase, *NO_STALL)
    trigger.touch()
    reply = server.post(path, body)
    assert reply.status_code == 503 and error_of(reply.json())[0] == "engine_unavailable", reply.text
    assert int(reply.headers["retry-after"]) >= 1
    assert_it_serves_again(server)


def test_a_worker_that_dies_while_it_decodes(struck, slow):
    slow("decode", 50)
    server, trigger = struck("decode", "--speculation", "off", *NO_STALL)
    reply = server.post("/chat", {**chat("chat", WELL, max_tokens=400, logit_bias={"2": -100}), "stream": True},
                        stream=True)
    lines = (line for line in reply.iter_lines() if line)
    next(lines)
    trigger.touch()
    *_, last = lines
    assert error_of(json.loads(last[len(b"data: "):]))[0] == "engine_unavailable"
    assert_it_serves_again(server)


def test_a_worker_that_dies_while_it_writes_to_disk(struck):
    server, trigger = struck("write")
    trigger.touch()
    reply = server.post("/chat", chat("chat", {"role": "user", "content": "hi " * 40}))
    assert reply.status_code in (200, 503)  # it is written behind the reply, or before
    wait_for(lambda: not trigger.exists(), 60, server.read_log)
    wait_for(lambda: server.get("/healthz").json()["engine"]["restarts"] == 1, 60, server.read_log)
    assert_it_serves_again(server)


@pytest.mark.parametrize(("phase", "path", "body"), [
    ("prompt", "/chat", chat("chat", WELL)), ("prompt", V1_COMPLETIONS, complete("chat", "hi")),
    ("decode", V1_CHAT, chat("chat", WELL)), ("encode", "/embed", {"inputs": "a"}),
    ("encode", "/rerank", {"query": "a", "texts": ["b", "c"]}),
])
def test_a_stage_that_throws_fails_its_request_and_no_other(struck, phase, path, body):
    server, trigger = struck(phase, "--embed-cache", 0, fault="throw_in")
    expected = answer_of(server, path, body)
    worker = server.worker_pid()
    trigger.touch()
    reply = server.post(path, body)
    assert reply.status_code == 500 and error_of(reply.json())[0] == "internal_error", reply.text
    assert not trigger.exists()
    assert answer_of(server, path, body) == expected
    health = server.get("/healthz").json()
    assert health["status"] == "ok" and health["engine"]["restarts"] == 0 and server.worker_pid() == worker, health


@pytest.mark.parametrize("fault", ["throw_in", "segv_in"])
def test_a_grammar_that_can_not_be_compiled_fails_its_request_and_no_other(struck, fault):
    server, trigger = struck("grammar", fault=fault)
    plain = chat("chat", WELL, max_tokens=8)
    expected = answer_of(server, V1_CHAT, plain)
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"],
              "additionalProperties": False}
    formatted = chat("chat", WELL, max_tokens=100, response_format={
        "type": "json_schema", "json_schema": {"name": "a", "schema": schema}})
    trigger.touch()
    reply = server.post(V1_CHAT, formatted)
    status, code = (500, "internal_error") if fault == "throw_in" else (503, "engine_unavailable")
    assert reply.status_code == status and error_of(reply.json())[0] == code, reply.text
    assert not trigger.exists()
    server.wait_until_ready()
    (choice,) = answer_of(server, V1_CHAT, formatted)
    assert choice["finish_reason"] == "stop" and json.loads(choice["message"]["content"])["a"] in (True, False), choice
    assert answer_of(server, V1_CHAT, plain) == expected
    assert server.get("/healthz").json()["engine"]["restarts"] == (0 if fault == "throw_in" else 1)


def test_blocks_that_can_not_be_written_fail_nothing(struck):
    server, trigger = struck("write", fault="throw_in")
    trigger.touch()
    long = chat("chat", {"role": "user", "content": "hi " * 40})
    expected = answer_of(server, "/chat", long)
    wait_for(lambda: not trigger.exists(), 60, server.read_log)
    assert answer_of(server, "/chat", long) == expected
    assert server.get("/healthz").json()["engine"]["restarts"] == 0


def test_a_request_that_aborts_the_engine_is_refused_after_its_second_kill(start, commit):
    commit(f"abort_on_token:{SICK_TOKEN}")
    server = start({"chat": TINY_LLAMA}, "--backend", "cpu", "--restart-delay-ms", 50).wait_until_ready()
    for deaths in (1, 2):
        reply = server.post("/chat", chat("chat", SICK))
        assert reply.status_code == 503 and error_of(reply.json())[0] == "engine_unavailable", reply.text
        wait_for(lambda: server.get("/healthz").json()["engine"]["restarts"] == deaths, 60, server.read_log)
        server.wait_until_ready()
    for _ in range(3):
        reply = server.post("/chat", chat("chat", SICK))
        assert reply.status_code == 422 and error_of(reply.json())[0] == "request_quarantined", reply.text
    assert server.post("/chat", chat("chat", WELL)).status_code == 200
    assert server.get("/healthz").json()["engine"]["restarts"] == 2
