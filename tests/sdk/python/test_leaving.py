"""Clients that leave or lose patience. The recorder behind the gateway tells how its side of the exchange ended."""

import asyncio

import openai
import pytest
from conftest import TRANSPORTS, ask_recorder, user


@pytest.fixture(params=["http1", *(name for name, how in TRANSPORTS.items() if not how["http2"])])
def transport(request):
    """By HTTP/1.1: httpx does not reset a stream of HTTP/2 that is closed before its end."""
    return request.param


def ended(tag):
    return [record["ended"] for record in ask_recorder("ended", tag)]


def test_a_closed_stream_ends_the_upstream_request(recorded, tag):
    stream = recorded.chat.completions.create(model="endless", messages=user(tag), stream=True)
    for _ in range(5):
        next(stream)
    stream.close()
    assert ended(tag) == ["left"]


async def test_a_cancelled_task_ends_the_upstream_request(async_recorded, tag):
    started = asyncio.Event()

    async def read():
        async for _ in await async_recorded.chat.completions.create(model="endless", messages=user(tag), stream=True):
            started.set()

    task = asyncio.create_task(read())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(ended, tag) == ["left"]


@pytest.mark.parametrize("form", ["whole", "streamed"])
def test_a_timeout_is_the_sdks_own_and_ends_the_upstream_request(recorded, tag, form):
    with pytest.raises(openai.APITimeoutError):
        recorded.chat.completions.create(model="silent", messages=user(tag), stream=form == "streamed", timeout=1)
    assert ended(tag) == ["left"]


def test_the_connection_is_of_use_after_a_cancel(recorded, tag):
    for turn in range(3):
        stream = recorded.chat.completions.create(model="endless", messages=user(f"{tag} {turn}"), stream=True)
        next(stream)
        stream.close()
        answer = recorded.chat.completions.create(model="steady", messages=user(f"{tag} {turn}"))
        assert answer.choices[0].finish_reason == "stop"


@pytest.mark.gateway
def test_a_stream_that_breaks_ends_with_an_error_and_never_looks_complete(recorded, tag):
    finishes = []
    with pytest.raises(openai.APIError) as caught:
        for event in recorded.chat.completions.create(model="broken", messages=user(tag), stream=True):
            finishes += [choice.finish_reason for choice in event.choices if choice.finish_reason]
    assert caught.value.code == "backend_truncated"
    assert finishes == []


@pytest.mark.gateway
def test_followers_outlive_their_leader(recorded, tag):
    """The leader leaves in the middle; another client that asked the same reads to the end, from one upstream call."""
    asked = {"model": "steady", "messages": user(tag), "stream": True}
    leader = recorded.chat.completions.create(**asked)
    next(leader)
    follower = recorded.chat.completions.create(**asked)
    next(follower)
    leader.close()
    rest = list(follower)
    assert rest[-1].choices[0].finish_reason == "stop"
    assert ended(tag) == ["answered"]
