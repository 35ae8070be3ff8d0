"""Clients of the OpenAI SDK for the gateway under test, and questions to the recording model server behind it."""

import json
import os
import ssl
import urllib.request
import uuid

import httpx
import openai
import pytest

URL = os.environ["RINGWAY_URL"]
RECORDED_URL = os.environ.get("RINGWAY_RECORDED_URL", URL)
EMBEDDINGS_URL = os.environ.get("RINGWAY_EMBEDDINGS_URL", URL)
RECORDER = os.environ["RINGWAY_RECORDER"]
KEY = os.environ["RINGWAY_KEY"]
OTHER_KEY = os.environ.get("RINGWAY_OTHER_KEY", KEY)
DIRECT = "RINGWAY_DIRECT" in os.environ

# By name: where the gateway is reached otherwise than by HTTP/1.1 in plain text, with what.
TRANSPORTS = json.loads(os.environ.get("RINGWAY_TRANSPORTS", "{}"))

# Far above anything seen, so that a loaded machine fails no test and a hang still ends.
PATIENCE_SECONDS = 120


def pytest_collection_modifyitems(config, items):
    """Without a gateway its cases are deselected, not skipped: a run with a gateway has no way to skip anything."""
    if DIRECT:
        left_out = [item for item in items if item.get_closest_marker("gateway")]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


def connect(url, key=KEY, kind=openai.OpenAI, timeout=PATIENCE_SECONDS, **options):
    return kind(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=timeout, **options)


def connect_by(name, kind=openai.OpenAI):
    """A client for the models of the recorder, by one of the transports."""
    if name == "http1":
        return connect(RECORDED_URL, kind=kind)
    transport = TRANSPORTS[name]
    verify = True
    if "ca" in transport:
        verify = ssl.create_default_context(cafile=transport["ca"])
    if "cert" in transport:
        verify.load_cert_chain(*transport["cert"])
    library = httpx.AsyncClient if kind is openai.AsyncOpenAI else httpx.Client
    http2 = transport["http2"]
    spoken = library(http1=not http2 or "ca" in transport, http2=http2, verify=verify, timeout=PATIENCE_SECONDS)
    return connect(transport["url"], kind=kind, http_client=spoken)


@pytest.fixture(params=["http1", *TRANSPORTS])
def transport(request):
    """Everything that is asked of the recorder is asked by each."""
    return request.param


@pytest.fixture
def client():
    """For the real model."""
    with connect(URL) as client:
        yield client


@pytest.fixture
def recorded(transport):
    """For the models of the recorder."""
    with connect_by(transport) as client:
        yield client


@pytest.fixture
async def async_client():
    async with connect(URL, kind=openai.AsyncOpenAI) as client:
        yield client


@pytest.fixture
async def async_recorded(transport):
    async with connect_by(transport, kind=openai.AsyncOpenAI) as client:
        yield client


@pytest.fixture
def embedder():
    with connect(EMBEDDINGS_URL) as client:
        yield client


@pytest.fixture
def tag():
    """A word that no other test uses: it makes a prompt new to the cache, and finds its request at the recorder."""
    return f"tag{uuid.uuid4().hex}"


def ask_recorder(question, tag):
    with urllib.request.urlopen(f"{RECORDER}/{question}?tag={tag}", timeout=PATIENCE_SECONDS) as answer:
        return json.load(answer)


def user(text):
    return [{"role": "user", "content": text}]


def sentence(tag):
    """A request to the real model that ends by itself (`stop`), so that its answer may be kept."""
    return {
        "model": "smollm2",
        "messages": user(f"Say hello to {tag[:8]}."),
        "temperature": 0,
        "max_tokens": 200,
        "stop": [".", "!", "?", "\n", ","],
    }
