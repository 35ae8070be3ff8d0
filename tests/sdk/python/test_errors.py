"""Each failure must arrive as the SDK's own exception class, with a request id and OpenAI's error members."""

import openai
import pytest
from conftest import OTHER_KEY, RECORDED_URL, URL, ask_recorder, connect, user


def test_what_the_backend_refuses(recorded, tag):
    with pytest.raises(openai.BadRequestError) as caught:
        recorded.chat.completions.create(model="refusing", messages=user(tag), temperature=9)
    assert (caught.value.code, caught.value.param) == ("odd", "temperature")


def test_real_servers_refusals_pass(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="smollm2", messages=user("x"), extra_body={"temperature": "hot"})
    assert "temperature" in caught.value.message


def test_overload_keeps_its_hint(recorded, tag):
    with pytest.raises(openai.RateLimitError) as caught:
        recorded.chat.completions.create(model="overloaded", messages=user(tag))
    assert caught.value.response.headers["retry-after"] == "7"


def test_a_failing_backend(recorded, tag):
    with pytest.raises(openai.InternalServerError):
        recorded.chat.completions.create(model="failing", messages=user(tag))


def test_errors_are_never_kept(recorded, tag):
    calls = []
    for _ in range(2):
        with pytest.raises(openai.InternalServerError):
            recorded.chat.completions.create(model="failing", messages=user(tag))
        calls.append(len(ask_recorder("ended", tag)))  # a gateway asks more than once for each
    assert 0 < calls[0] < calls[1]


@pytest.mark.gateway
@pytest.mark.parametrize("key", ["no-such-key", OTHER_KEY + "x", OTHER_KEY[:-1]])
def test_unknown_key(key):
    with connect(URL, key=key) as client, pytest.raises(openai.AuthenticationError) as caught:
        client.chat.completions.create(model="steady", messages=user("x"))
    assert caught.value.code == "invalid_api_key"
    assert caught.value.request_id
    assert key not in str(caught.value)


@pytest.mark.gateway
def test_unknown_model(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="no-such-model", messages=user("x"))
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert caught.value.request_id


@pytest.mark.gateway
@pytest.mark.parametrize(
    "odd", [{"stream": "yes"}, {"model": 7}, {"model": None}, {"stream_options": 1, "stream": True}]
)
def test_bad_members(client, odd):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="steady", messages=user("x"), extra_body=odd)
    assert caught.value.param and caught.value.type == "invalid_request_error"
    assert caught.value.request_id


@pytest.mark.gateway
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model":"steady","model":"smollm2"}', b'{"model":"\xff"}'])
def test_bad_json(client, body):
    with pytest.raises(openai.BadRequestError) as caught:
        client.post(
            "/chat/completions", cast_to=object, content=body, options={"headers": {"content-type": "application/json"}}
        )
    assert caught.value.request_id


@pytest.mark.gateway
def test_a_request_id_of_the_clients_is_kept(recorded, tag):
    answer = recorded.chat.completions.with_raw_response.create(
        model="steady", messages=user(tag), extra_headers={"x-request-id": tag}
    )
    assert answer.headers["x-request-id"] == tag
    (record,) = ask_recorder("ended", tag)
    assert dict(map(tuple, record["headers"]))["x-request-id"] == tag


@pytest.mark.gateway
def test_nothing_about_the_backend_comes_back(recorded, tag):
    answer = recorded.chat.completions.with_raw_response.create(model="steady", messages=user(tag))
    headers = str(answer.headers)
    assert "127.0.0.1" not in headers
    with pytest.raises(openai.APIStatusError) as caught:
        connect(RECORDED_URL).chat.completions.create(model="failing", messages=user(tag))
    assert "127.0.0.1" not in caught.value.response.text
