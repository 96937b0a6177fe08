"""Tools with OpenAI's own client against the real server with the default models."""

import json

import jsonschema
import openai
import pytest

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 40},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
    },
    "required": ["city", "unit"],
    "additionalProperties": False,
}
TIME = {"type": "object", "properties": {"zone": {"type": "string", "pattern": "^[A-Z][a-z]{2,12}/[A-Z][a-z]{2,12}$"}},
        "required": ["zone"], "additionalProperties": False}
SCHEMAS = {"get_weather": WEATHER, "get_time": TIME}


def tool(name, **more):
    return {"type": "function",
            "function": {"name": name, "description": f"Answers {name}.", "parameters": SCHEMAS[name], **more}}


TOOLS = [tool("get_weather"), tool("get_time")]
QUESTION = [{"role": "user", "content": "What is the weather in Paris, in celsius, for the next 3 days?"}]


@pytest.fixture(scope="module")
def client(real):
    with openai.OpenAI(base_url=f"{real.url}/v1", api_key="none", max_retries=0, timeout=120) as client:
        yield client


def ask(client, **fields):
    fields = {"messages": QUESTION, "tools": TOOLS, "temperature": 0, "max_tokens": 200, **fields}
    return client.chat.completions.create(model="smollm2", **fields)


def check(calls):
    for call in calls:
        assert call.type == "function"
        assert call.id.startswith("call_") and len(call.id) == len("call_") + 24
        jsonschema.validate(json.loads(call.function.arguments), SCHEMAS[call.function.name])


@pytest.mark.parametrize("choice", [
    "required",
    {"type": "function", "function": {"name": "get_time"}},
    {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [
        {"type": "function", "function": {"name": "get_weather"}}]}},
], ids=["required", "named", "allowed"])
@pytest.mark.parametrize("temperature", [0, 1])
def test_a_forced_call_keeps_to_its_schema(client, choice, temperature):
    reply = ask(client, tool_choice=choice, temperature=temperature, seed=3, parallel_tool_calls=False)
    message = reply.choices[0].message
    assert reply.choices[0].finish_reason == "tool_calls", message
    assert message.content is None
    assert len(message.tool_calls) == 1
    check(message.tool_calls)
    if choice != "required":
        name = "get_time" if choice["type"] == "function" else "get_weather"
        assert message.tool_calls[0].function.name == name


def test_streamed_deltas_make_the_same_call(client):
    whole = ask(client, tool_choice="required", parallel_tool_calls=False).choices[0].message.tool_calls
    chunks = list(ask(client, tool_choice="required", parallel_tool_calls=False, stream=True))
    deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert deltas[0].id.startswith("call_") and deltas[0].type == "function"
    assert deltas[0].function.name == whole[0].function.name and deltas[0].function.arguments == ""
    assert all(delta.index == 0 for delta in deltas)
    assert all(delta.id is None and delta.function.name is None for delta in deltas[1:])
    assert "".join(delta.function.arguments for delta in deltas) == whole[0].function.arguments
    assert len(deltas) > 3  # as it is made
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert not any(chunk.choices[0].delta.content for chunk in chunks)


def test_the_sdk_assembles_a_stream(client):
    with client.chat.completions.stream(
        model="smollm2", messages=QUESTION, tools=[tool("get_weather", strict=True)], tool_choice="required",
        temperature=0, max_tokens=200, parallel_tool_calls=False,
    ) as stream:
        message = stream.get_final_completion().choices[0].message
    check(message.tool_calls)


def test_a_strict_tool_under_auto(client):
    reply = ask(client, tools=[tool("get_weather", strict=True)], n=3, temperature=0.8, seed=1)
    for choice in reply.choices:
        if choice.finish_reason == "tool_calls":
            check(choice.message.tool_calls)
        else:
            assert choice.message.tool_calls is None and "<tool_call>" not in choice.message.content


def test_none_never_calls(client):
    reply = ask(client, tool_choice="none", max_tokens=40)
    assert reply.choices[0].message.tool_calls is None
    assert reply.choices[0].message.content


def test_auto_is_a_text_or_a_call(client):
    message = ask(client).choices[0].message
    assert message.content or message.tool_calls
    for call in message.tool_calls or []:
        assert isinstance(json.loads(call.function.arguments), dict)


def test_several_texts_have_calls_of_their_own(client):
    reply = ask(client, tool_choice="required", n=3, temperature=1, seed=5, parallel_tool_calls=False, logprobs=True)
    ids = [choice.message.tool_calls[0].id for choice in reply.choices]
    assert len(set(ids)) == 3
    for choice in reply.choices:
        check(choice.message.tool_calls)
        assert "".join(token.token for token in choice.logprobs.content).startswith("<tool_call>")


def test_results_go_back_and_hit_what_was_computed(client):
    first = ask(client, tool_choice="required", parallel_tool_calls=False)
    call = first.choices[0].message
    messages = [*QUESTION, call.model_dump(exclude_none=True),
                {"role": "tool", "tool_call_id": call.tool_calls[0].id, "content": "Sunny, 24 degrees."}]
    second = ask(client, messages=messages, max_tokens=30)
    assert second.choices[0].message.content
    computed = first.usage.prompt_tokens + first.usage.completion_tokens
    assert second.usage.prompt_tokens_details.cached_tokens >= computed - 32


def test_a_stored_conversation_goes_on_with_results(real):
    body = {"messages": QUESTION, "tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False,
            "temperature": 0, "max_tokens": 200}
    first = real.post("/chat", body).json()
    call = first["message"]["tool_calls"][0]
    result = {"role": "tool", "tool_call_id": call["id"], "content": "Sunny, 24 degrees."}
    second = real.post("/chat", {"conversation_id": first["conversation_id"], "messages": [result], "tools": TOOLS,
                                 "temperature": 0, "max_tokens": 30}).json()
    assert second["usage"]["cached_tokens"] >= first["usage"]["total_tokens"] - 32
    stored = real.get(f"/chat/{first['conversation_id']}").json()["messages"]
    assert [message["role"] for message in stored] == ["user", "assistant", "tool", "assistant"]
    assert stored[1]["tool_calls"] == [call] and stored[1]["content"] is None
    assert stored[2]["tool_call_id"] == call["id"]


def test_a_schema_that_cannot_be_kept_to_is_refused(client):
    bad = {"type": "function", "function": {"name": "f", "parameters": {
        "type": "object", "properties": {"a": {"not": {"type": "string"}}}}}}
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as refusal:
            ask(client, tools=[*TOOLS, bad], tool_choice="required", stream=stream)
        assert refusal.value.code == "unsupported_schema"
        assert refusal.value.param == "tools[2].function.parameters"
