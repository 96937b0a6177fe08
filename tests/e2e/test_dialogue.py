"""A dialogue's next turn finds in the KV cache what the turn before has computed: its prompt and its reply."""

import pytest

BLOCK_TOKENS = 16
# A reply that is sampled hot is put together from other tokens than its text is encoded as.
ASKED = {"temperature": 1.5, "seed": 11, "max_tokens": 96}
FIRST, SECOND = "Tell me of a lighthouse and its keeper.", "And what happened then?"


def tokens_of(usage):
    return usage["prompt_tokens"] + usage["completion_tokens"]


def test_with_a_conversation(real):
    asked = {**ASKED, "cache_salt": "conversation"}
    first = real.chat(FIRST, **asked).json()
    second = real.chat(SECOND, conversation_id=first["conversation_id"], **asked).json()
    assert second["usage"]["cached_tokens"] >= tokens_of(first["usage"]) - BLOCK_TOKENS
    third = real.chat("Go on.", conversation_id=first["conversation_id"], **asked).json()
    assert third["usage"]["cached_tokens"] >= tokens_of(second["usage"]) - BLOCK_TOKENS


@pytest.mark.parametrize("path", ["/chat", "/v1/chat/completions"])
def test_with_the_whole_history(real, path):
    messages = []
    spoken = 0
    for question in (FIRST, SECOND, "Go on."):
        messages.append({"role": "user", "content": question})
        body = {"model": "smollm2", "messages": messages, "cache_salt": path.replace("/", ""), **ASKED}
        reply = real.post(path, body).json()
        usage = reply["usage"]
        cached = usage["cached_tokens"] if path == "/chat" else usage["prompt_tokens_details"]["cached_tokens"]
        assert cached >= spoken - BLOCK_TOKENS
        spoken = tokens_of(usage)
        messages.append(reply["message"] if path == "/chat" else
                        {"role": "assistant", "content": reply["choices"][0]["message"]["content"]})
