//! The rows of `[[backend]]`: where a backend is, how it is reached, asked and given up.

use strum::VariantNames;

use super::Absent::{Default, Optional, Required};
use super::Table::Backend;
use super::{HOUR, Key, Kind, NAME, TIMEOUT};
use crate::config::snapshot::{Api, CredentialField, Protocol};

#[rustfmt::skip]
pub(super) const ROWS: &[Key] = &[
    // ---- [[backend]]
    Key { table: Backend, name: "name", kind: NAME, absent: Required,
        doc: "The name by which models refer to it; also in logs.",
        example: r#""vllm-a""# },
    Key { table: Backend, name: "url", kind: Kind::Url, absent: Required,
        doc: "Its address: http://host:port or https://host:port, optionally with a base path, or unix:/path. The \
              paths of the API (/v1/..., see api_path) are appended, so it must not end in /v1 itself. A host name is resolved again \
              when its TTL expires.",
        example: r#""http://127.0.0.1:8000""# },
    Key { table: Backend, name: "api_path", kind: Kind::RequestPath, absent: Default(r#""/v1""#),
        doc: "What its paths have in place of /v1, for a provider that has the API elsewhere: Gemini's is at \
              \"/v1beta/openai\", Perplexity's at \"/\".",
        example: r#""/v1beta/openai""# },
    Key { table: Backend, name: "protocol", kind: Kind::Choice(Protocol::VARIANTS), absent: Default(r#""auto""#),
        doc: "HTTP version to use. \"auto\" negotiates it over TLS (ALPN), and is HTTP/1.1 in plain text; \"http2\" in \
              plain text is by prior knowledge.",
        example: r#""http2""# },
    Key { table: Backend, name: "api", kind: Kind::Choice(Api::VARIANTS), absent: Default(r#""any""#),
        doc: "The LLM API that it speaks. With \"openai\", requests for /v1/messages are translated to chat completions for it; \
              with \"anthropic\", chat completions are translated to messages; answers and streams the other way. \"any\": \
              everything goes to it as it came.",
        example: r#""anthropic""# },
    Key { table: Backend, name: "max_tokens_default", kind: Kind::Count { least: 1, most: 1_000_000 }, absent: Default("4096"),
        doc: "With api \"anthropic\", the max_tokens of translated requests whose client sets none: Anthropic's API requires \
              it.",
        example: "16384" },
    Key { table: Backend, name: "tls_server_name", kind: Kind::Host, absent: Optional,
        doc: "The name or IP address that its certificate must be for, also sent as SNI; without it, the host of the \
              url. For a server that is reached by an address its certificate does not list.",
        example: r#""llm.internal""# },
    Key { table: Backend, name: "tls_ca", kind: Kind::File, absent: Optional,
        doc: "PEM file of the only certificate authorities trusted for it; without it, the system's. A reload reads this \
              file and those below again.",
        example: r#""/etc/ringway/ca.pem""# },
    Key { table: Backend, name: "tls_cert", kind: Kind::File, absent: Optional,
        doc: "PEM file of the client certificate chain presented to it, leaf first; requires tls_key.",
        example: r#""/etc/ringway/client.pem""# },
    Key { table: Backend, name: "tls_key", kind: Kind::File, absent: Optional,
        doc: "PEM file of the private key of tls_cert, not encrypted; requires tls_cert.",
        example: r#""/etc/ringway/client.key""# },
    Key { table: Backend, name: "api_key", kind: Kind::Secret, absent: Optional,
        doc: "The credential sent to it; without it none is sent. Keep it out of this file: \"${NAME}\" takes it from \
              the environment, \"file:/path\" from a file, \"credential:name\" from systemd.",
        example: r#""${VLLM_KEY}""# },
    Key { table: Backend, name: "api_key_field", kind: Kind::Choice(CredentialField::VARIANTS),
        absent: Default(r#""authorization""#),
        doc: "The header field that carries api_key: \"authorization\" (as a bearer credential), \"x-api-key\" \
              (Anthropic; the default with api \"anthropic\") or \"api-key\" (Azure).",
        example: r#""x-api-key""# },
    Key { table: Backend, name: "weight", kind: Kind::Count { least: 1, most: 1_000 }, absent: Default("1"),
        doc: "Its share of a model's requests, relative to the model's other backends.",
        example: "3" },
    Key { table: Backend, name: "region", kind: NAME, absent: Optional,
        doc: "The region it is in; see server.region. Without it, it counts as being in the node's own region.",
        example: r#""eu-west""# },
    Key { table: Backend, name: "priority", kind: Kind::Count { least: 0, most: 15 }, absent: Default("0"),
        doc: "A backend with a higher number is used only while no backend with a lower number is in service.",
        example: "1" },
    Key { table: Backend, name: "connections_min", kind: Kind::Count { least: 0, most: 65_536 }, absent: Default("5"),
        doc: "HTTP/1.1 connections that this node opens in advance and keeps open, divided over its data cores. The \
              default is capped at connections_max.",
        example: "0" },
    Key { table: Backend, name: "connections_max", kind: Kind::Count { least: 1, most: 65_536 }, absent: Default("50"),
        doc: "Most HTTP/1.1 connections from this node to it, idle ones included, whichever of its data cores use them. \
              Further requests wait; a server that batches hundreds of streams needs as many. A WebSocket has one to its end.",
        example: "200" },
    Key { table: Backend, name: "http2_connections_min", kind: Kind::Count { least: 0, most: 65_536 },
        absent: Default("10"),
        doc: "HTTP/2 connections that this node keeps open once they have been needed, divided over its data cores. \
              The default is capped at http2_connections_max.",
        example: "0" },
    Key { table: Backend, name: "http2_connections_max", kind: Kind::Count { least: 1, most: 65_536 },
        absent: Default("100"),
        doc: "Most HTTP/2 connections from this node to it, whichever of its data cores use them; at least one for each core.",
        example: "20" },
    Key { table: Backend, name: "http2_streams_max", kind: Kind::Count { least: 1, most: 10_000 }, absent: Default("100"),
        doc: "Most concurrent requests on one HTTP/2 connection. The server's own limit applies as well.",
        example: "250" },
    Key { table: Backend, name: "adaptive_concurrency", kind: Kind::Switch, absent: Default("false"),
        doc: "Whether the number of requests that it gets at a time is found from how long it takes to begin its answers, per data \
              core, between concurrency_min and its connections or streams. Requests beyond that go to other backends of \
              the model, or wait in their order.",
        example: "true" },
    Key { table: Backend, name: "concurrency_min", kind: Kind::Count { least: 1, most: 100_000 }, absent: Default("1"),
        doc: "With adaptive_concurrency, it gets so many requests at a time in any case, divided over the data cores (at least \
              one each).",
        example: "8" },
    Key { table: Backend, name: "fast_open", kind: Kind::Switch, absent: Default("false"),
        doc: "Whether the first bytes are sent with the SYN (TCP Fast Open, RFC 7413). Some networks drop such \
              packets.",
        example: "true" },
    Key { table: Backend, name: "timeout_connect", kind: TIMEOUT, absent: Default(r#""5s""#),
        doc: "Longest time to establish a connection.",
        example: r#""500ms""# },
    Key { table: Backend, name: "timeout_idle", kind: TIMEOUT, absent: Default(r#""300s""#),
        doc: "How long an idle connection is kept. Keep it shorter than the backend's own idle timeout.",
        example: r#""4s""# },
    Key { table: Backend, name: "timeout_request", kind: TIMEOUT, absent: Default(r#""10m""#),
        doc: "Longest wait for a whole answer, and for the first content of a stream; all attempts at the backends of \
              a model share it. The default is that of the OpenAI and Anthropic SDKs. Once a body is being relayed to \
              the client, timeout_stream_idle applies instead.",
        example: r#""120s""# },
    Key { table: Backend, name: "timeout_attempt", kind: TIMEOUT, absent: Optional,
        doc: "Longest wait for a whole answer from this backend, for requests without stream; then another backend is tried. \
              Without it one that hangs takes all of timeout_request. Choose it well above the longest answer: what it cuts \
              off was generated in vain.",
        example: r#""60s""# },
    Key { table: Backend, name: "timeout_head", kind: TIMEOUT, absent: Default(r#""5m""#),
        doc: "Longest wait for the response head of a stream; then another backend is tried. Some servers send the \
              head only after they have processed the prompt, which takes minutes for a long one on a slow machine. \
              Lower it if the model has several backends; dead ones are detected by the health checks.",
        example: r#""5s""# },
    Key { table: Backend, name: "timeout_first_token", kind: TIMEOUT, absent: Default(r#""10m""#),
        doc: "Longest wait for the first content of a stream, its head included; comments do not count. Then another \
              backend is tried. Providers send comments for up to ten minutes while a request is queued.",
        example: r#""20s""# },
    Key { table: Backend, name: "timeout_stream_idle", kind: TIMEOUT, absent: Default(r#""5m""#),
        doc: "Longest pause within an answer: between two reads of a stream or of any other relayed body, and before a \
              stream's first content. Reasoning models may be silent for minutes. A WebSocket on which neither side \
              says anything for so long is closed.",
        example: r#""60s""# },
    Key { table: Backend, name: "timeout_stream_content", kind: TIMEOUT, absent: Default(r#""10m""#),
        doc: "Longest pause without content in a stream that has started; comments and empty events do not count. \
              Comments show that a server is up, not that it is working on the answer.",
        example: r#""5m""# },
    Key { table: Backend, name: "timeout_stream", kind: TIMEOUT, absent: Optional,
        doc: "Longest duration of a whole stream, other relayed body or WebSocket; without it there is no limit.",
        example: r#""30m""# },
    Key { table: Backend, name: "include_usage", kind: Kind::Switch, absent: Default("true"),
        doc: "Whether to request token usage (stream_options.include_usage) for streams when the client did not; the \
              usage is then removed from the client's stream. A server that rejects the field in so many words is asked \
              once more without it, and not with it again.",
        example: "false" },
    Key { table: Backend, name: "headers", kind: Kind::Headers, absent: Optional,
        doc: "Header fields of all requests to it, as a table; values may be kept outside the file like api_key.",
        example: r#"{ x-team = "search", x-project = "ringway" }"# },
    Key { table: Backend, name: "body", kind: Kind::Members, absent: Optional,
        doc: "Members of the JSON bodies of chat completions, completions, embeddings and messages that clients do not send \
              themselves, as a table. They do not count in the cache's keys: change the model's version with them. ${NAME} stands for itself here.",
        example: r#"{ top_k = 20, chat_template_kwargs = { enable_thinking = false } }"# },
    Key { table: Backend, name: "forward_headers", kind: Kind::Names { most_bytes: 128 }, absent: Optional,
        doc: "Names of further header fields that clients may send to it, where * matches any characters. Credentials, \
              cookies, and what frames or routes a message never are. Their values count in the cache's keys: identical \
              requests with other values do not share an answer.",
        example: r#"["x-user-*", "x-priority"]"# },
    Key { table: Backend, name: "health_path", kind: Kind::RequestPath, absent: Default(r#""/health""#),
        doc: "Path of the health check, appended to the base path of the url. Any status below 500 is healthy, so the \
              default also suits servers without this path. It must not cost tokens. The api_key is sent only below \
              /v1/.",
        example: r#""/v1/models""# },
    Key { table: Backend, name: "health_interval",
        kind: Kind::DurationOrZero { least_ms: 10, most_ms: 24 * HOUR }, absent: Default(r#""5s""#),
        doc: "Interval of health checks. Two failures in a row take the backend out of service, two successes put it \
              back. \"0s\" = no checks: only the results of requests count.",
        example: r#""0s""# },
    Key { table: Backend, name: "health_timeout", kind: TIMEOUT, absent: Default(r#""2s""#),
        doc: "Longest wait for the answer to a health check; at most health_interval, which also caps the default.",
        example: r#""500ms""# },
    Key { table: Backend, name: "eject_errors", kind: Kind::Count { least: 1, most: 1_000 }, absent: Default("5"),
        doc: "This many failed requests in a row take it out of service. A failure is a failed connection, a truncated \
              answer, a timeout while it answered no other request, or a status of 500 and above. A 500 for a request \
              that another backend also answered with 500 does not count, and each request counts once.",
        example: "3" },
    Key { table: Backend, name: "eject_error_percent", kind: Kind::Count { least: 0, most: 100 }, absent: Default("50"),
        doc: "Percentage of failed requests, among at least 20 within 10 s, that takes it out of service; 0 = off.",
        example: "0" },
    Key { table: Backend, name: "eject_time", kind: Kind::Duration { least_ms: 1, most_ms: HOUR },
        absent: Default(r#""5s""#),
        doc: "How long it then gets no requests. Afterwards it gets one at a time as a probe; each failed probe \
              doubles the time, up to sixteen times.",
        example: r#""10s""# },
    Key { table: Backend, name: "eject_probes", kind: Kind::Count { least: 1, most: 100 }, absent: Default("2"),
        doc: "Successful probes in a row that put it back into service.",
        example: "1" },
    Key { table: Backend, name: "slow_start", kind: Kind::DurationOrZero { least_ms: 1, most_ms: HOUR },
        absent: Default(r#""10s""#),
        doc: "How long its share takes to grow from a tenth to full once it is back in service. \"0s\" = immediately.",
        example: r#""60s""# },
];
