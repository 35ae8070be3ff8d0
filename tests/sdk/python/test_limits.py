"""Limits of a tenant: what the SDK makes of them, and that it comes back when it is told to."""

import os

import openai
import pytest
from conftest import RECORDED_URL, user

pytestmark = pytest.mark.gateway


@pytest.fixture
def waits(monkeypatch):
    """How long the SDK would have waited between its attempts, in seconds. It does not."""
    waits = []
    monkeypatch.setattr(openai._base_client.time, "sleep", waits.append)
    return waits


def limited(tenant, retries):
    key = os.environ[f"RINGWAY_KEY_{tenant.upper()}"]
    return openai.OpenAI(base_url=f"{RECORDED_URL}/v1", api_key=key, max_retries=retries)


def test_requests_a_minute(waits, tag):
    with limited("requests", 0) as client:
        for left in (1, 0):
            raw = client.chat.completions.with_raw_response.create(model="steady", messages=user(f"{tag} {left}"))
            assert raw.parse().choices[0].message.content
            fields = {name: raw.headers[f"x-ratelimit-{name}-requests"] for name in ("limit", "remaining", "reset")}
            assert fields == {"limit": "2", "remaining": str(left), "reset": "1m2s"}
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="steady", messages=user(tag))
        assert (caught.value.code, caught.value.type) == ("requests_per_minute_exceeded", "requests")
    told = []
    with limited("requests", 2) as client:
        client._client.event_hooks["response"].append(lambda answer: told.append(answer.headers["retry-after-ms"]))
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model="steady", messages=user(tag))
    # It waited after each answer but the last, and for as long as that said.
    assert len(told) == 3
    assert waits == [int(ms) / 1000 for ms in told[:2]]
    assert all(0 < wait <= 60 for wait in waits)


def test_more_than_a_limit_is_not_asked_twice(waits, tag):
    with limited("tokens", 2) as client, pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="steady", messages=user(tag), max_tokens=5_000)
    assert (caught.value.code, waits) == ("tokens_per_minute_exceeded", [])
    assert caught.value.response.headers["x-ratelimit-limit-tokens"] == "1000"
