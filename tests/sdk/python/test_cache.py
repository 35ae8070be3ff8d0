"""Repeated and simultaneous requests: one upstream call, the same answer in every form, and headers that say so."""

import asyncio

import openai
import pytest
from conftest import OTHER_KEY, RECORDED_URL, URL, ask_recorder, connect, sentence, user
from test_answers import TOOLS, joined

pytestmark = pytest.mark.gateway

STREAM = {"stream": True, "stream_options": {"include_usage": True}}


def whole(client, **asked):
    raw = client.chat.completions.with_raw_response.create(**asked)
    return raw.headers, raw.parse()


def streamed(client, **asked):
    raw = client.chat.completions.with_raw_response.create(**asked, **STREAM)
    return raw.headers, list(raw.parse())


def accumulated(events):
    """A stream's events as (content, finish reason, usage)."""
    return joined(events), events[-2].choices[0].finish_reason, events[-1].usage


def test_the_second_answer_is_a_hit_and_the_same_bytes(client, tag):
    raw = [client.chat.completions.with_raw_response.create(**sentence(tag)) for _ in range(2)]
    assert [answer.headers["x-cache"] for answer in raw] == ["MISS", "HIT"]
    assert raw[0].content == raw[1].content
    assert "hit" in raw[1].headers["cache-status"]
    assert int(raw[1].headers["age"]) >= 0


@pytest.mark.parametrize("first", ["whole", "streamed"])
def test_one_entry_serves_both_forms(client, tag, first):
    asked = sentence(tag)
    if first == "whole":
        (first_headers, answer), (then_headers, events) = whole(client, **asked), streamed(client, **asked)
    else:
        (first_headers, events), (then_headers, answer) = streamed(client, **asked), whole(client, **asked)
    assert (first_headers["x-cache"], then_headers["x-cache"]) == ("MISS", "HIT")
    choice = answer.choices[0]
    assert accumulated(events) == (choice.message.content, choice.finish_reason, answer.usage)
    assert {event.id for event in events} == {answer.id}
    assert then_headers["content-type"].split(";")[0] == (
        "text/event-stream" if first == "whole" else "application/json"
    )


@pytest.mark.parametrize("first", ["whole", "streamed"])
def test_tool_calls_survive_the_change_of_form(recorded, tag, first):
    asked = {"model": "steady", "messages": user(tag), "tools": TOOLS}
    forms = [whole, streamed] if first == "whole" else [streamed, whole]
    for form in forms:
        form(recorded, **asked)
    _, answer = whole(recorded, **asked)
    with recorded.chat.completions.stream(**asked) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert len(ask_recorder("ended", tag)) == 1
    call, same = answer.choices[0].message.tool_calls[0], final.choices[0].message.tool_calls[0]
    assert (call.id, call.function.name, call.function.arguments) == (
        same.id,
        same.function.name,
        same.function.arguments,
    )
    assert answer.choices[0].finish_reason == final.choices[0].finish_reason == "tool_calls"


def test_a_replayed_stream_is_event_for_event_the_first(recorded, tag):
    first, second = [streamed(recorded, model="steady", messages=user(tag)) for _ in range(2)]
    assert (first[0]["x-cache"], second[0]["x-cache"]) == ("MISS", "HIT")
    assert [event.to_json() for event in first[1]] == [event.to_json() for event in second[1]]


def test_usage_is_hidden_from_those_who_did_not_ask(recorded, tag):
    asked = {"model": "steady", "messages": user(tag)}
    streamed(recorded, **asked)
    events = list(recorded.chat.completions.create(**asked, stream=True))
    assert all(event.usage is None and event.choices for event in events)
    assert len(ask_recorder("ended", tag)) == 1


def test_order_and_white_space_do_not_matter(recorded, tag):
    spellings = [
        f'{{"model":"steady","temperature":1,"messages":[{{"role":"user","content":"{tag} ü"}}]}}',
        f'{{ "messages" : [ {{"content":"{tag} \\u00fc","role":"user"}} ],\n "temperature":1.0, "model":"steady" }}',
    ]
    for spelling in spellings:
        recorded.post(
            "/chat/completions",
            cast_to=object,
            content=spelling.encode(),
            options={"headers": {"content-type": "application/json"}},
        )
    assert len(ask_recorder("ended", tag)) == 1


def test_every_other_field_does(recorded, tag):
    for extra in (
        {},
        {"temperature": 0.5},
        {"seed": 1},
        {"extra_body": {"unknown": 1}},
        {"extra_body": {"unknown": 2}},
    ):
        whole(recorded, model="steady", messages=user(tag), **extra)
    assert len(ask_recorder("ended", tag)) == 5


def test_tenants_do_not_share(recorded, tag):
    whole(recorded, model="steady", messages=user(tag))
    with connect(RECORDED_URL, key=OTHER_KEY) as other:
        headers, _ = whole(other, model="steady", messages=user(tag))
    assert headers["x-cache"] == "MISS"
    assert len(ask_recorder("ended", tag)) == 2


def test_a_cut_answer_is_not_kept(client, tag):
    asked = {**sentence(tag), "max_tokens": 2, "stop": None}
    answers = [whole(client, **asked) for _ in range(2)]
    assert [answer.choices[0].finish_reason for _, answer in answers] == ["length", "length"]
    assert [headers["x-cache"] for headers, _ in answers] == ["MISS", "MISS"]


def test_a_revoked_or_unknown_key_gets_no_hit(client, tag):
    whole(client, **sentence(tag))
    with connect(URL, key="unknown") as stranger, pytest.raises(openai.AuthenticationError):
        whole(stranger, **sentence(tag))


def test_embeddings_are_kept(embedder, tag):
    asked = {"model": "smollm2-embed", "input": tag}
    raw = [embedder.embeddings.with_raw_response.create(**asked) for _ in range(2)]
    assert [answer.headers["x-cache"] for answer in raw] == ["MISS", "HIT"]
    assert raw[0].content == raw[1].content


async def test_fifty_identical_streams_make_one_call(async_recorded, tag):
    async def read():
        stream = await async_recorded.chat.completions.create(model="steady", messages=user(tag), **STREAM)
        return [event.to_json() async for event in stream]

    answers = await asyncio.gather(*(read() for _ in range(50)))
    assert all(answer == answers[0] for answer in answers)
    assert len(await asyncio.to_thread(ask_recorder, "ended", tag)) == 1


async def test_fifty_identical_streams_of_the_real_model_agree(async_client, tag):
    """At this temperature two calls would differ, so that equal answers show one call."""
    asked = {**sentence(tag), "temperature": 1.5}

    async def read():
        stream = await async_client.chat.completions.create(**asked, stream=True)
        return joined([event async for event in stream])

    answers = await asyncio.gather(*(read() for _ in range(50)))
    assert answers[0] and len(set(answers)) == 1


async def test_both_forms_at_once_make_one_call(async_recorded, tag):
    asked = {"model": "steady", "messages": user(tag)}

    async def read_stream():
        stream = await async_recorded.chat.completions.create(**asked, **STREAM)
        return accumulated([event async for event in stream])

    async def read_whole():
        answer = await async_recorded.chat.completions.create(**asked)
        return answer.choices[0].message.content, answer.choices[0].finish_reason, answer.usage

    answers = await asyncio.gather(*(read() for _ in range(10) for read in (read_stream, read_whole)))
    assert all(answer == answers[0] for answer in answers)
    assert len(await asyncio.to_thread(ask_recorder, "ended", tag)) == 1
