//! The real program over real sockets: backends and clients are scripts of plain threads in this process.
//! Nothing here sleeps: a test waits for bytes or events, and every read has a guard against hanging, no more.

#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // plain threads that wait for each other, and guards

mod kit; // the gateway's process, scripted backends, raw clients

mod admin; // health, metrics and drain
mod admission; // who is served first where requests wait
mod allocations; // profiles of what is allocated
mod answers; // errors in a 200, ends without [DONE], usage in odd places, why an answer is not kept
mod attempts; // attempts that follow each other, fallbacks, queues, hedges
mod balance; // which core serves a connection
mod batches; // several embeddings in a request
mod cache; // hits, directives, what is kept and what is not
mod certificates; // names in clients' certificates, and OCSP
mod clients; // whom proxies speak for, and how many connections a client may have
mod codings; // requests that are compressed
mod combined; // embeddings and completions that go upstream together
mod connections; // reuse, stale connections, failures and time-outs of backends
mod cors; // web pages of other origins
mod drain; // the end of the program
mod faults; // malformed requests, each with its status and a closed connection
mod flights; // one upstream call for many
mod formats; // clients that speak MessagePack or Protocol Buffers
mod frames; // HTTP/2 by raw frames, rule by rule
mod golden; // visible bytes
mod health; // checks, ejection, probes
mod http; // keep-alive, pipelining, framings, half close
mod http2; // HTTP/2 from clients
mod intake; // what a request may cost while it arrives
mod large; // bodies too large to be worked on, or held, in one piece
mod leaving; // calls that go on when their clients have gone
mod limits; // what tenants may spend
mod log; // what a line of the access log says
mod messages; // Anthropic's messages in both forms
mod moves; // backends whose names lead elsewhere
mod paths; // where a request goes by its path, its method and the model it names
mod patience; // how long is waited for whom, and what a failure says of a backend
mod patterns; // models whose names have a *
mod pipelined; // requests that do not wait for the answers before them
mod policy; // which answers of a model are stored, and for how long
mod pools; // connections as they are kept, panics, sessions, regions
mod pressure; // slow readers
mod prices; // of what a provider has in its cache
mod purge; // what may not be served any more
mod reload; // another configuration while requests run
mod resources; // descriptors and memory
mod responses; // OpenAI's responses API
mod restart; // stored answers that outlive the process
mod secure; // TLS from clients
mod shuffles; // random requests in random pieces
mod signals; // signals that are no stop, and the access log that some are about
mod slow; // what comes or goes a byte at a time over TLS, HTTP/2 and WebSockets
mod streams; // event by event, broken streams, clients that leave
mod takeover; // a new process goes on
mod templates; // prompts by name
mod tenants; // credentials, scopes, what goes upstream and what does not
mod top; // the terminal view
mod traces; // which context backends are given, and what spans say
mod translation; // clients and backends of two APIs
mod trust; // what must not be got past the gateway by spelling it another way
mod upstreams; // HTTP/2 and TLS towards backends
mod websockets; // what is relayed both ways
