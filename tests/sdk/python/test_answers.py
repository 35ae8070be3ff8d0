"""What every OpenAI-compatible server must do, through the SDK: plain, streaming, async, tools, embeddings, models."""

import json

import pytest
from conftest import ask_recorder, sentence, user

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather of a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


def joined(events):
    return "".join(event.choices[0].delta.content or "" for event in events if event.choices)


def test_plain(client, tag):
    answer = client.chat.completions.create(**sentence(tag))
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


def test_stream(client, tag):
    events = list(client.chat.completions.create(**sentence(tag), stream=True))
    assert joined(events)
    assert [event.choices[0].finish_reason for event in events if event.choices][-1] == "stop"
    assert all(event.object == "chat.completion.chunk" for event in events)
    assert len({event.id for event in events}) == 1


def test_stream_has_usage_only_on_request(client, tag):
    without = list(client.chat.completions.create(**sentence(tag), stream=True))
    assert all(event.usage is None for event in without)
    assert all(event.choices for event in without)
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    events = list(client.chat.completions.create(**sentence(tag + "x"), **asked))
    assert events[-1].choices == []
    assert events[-1].usage.total_tokens == events[-1].usage.prompt_tokens + events[-1].usage.completion_tokens > 0
    assert all(event.usage is None for event in events[:-1])


async def test_async_plain_and_stream(async_client, tag):
    answer = await async_client.chat.completions.create(**sentence(tag))
    assert answer.choices[0].message.content
    stream = await async_client.chat.completions.create(**sentence(tag + "x"), stream=True)
    assert joined([event async for event in stream])


def test_stream_helper_accumulates(recorded, tag):
    with recorded.chat.completions.stream(model="steady", messages=user(tag)) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert final.choices[0].finish_reason == "stop"
    assert final.choices[0].message.content.endswith("– “äöü” ✓")


def test_tool_call(recorded, tag):
    answer = recorded.chat.completions.create(model="steady", messages=user(tag), tools=TOOLS)
    call = answer.choices[0].message.tool_calls[0]
    assert (call.type, call.function.name) == ("function", "get_weather")
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    assert answer.choices[0].finish_reason == "tool_calls"


def test_tool_call_streamed(recorded, tag):
    with recorded.chat.completions.stream(model="steady", messages=user(tag), tools=TOOLS) as stream:
        for _ in stream:
            pass
        choice = stream.get_final_completion().choices[0]
    assert json.loads(choice.message.tool_calls[0].function.arguments) == {"city": "Paris"}
    assert choice.finish_reason == "tool_calls"


def test_legacy_completion(client, tag):
    asked = {"model": "smollm2", "prompt": f"{tag[:8]} once upon", "max_tokens": 5, "temperature": 0}
    answer = client.completions.create(**asked)
    assert answer.object == "text_completion"
    assert answer.choices[0].text
    events = list(client.completions.create(**asked, stream=True))
    assert "".join(event.choices[0].text for event in events if event.choices) == answer.choices[0].text


def test_embeddings(embedder, tag):
    one = embedder.embeddings.create(model="smollm2-embed", input=f"a ring {tag}")
    assert len(one.data[0].embedding) > 100
    plain = embedder.embeddings.create(model="smollm2-embed", input=[f"a ring {tag}", "fire"], encoding_format="float")
    assert [item.index for item in plain.data] == [0, 1]
    # Nearly the same: quantised weights give slightly other sums in a batch of two.
    assert sum(left * right for left, right in zip(plain.data[0].embedding, one.data[0].embedding)) > 0.98
    assert one.usage.prompt_tokens > 0


def test_models(client):
    assert "smollm2" in {model.id for model in client.models.list()}


@pytest.mark.gateway
def test_models_are_those_of_the_configuration(client):
    listed = {model.id for model in client.models.list()}
    assert {"smollm2", "smollm2-embed", "steady"} <= listed
    assert client.models.retrieve("steady").id == "steady"


def test_unknown_members_reach_the_backend_as_they_were(recorded, tag):
    odd = {"a_new_option": {"deep": [1, 2.50, "ü", None]}, "seed": 12345678901234567890}
    recorded.chat.completions.create(model="steady", messages=user(tag), extra_body=odd)
    (record,) = ask_recorder("ended", tag)
    body = json.loads(record["body"])
    assert {name: body[name] for name in odd} == odd


@pytest.mark.gateway
def test_the_clients_credential_stays_here(recorded, tag):
    recorded.chat.completions.create(model="steady", messages=user(tag))
    (record,) = ask_recorder("ended", tag)
    headers = {name for name, _ in record["headers"]}
    assert "authorization" not in headers
    assert "x-request-id" in headers


def test_a_large_prompt(recorded, tag):
    words = f"{tag} " + "many words with “quotes” and \\ slashes, " * 20_000
    answer = recorded.chat.completions.create(model="steady", messages=user(words))
    assert answer.choices[0].finish_reason == "stop"
    (record,) = ask_recorder("ended", tag)
    assert json.loads(record["body"])["messages"][0]["content"] == words


def test_a_server_that_closes_kept_connections_fails_nobody(client, tag):
    """llama.cpp closes a connection after 100 requests; a closed one must never reach the client as an error."""
    for turn in range(110):
        answer = client.completions.create(model="smollm2", prompt=f"{tag[:8]} {turn}", max_tokens=1)
        assert answer.choices[0].finish_reason == "length"


@pytest.mark.gateway
def test_other_paths_pass_to_the_models_backend(recorded, tag):
    answer = recorded.post("/some/new/thing", cast_to=object, body={"model": "steady", "messages": user(tag)})
    assert answer["choices"][0]["finish_reason"] == "stop"
    (record,) = ask_recorder("ended", tag)
    assert record["path"] == "/v1/some/new/thing"
