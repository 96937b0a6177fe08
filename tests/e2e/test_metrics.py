"""What monitors and gateways read: /metrics, /healthz, and what a request tells of the KV cache."""

import os
import re
import signal

import pytest
from conftest import TINY_BERT, TINY_LLAMA, wait_for

MODELS = {"tiny-chat": TINY_LLAMA, "tiny-embed": TINY_BERT}
LINE = re.compile(r'([a-z_:0-9]+)(?:\{((?:[a-z_]+="[^"\\]*",?)*)\})? (\S+)')
MESSAGES = [{"role": "user", "content": "Tell me about the rivers of Europe, one after the other, and then the lakes."}]


def read_metrics(server):
    """{name: [(labels, value)]}; every line must be Prometheus text, and every family have one type."""
    reply = server.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    series, types = {}, {}
    for line in reply.text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types, name
            types[name] = kind
        elif not line.startswith("# HELP "):
            match = LINE.fullmatch(line)
            assert match, line
            labels = dict(re.findall(r'([a-z_]+)="([^"]*)"', match.group(2) or ""))
            series.setdefault(match.group(1), []).append((labels, float(match.group(3))))
    for name in series:
        family = re.sub(r"_(bucket|sum|count)$", "", name)
        assert name in types or types[family] == "histogram", name
    return series, types


def value(server, name, **labels):
    found = [number for has, number in read_metrics(server)[0].get(name, []) if labels.items() <= has.items()]
    assert len(found) == 1, (name, labels, found)
    return found[0]


def answered(server, *endpoints):
    counts = read_metrics(server)[0].get("cortex_requests_total", [])
    return sum(count for labels, count in counts if labels["endpoint"] in endpoints)


def test_the_page_has_what_the_document_says(start):
    server = start(MODELS, "--backend", "cpu").wait_until_ready()
    assert server.post("/chat", {"messages": MESSAGES, "max_tokens": 4, "temperature": 0}).status_code == 200
    assert server.post("/embed", {"inputs": "a"}).status_code == 200
    assert server.post("/rerank", {"query": "a", "texts": ["a", "b"]}).status_code == 200
    assert server.post("/embed", {"inputs": 7}).status_code == 422
    assert server.get("/nowhere").status_code == 404
    # A request is counted once its answer has gone.
    wait_for(lambda: answered(server, "/chat", "/embed", "/rerank", "-") == 5, 60)
    series, types = read_metrics(server)
    for name in ["requests", "errors", "prompt_tokens", "generation_tokens", "encode_tokens", "rerank_pairs", "finished",
                 "prefix_query_tokens", "prefix_hit_tokens", "preemptions", "disk_read_bytes", "disk_written_bytes"]:
        assert types[f"cortex_{name}_total"] == "counter"
    for name in ["requests_running", "requests_waiting", "kv_blocks", "kv_usage_ratio", "disk_used_bytes"]:
        assert types[f"cortex_{name}"] == "gauge"
    for name in ["request_seconds", "generation_seconds", "ttft_seconds", "inter_token_seconds", "queue_seconds",
                 "step_seconds", "step_tokens"]:
        assert types[f"cortex_{name}"] == "histogram"
    assert {labels["state"] for labels, _ in series["cortex_kv_blocks"]} == {"used", "cached", "free"}
    assert not any(name.startswith("vllm:") for name in series)
    for name in ["running", "waiting"]:
        assert {labels["lane"] for labels, _ in series[f"cortex_requests_{name}"]} == {"interactive", "encode"}
    for endpoint, model in [("/chat", "tiny-chat"), ("/embed", "tiny-embed"), ("/rerank", "tiny-embed")]:
        assert value(server, "cortex_requests_total", endpoint=endpoint, model=model, code="200") == 1
    assert value(server, "cortex_errors_total", code="invalid_type") == value(
        server, "cortex_errors_total", code="not_found") == 1
    assert {labels["lane"] for labels, _ in series["cortex_queue_seconds_count"]} == {"interactive", "encode"}
    assert re.fullmatch("[0-9a-f]{12}|unknown", series["cortex_build_info"][0][0]["commit"])


def test_steps_are_counted_by_what_they_carry(start):
    server = start(MODELS, "--backend", "cpu", "--speculation", "off", "--embed-cache", 0).wait_until_ready()
    usage = server.post("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 9, "temperature": 0}).json()["usage"]
    texts = {"model": "tiny-embed", "input": ["a", "b c d e f g", "h"]}
    encoded = server.post("/v1/embeddings", texts).json()["usage"]["prompt_tokens"]

    def count(name, kind):
        return value(server, f"cortex_step_{name}", kind=kind)

    # One step a token but the first, which the prompt's last step samples; a heartbeat brings the counts.
    wait_for(lambda: count("tokens_sum", "encode") == encoded, 60, server.read_log)
    assert count("tokens_sum", "prompt") == usage["prompt_tokens"]
    assert 1 <= count("tokens_count", "prompt") <= usage["prompt_tokens"]
    assert count("tokens_count", "decode") == count("tokens_sum", "decode") == usage["completion_tokens"] - 1
    assert value(server, "cortex_step_tokens_bucket", kind="decode", le="1") == usage["completion_tokens"] - 1
    assert count("tokens_count", "mixed") == 0 and count("tokens_count", "encode") >= 1
    for kind in ["prompt", "decode", "mixed", "encode"]:
        assert count("seconds_count", kind) == count("tokens_count", kind), kind
        assert value(server, "cortex_step_seconds_bucket", kind=kind, le="+Inf") == count("seconds_count", kind), kind
        assert (count("seconds_sum", kind) > 0) == (count("seconds_count", kind) > 0), kind

    before = count("tokens_sum", "encode")
    os.kill(server.worker_pid(), signal.SIGKILL)
    wait_for(lambda: server.get("/healthz").json()["engine"]["restarts"] == 1, 60)
    server.wait_until_ready()
    assert count("tokens_sum", "encode") == before
    assert server.post("/v1/embeddings", texts).status_code == 200
    wait_for(lambda: count("tokens_sum", "encode") == 2 * before, 60, server.read_log)


def test_vllms_names_are_one_series_each(start):
    server = start(MODELS, "--backend", "cpu", "--metrics-compat", "vllm").wait_until_ready()
    assert server.post("/chat", {"messages": MESSAGES, "max_tokens": 4, "temperature": 0}).status_code == 200
    wait_for(lambda: value(server, "vllm:prefix_cache_queries_total") > 0, 60)
    series, types = read_metrics(server)
    wanted = {"vllm:" + name: kind for kind, names in {
        "gauge": ["num_requests_waiting", "num_requests_running", "kv_cache_usage_perc", "cache_config_info",
                  "lora_requests_info"],
        "counter": ["prompt_tokens_total", "generation_tokens_total", "num_preemptions_total",
                    "prefix_cache_queries_total", "prefix_cache_hits_total", "request_success_total"],
        "histogram": ["time_to_first_token_seconds", "inter_token_latency_seconds", "e2e_request_latency_seconds"],
    }.items() for name in names}
    assert {name: kind for name, kind in types.items() if name.startswith("vllm:")} == wanted
    for name, found in series.items():
        if not name.startswith("vllm:"):
            continue
        assert all(labels["model_name"] == "tiny-chat" and labels["engine"] == "0" for labels, _ in found), found
        assert len(found) == 1 or name.endswith("_bucket") or name == "vllm:request_success_total", found
    labels, number = series["vllm:cache_config_info"][0]
    assert number == 1 and int(labels["block_size"]) == 16 and int(labels["num_gpu_blocks"]) > 0


def test_counters_do_not_fall_when_the_worker_is_replaced(start):
    server = start({"tiny-chat": TINY_LLAMA}, "--backend", "cpu").wait_until_ready()
    assert server.post("/chat", {"messages": MESSAGES, "max_tokens": 2}).status_code == 200
    wait_for(lambda: value(server, "cortex_prefix_query_tokens_total", model="tiny-chat") > 0, 60)
    before = value(server, "cortex_prefix_query_tokens_total", model="tiny-chat")
    os.kill(server.worker_pid(), signal.SIGKILL)
    wait_for(lambda: server.get("/healthz").json()["engine"]["restarts"] == 1, 60)
    server.wait_until_ready()
    assert value(server, "cortex_prefix_query_tokens_total", model="tiny-chat") == before
    assert server.post("/chat", {"messages": MESSAGES, "max_tokens": 2}).status_code == 200
    wait_for(lambda: value(server, "cortex_prefix_query_tokens_total", model="tiny-chat") == 2 * before, 60)


@pytest.mark.parametrize("path, prompt", [("/chat", {"messages": MESSAGES, "store": False}),
                                          ("/v1/chat/completions", {"messages": MESSAGES}),
                                          ("/v1/completions", {"prompt": MESSAGES[0]["content"] * 2})])
def test_a_request_can_ask_what_the_cache_had(start, path, prompt):
    server = start({"tiny-chat": TINY_LLAMA}, "--backend", "cpu").wait_until_ready()
    body = {**prompt, "max_tokens": 2, "explain": True}
    first = server.post(path, body).json()["timings"]["cache"]
    assert first["hit_tokens"] == 0 and first["tier"] == "none" and first["miss"] == "first_use"
    again = server.post(path, body).json()
    cache = again["timings"]["cache"]
    assert cache["hit_tokens"] >= 16 and cache["tier"] == "ram", cache
    usage = again["usage"]
    assert usage.get("cached_tokens", usage.get("prompt_tokens_details", {}).get("cached_tokens")) == cache["hit_tokens"]
    plain = server.post(path, {**prompt, "max_tokens": 2}).json()
    assert "cache" not in plain["timings"]
    assert server.post(path, {**prompt, "explain": 1}).status_code == (422 if path == "/chat" else 400)


@pytest.mark.parametrize("flags", [["--kv-disk", 0], ["--kv-dir", ""]])
def test_the_disk_can_be_left_alone(start, flags):
    server = start({"tiny-chat": TINY_LLAMA}, "--backend", "cpu", *flags).wait_until_ready()
    health = server.get("/healthz").json()
    assert health["disk"]["state"] == "off" and health["warnings"] == []
    assert not (server.directory / "kv").exists()


def test_two_servers_on_one_state_directory_both_start(start, tmp_path):
    servers = [start({"tiny-chat": TINY_LLAMA}, "--backend", "cpu", state_dir=tmp_path).wait_until_ready()
               for _ in range(2)]
    for server in servers:
        assert server.post("/chat", {"messages": MESSAGES, "max_tokens": 2}).status_code == 200
        assert server.get("/healthz").json()["status"] == "ok"
