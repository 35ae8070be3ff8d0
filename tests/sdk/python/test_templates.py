"""Prompt templates of the gateway, asked for as the SDKs' users ask for those of their providers."""

import anthropic
import openai
import pytest
from conftest import KEY, PATIENCE_SECONDS, URL, sentence, user

pytestmark = pytest.mark.gateway


def prompt(tag):
    return {"extra_body": {"prompt": {"id": "greeting", "version": "2", "variables": {"name": tag[:8]}}}}


def test_a_template_is_the_same_as_its_messages_written_out(client, tag):
    written = {"role": "system", "content": "You are polite."}, *user(f"Say hello to {tag[:8]}.")
    asked = sentence(tag)
    first = client.chat.completions.with_raw_response.create(**asked | {"messages": []} | prompt(tag))
    again = client.chat.completions.with_raw_response.create(**asked | {"messages": written})
    assert [answer.headers["x-cache"] for answer in (first, again)] == ["MISS", "HIT"]
    assert first.parse().choices[0].message.content == again.parse().choices[0].message.content


def test_a_variable_that_is_missing_is_named(client):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="smollm2", messages=[], extra_body={"prompt": {"id": "greeting"}})
    assert (refused.value.code, refused.value.param) == ("bad_prompt", "prompt.variables")
    assert "'name'" in refused.value.message


def test_anthropics_sdk_asks_for_one(tag):
    with anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0, timeout=PATIENCE_SECONDS) as claude:
        answer = claude.messages.create(model="smollm2-openai", max_tokens=20, messages=[], **prompt(tag))
    assert answer.content[0].text and answer.usage.input_tokens > 0
