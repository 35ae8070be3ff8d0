"""Each SDK against a model whose backend is asked by the other API: llama.cpp speaks both, and does not know of the gateway."""

import anthropic
import openai
import pytest
from conftest import KEY, PATIENCE_SECONDS, URL, sentence, user

pytestmark = pytest.mark.gateway

# What the model is called that is asked by this API.
BY_OPENAI, BY_ANTHROPIC = "smollm2-openai", "smollm2-anthropic"


@pytest.fixture
def claude():
    with anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0, timeout=PATIENCE_SECONDS) as client:
        yield client


def message(tag):
    """As `sentence`, for the other SDK."""
    asked = sentence(tag)
    asked["stop_sequences"] = asked.pop("stop")
    # The API has it, this SDK does not.
    asked["extra_body"] = {"temperature": asked.pop("temperature")}
    return asked | {"model": BY_OPENAI, "system": "You are polite."}


def test_a_message_from_a_server_of_openais_api(claude, tag):
    answers = [claude.messages.with_raw_response.create(**message(tag)) for _ in range(2)]
    assert [answer.headers["x-cache"] for answer in answers] == ["MISS", "HIT"]
    first, again = (answer.parse() for answer in answers)
    assert first == again
    assert (first.type, first.role, first.content[0].type) == ("message", "assistant", "text")
    assert first.content[0].text and first.stop_reason in ("end_turn", "stop_sequence")
    assert first.usage.input_tokens > 0 and first.usage.output_tokens > 0


def test_a_stream_from_a_server_of_openais_api(claude, tag):
    with claude.messages.stream(**message(tag)) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text and text == final.content[0].text
    assert final.stop_reason in ("end_turn", "stop_sequence")
    assert final.usage.output_tokens > 0


def test_a_conversation_with_tools_for_a_server_of_openais_api(claude, tag):
    tool = {"name": "weather", "description": "Weather of a city", "input_schema": {"type": "object", "properties": {}}}
    call = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "rain"}]}
    turns = [
        *user(f"What is the weather in Oslo? {tag[:8]}"),
        {"role": "assistant", "content": [{"type": "text", "text": "I look."}, call]},
        {"role": "user", "content": [result, {"type": "text", "text": "In one word?"}]},
    ]
    answer = claude.messages.create(model=BY_OPENAI, max_tokens=20, tools=[tool], messages=turns)
    assert answer.content and answer.stop_reason


def test_errors_of_the_other_api_raise_what_the_sdk_has_for_them(claude, tag):
    long = message(tag) | {"messages": user(f"{tag} " * 5000)}
    with pytest.raises(anthropic.BadRequestError) as caught:
        claude.messages.create(**long)
    assert caught.value.body["type"] == "error"
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.count_tokens(model=BY_OPENAI, messages=user(tag))


def test_a_chat_completion_from_a_server_of_anthropics_api(client, tag):
    asked = sentence(tag) | {"model": BY_ANTHROPIC}
    answers = [client.chat.completions.with_raw_response.create(**asked) for _ in range(2)]
    assert [answer.headers["x-cache"] for answer in answers] == ["MISS", "HIT"]
    first, again = (answer.parse() for answer in answers)
    assert first == again and first.object == "chat.completion"
    assert first.choices[0].message.content and first.choices[0].finish_reason == "stop"
    assert first.usage.total_tokens == first.usage.prompt_tokens + first.usage.completion_tokens > 0


def test_a_stream_from_a_server_of_anthropics_api(client, tag):
    asked = sentence(tag) | {"model": BY_ANTHROPIC, "stream": True}
    events = list(client.chat.completions.create(**asked, stream_options={"include_usage": True}))
    text = "".join(event.choices[0].delta.content or "" for event in events if event.choices)
    assert text and [event.choices[0].finish_reason for event in events if event.choices][-1] == "stop"
    assert events[-1].usage.completion_tokens > 0
    assert all(event.usage is None for event in events[:-1])


def test_what_anthropics_api_cannot_do_is_said(client, tag):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**sentence(tag) | {"model": BY_ANTHROPIC, "n": 2})
    assert caught.value.code == "untranslatable" and caught.value.param == "n"
