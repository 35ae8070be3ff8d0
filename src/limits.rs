//! Every hard bound of the gateway, once, with its unit, reason and source. What a user may change is a configuration
//! key; the bounds here protect the process and are fixed.

/// Largest request or response head. nginx and Envoy allow 32 and 60 KiB for browsers' cookies; model clients send less
/// than 2 KiB. RFC 9112 2.3 and 3 leave the bound to the implementation; a larger head gets 431.
pub const HEAD_BYTES: usize = 32 << 10;

/// Most header fields in one head. OpenAI's SDKs send about 20; a chain of proxies adds a dozen.
pub const HEAD_FIELDS: usize = 100;

/// Longest request target, inside the head. RFC 9112 3 recommends at least 8000 bytes.
pub const TARGET_BYTES: usize = 8 << 10;

/// Largest trailer section after a chunked body; trailers are read and discarded.
pub const TRAILER_BYTES: usize = 4 << 10;

/// Longest chunk-size line, extensions included. Extensions are ignored (RFC 9112 7.1.1), but must be bounded.
pub const CHUNK_LINE_BYTES: usize = 256;

/// Most bytes of chunk extensions in one body, so that a body of one-byte chunks cannot hide megabytes in them.
pub const CHUNK_EXTENSIONS_BYTES: usize = 16 << 10;

/// Most concurrent streams of one HTTP/2 connection from a client. nginx allows 128, Envoy and h2o 100; agents that run many
/// requests side by side open further connections.
pub const CLIENT_STREAMS: u32 = 128;

/// Streams that a client may have reset before they were looked at, or that were reset for errors of its; more end the
/// connection (CVE-2023-44487). The h2 crate's own default for the former is 20.
pub const CLIENT_RESETS_AT_ONCE: usize = 20;

/// Resets of running streams that an HTTP/2 client may send at once, and how many it may send again each second. A user
/// interface cancels a few answers a minute; a proxy in front for many users some a second.
pub const CLIENT_RESETS: u32 = 200;
pub const CLIENT_RESETS_A_SECOND: u32 = 20;

/// Bytes of one answer to a pipelined request that wait for the answers before it: as of an answer that waits for its client on a
/// stream of HTTP/2. What a stream has more of stays with its upstream call.
pub const PIPELINED_ANSWER_BYTES: usize = 64 << 10;

/// Longest pipelined request, head and body, that is begun before the one in front of it is answered. More than is read at once.
pub const PIPELINED_REQUEST_BYTES: usize = 256 << 10;

/// Longest answer by which a backend refuses a WebSocket that is passed on. Error objects have less than 1 KiB, error pages of
/// proxies some 10.
pub const WEBSOCKET_REFUSAL_BYTES: usize = 64 << 10;

/// When one side of a WebSocket has ended its direction, the other one may be silent for so long. RFC 6455 7.1.1: the server
/// closes first, at once; a client that does not see it by then never will.
pub const WEBSOCKET_ENDING_MS: u64 = 10_000;

/// After another process has taken over, how long connections of HTTP/1.1 may stay idle in the old one: a client that keeps
/// one in use learns from its next answer that it closes, instead of meeting a reset. 5 s is how long most pools keep theirs.
pub const IDLE_GRACE_MS: u64 = 5_000;

/// Places of each of the two tables in which connections are counted by address: 512 KiB in all, if that is configured. With
/// 100,000 clients at a time, the smaller of an address's two counts has another one's in it for one address in two, and 3 more
/// than its own for one in a hundred.
pub const PEER_SLOTS: usize = 64 << 10;

/// Deepest nesting of a JSON body. Generated schemas reach 100; Python's json module, which most backends use, stops
/// just below 1,000.
pub const JSON_DEPTH: usize = 1024;

/// Deepest nesting of a body in MessagePack or Protocol Buffers, and of an answer that is converted to them. Other decoders of these
/// stop at 100 to 128 levels.
pub const FORMAT_DEPTH: usize = 100;

/// Most values in one JSON body; a number in an array counts as two. More than fit into the largest body by default, so
/// that `body_max` is the effective bound. At 16 bytes a node the tape stays under 128 MiB, whatever the size of the
/// body.
pub const JSON_NODES: usize = 8 << 20;

/// Bodies above this live in memory maps of their own, which go back to the system with them (net/arena.rs). The heap would keep
/// their memory, in pieces.
pub const MAPPED_BYTES: usize = 1 << 20;

/// Memory of maps that a core keeps for its next large bodies: three of the largest by default.
pub const ARENAS_FREE_BYTES: usize = 32 << 20;

/// Work on one body is cut into slices of so many bytes, between which others run: at half a gigabyte to some a second, which is
/// what scanning, hashing and sending take, some hundred microseconds.
pub const SLICE_BYTES: usize = 128 << 10;

/// Memory of a tape or a canonical form that is kept from one request to the next.
pub const SCRATCH_BYTES: usize = 1 << 20;

/// Largest single server-sent event that is parsed. A base64 image in one delta has 3 to 20 MiB. Streams that are not
/// parsed have no such bound.
pub const EVENT_BYTES: usize = 32 << 20;

/// Most bytes per node of incomplete events larger than a buffer, so that many backends with endless events cannot
/// exhaust its memory. Room for eight of the largest at a time; a stream that needs more fails as if its event were too
/// long.
pub const EVENTS_NODE_BYTES: u64 = 8 * EVENT_BYTES as u64;

/// Largest answer that is converted between its streaming and non-streaming form. Conversion runs on the core that owns
/// the answer, at some ten nanoseconds a byte: at this size it blocks that core for a few milliseconds. A request for
/// the other form of a larger answer goes to a backend.
pub const CONVERTED_BYTES: usize = 256 << 10;

/// Most values of a message that is translated between two APIs, counted by the characters before them, wherever these stand.
/// As values a message takes some 60 bytes for each; conversations with a hundred thousand tokens have some ten thousand.
pub const TRANSLATED_VALUES: usize = 1 << 20;

/// Largest whole answer that is translated. It is held as a whole; answers have some kilobytes.
pub const TRANSLATED_ANSWER_BYTES: usize = 16 << 20;

/// Largest event of a stream that is translated: a delta has some tokens, and a server that sends the arguments of a call whole
/// sends a file at most.
pub const TRANSLATED_EVENT_BYTES: usize = 4 << 20;

/// Most calls of tools in one streamed answer that is translated. Models make some ten at a time.
pub const TRANSLATED_CALLS: usize = 1024;

/// Longest model name in a request. The longest published names have about 100 bytes.
pub const MODEL_BYTES: usize = 256;

/// Longest `x-request-id` accepted from a client; a longer one is replaced. UUIDs have 36 bytes.
pub const REQUEST_ID_BYTES: usize = 128;

/// Most choices of one answer that are tracked to their end; OpenAI's own bound on `n` is 128. An answer with more is
/// relayed but not stored.
pub const CHOICES: usize = 128;

/// Memory of the cache without a configuration; the row `cache.memory` has the same default.
pub const CACHE_MEMORY_BYTES: u64 = 4 << 30;

/// Most bytes read of one file in /proc or /sys when a host is examined. `/proc/interrupts` of 256 CPUs has about 1 MiB
/// and is not read; the files that are read have a page or two.
pub const HOST_FILE_BYTES: u64 = 256 << 10;

/// Most directory entries, and most matches of one pattern, that are examined: 512 CPUs with 10 idle states each.
pub const HOST_ENTRIES: usize = 8 << 10;

/// One above the highest CPU number; Linux on x86-64 can be built for 8,192 CPUs.
pub const HOST_CPUS: usize = 8 << 10;

/// Most network interfaces that are examined.
pub const HOST_NICS: usize = 64;

/// Deepest control group that is examined; each level costs a few files.
pub const HOST_CGROUP_DEPTH: usize = 32;

/// Most interim (1xx) responses before a response. Real servers send two at most; the bound prevents an endless loop.
pub const INTERIM_RESPONSES: u32 = 8;

/// Most content that one step of a decoder returns: small enough to be zeroed for each event, large enough for a body.
pub const DECODED_STEP_BYTES: usize = 8 << 10;

/// Highest ratio of content to compressed bytes. Streams of similar events reach about 50; deflate is limited to 1,032,
/// zstd and brotli to tens of thousands. Above this the input is taken for a decompression bomb.
pub const DECODED_RATIO: u64 = 200;

/// Decompressed bytes before the ratio is checked, so that a short answer of one repeated letter passes.
pub const DECODED_FREE_BYTES: u64 = 4 << 20;

/// Largest window of a zstd stream as a power of two: 8 MiB, the limit of RFC 9659 3.
pub const ZSTD_WINDOW_LOG: u32 = 23;

/// Largest header of a gzip member. Its longest sized field has 64 KiB; names and comments have no bound of their own.
pub const GZIP_HEADER_BYTES: usize = 128 << 10;

/// Largest error body that is parsed to classify the error. Bodies that echo a whole prompt are larger and are relayed
/// unparsed.
pub const ERROR_BODY_BYTES: usize = 256 << 10;

/// How much of an error's message is searched for known words. Known messages have them in their first sentence.
pub const ERROR_MESSAGE_BYTES: usize = 2 << 10;

/// Groups of fingerprints per core for which the time of the last store is kept; 64 KiB per core. At 1,000 stores per
/// second per core, a copy of another core's entry is fetched again about every 16 seconds.
pub const STORE_EPOCHS: usize = 16 << 10;

/// Groups of names, of models, tenants and versions, for which the time of the last purge is kept; 32 KiB per node, and with
/// Redis 96 KiB more from the first purge on. A purge also takes what has another name of the same group: one name in 4,096.
pub const PURGE_NAMES: usize = 4 << 10;
/// The same for single answers; 512 KiB per node, and with Redis as much again. A purge takes one answer in 65,536 with it.
pub const PURGE_KEYS: usize = 64 << 10;
/// Slots of the cache that are looked at for purged answers before other tasks run: some ten microseconds.
pub const WEEDED_AT_A_TIME: u32 = 256;
/// Slots of the cache that a data core looks at for one slice of a snapshot, and bytes after which the slice ends: some tens of
/// microseconds. One slice per core is under way at a time.
pub const SNAPSHOT_SLICE_SLOTS: u32 = 256;
pub const SNAPSHOT_SLICE_BYTES: u64 = 1 << 20;
/// Answers of a snapshot that a data core takes back at a time.
pub const SNAPSHOT_TAKEN_BACK: usize = 64;
/// Largest answer in a snapshot: the I/O core encodes it in one go, at about a millisecond a MiB, and writes the log meanwhile.
pub const SNAPSHOT_ENTRY_BYTES: u64 = 16 << 20;
/// Records after which a block of a snapshot ends. What is damaged is lost by blocks.
pub const SNAPSHOT_BLOCK_BYTES: usize = 1 << 20;
/// Most inputs of a request for embeddings that are looked up one by one, and the longest such body; larger ones are kept whole or
/// not at all. OpenAI allows 2,048 inputs.
pub const BATCH_INPUTS: usize = 2048;
pub const BATCH_BYTES: usize = 1 << 20;
/// What waits to be sent to Redis, per core: the look-ups of a burst, and a few answers of the largest size.
pub const REDIS_PENDING_BYTES: usize = 8 << 20;
/// Largest reply of Redis: an answer of the largest size that is stored by default, with room.
pub const REDIS_REPLY_BYTES: usize = 16 << 20;
/// Largest configuration file. 100,000 keys have 8 MB, and 12 MB with limits of their own.
pub const CONFIG_BYTES: u64 = 64 << 20;
/// Largest configuration in a store: several thousand tenants. etcd takes 1.5 MiB and Consul 512 KiB by default.
pub const STORED_CONFIG_BYTES: usize = 1 << 20;
/// Largest answer of a store to a question of the background core: such a configuration in base64, and what is around it.
pub const STORE_ANSWER_BYTES: usize = 2 << 20;
/// Most masters of a Redis Cluster, each with a connection per core: as many nodes as its documentation recommends at most.
pub const REDIS_MASTERS: usize = 1_000;
/// Most elements of a reply of Redis to the background core: name and number of every scope that was ever purged, and the map of a
/// cluster that is cut into small ranges.
pub const REDIS_ELEMENTS: usize = 2 * (PURGE_KEYS + 4 * PURGE_NAMES);
/// Longest body of a request to the admin listener.
pub const ADMIN_BODY_BYTES: usize = 4 << 10;

/// Most request series per core, by endpoint, model, tenant and status; further ones are counted without their tenant.
/// Enough for 1,000 tenants with a handful of models and statuses each; a scrape stays within a few megabytes.
pub const SERIES: usize = 16 << 10;

/// Most series of tenant, key and model per core whose usage is counted apart, 128 bytes each, allocated 256 at a time when
/// they first count. Keys that come when all are in use count for their tenant without a name.
pub const USAGE_SERIES: usize = 64 << 10;

/// How many days of usage are kept in the state directory, and how many in memory where there is none.
pub const USAGE_DAYS: u64 = 400;
pub const USAGE_DAYS_IN_MEMORY: usize = 31;

/// Questions of this node about limits that wait for Redis at a time; there is one at most for each limit and core that asks for
/// more, 96 bytes each. Beyond, the node grants of its own part.
pub const SHARED_QUESTIONS: usize = 64 << 10;

/// Most rows of an answer of /v1/usage, at about 400 bytes each; a question for more is to be narrowed.
pub const USAGE_ROWS: usize = 50_000;

/// How long a backend's host may leave sent data or a keepalive probe unacknowledged before the connection is dropped.
/// Linux by default retries for 15 minutes and sends the first probe after two hours. Long enough for a server that is
/// slow to read a large body, because Linux counts a closed window as unacknowledged, too.
pub const PEER_SILENT_MS: u32 = 15_000;

/// Interval of keepalive probes once the peer has been silent for that long.
pub const PEER_ASKED_SECONDS: u64 = 5;

/// Messages about requests between two cores: in the ring, and in the overflow queue while the receiver is stalled. A
/// core at full load sends some hundred per round. Beyond both, a message is dropped, and whatever waits for its reply
/// times out.
pub const REQUEST_MESSAGES: usize = 1024;
pub const REQUEST_MESSAGES_WAITING: usize = 64 << 10;

/// Bytes of answers in transit between two cores. A stream that other cores follow sends what it receives; a stalled
/// core pins no more than this for each other core.
pub const REQUEST_MESSAGE_BYTES: u64 = 64 << 20;

/// Control messages between two cores: backend health, addresses, drain. A few per backend, rarely.
pub const CONTROL_MESSAGES: usize = 256;
pub const CONTROL_MESSAGES_WAITING: usize = 4096;
pub const CONTROL_MESSAGE_BYTES: u64 = 4 << 20;

/// Upstream calls of a data core that are read on though their clients have gone (`on_client_disconnect = "drain"`); a further one is
/// cancelled. As many calls as a busy core has at a time.
pub const DRAINED_CALLS: usize = 256;

/// Longest rest of an answer that is read on for nobody; beyond it the call is cancelled. The longest answers of models have
/// some 500 KiB.
pub const DRAINED_BYTES: u64 = 16 << 20;

/// Buffers of log lines between two cores, 132 KiB each. More than one data core may have in transit (`LOG_BYTES`).
pub const LOG_MESSAGES: usize = 128;
pub const LOG_MESSAGE_BYTES: u64 = 8 << 20;

/// Log bytes of one data core that are not written yet. At 300 bytes a line that is two seconds of 7,000 requests per
/// second. Beyond it, lines are dropped and counted, so that a stuck disk or pipe affects only the log.
pub const LOG_BYTES: usize = 4 << 20;

/// Spans of one message to the background core. At 16 attributes a span takes about 1 KiB.
pub const SPANS_A_MESSAGE: usize = 32;

/// Spans that wait on the background core to be sent, some 16 MiB: ten seconds, which a slow receiver may take for a batch, of 1,600
/// spans a second. Beyond them, spans are dropped and counted.
pub const SPANS_WAITING: usize = 16 << 10;

/// Spans of one request to the receiver; the default of OpenTelemetry's batch processors.
pub const SPANS_A_BATCH: usize = 512;

/// Longest `tracestate` that a span repeats; W3C Trace Context 3.3.1.1 asks for 512 characters.
pub const TRACE_STATE_BYTES: usize = 512;

/// Longest answer that is read for its span, which says what the answer is called and why it ended. Reading it takes a data core
/// some hundred microseconds.
pub const SPAN_ANSWER_BYTES: usize = 256 << 10;

/// Longest id, model or finish reason of an answer that a span repeats. Providers' ids have 40 characters.
pub const SPAN_WORD_BYTES: usize = 128;

/// Finish reasons that a span lists, one for each choice. OpenAI's API offers 128 choices; more than a few are rare.
pub const SPAN_REASONS: usize = 16;

/// Attempts of one request that the access log lists. More are made only where retries and fallbacks are many.
pub const ATTEMPTS_LISTED: usize = 16;

/// Messages that a core receives before its other tasks run.
pub const MESSAGES_A_ROUND: usize = 256;

/// How long a core may make no progress before the process exits to be restarted. No single step of a core takes more
/// than milliseconds; a host that withholds the CPU for this long cannot serve requests either.
pub const STALL_MS: u64 = 10_000;

/// Lines and bytes of process messages that standard error has not accepted yet; beyond them, messages are dropped and
/// counted.
pub const TOLD_LINES: usize = 1024;
pub const TOLD_BYTES: usize = 1 << 20;

/// Most concurrent connections of the admin listener; a further one is closed immediately. Probes, a scraper and an
/// operator need fewer than ten.
pub const ADMIN_CONNECTIONS: usize = 64;

/// Most watchers of `/v1/live`: pages that are open. Each gets the node's state every second.
pub const ADMIN_WATCHERS: usize = 16;

/// Limits that the cores are asked about at a time, which takes each of them some 100 us.
pub const LIMITS_ASKED: usize = 1_000;

/// Most limits of an answer of /v1/limits, at about 200 bytes each; a question for more is to be narrowed.
pub const LIMITS_SHOWN: usize = 5_000;

/// Longest time for which the threads are sampled at a request; half of an admin connection's time.
pub const PROFILE_SECONDS: u64 = 60;

/// Bytes allocated from one sample of an allocation profile to the next, on average. A core that allocates 200 MB a second takes
/// 3,000 samples, of some 11 us each; 1 MiB in use is told with an error of about 25 %, 100 MiB with one of 2.5 %.
pub const ALLOCATION_SAMPLE_BYTES: u64 = 64 << 10;

/// Frames kept of a sampled stack, the innermost ones: as many as of a CPU sample (pprof's default).
pub const ALLOCATION_FRAMES: usize = 128;

/// Stacks of an allocation profile, by thread; 8 MiB if all are used. A busy core has some hundred; what further ones allocate is
/// one sum.
pub const ALLOCATION_STACKS: usize = 8 << 10;

/// Buckets of eight sampled blocks that are in use; 3 MiB. Half full with 4 GiB; 2 % of the samples find theirs full then.
pub const FOLLOWED_BUCKETS: usize = 16 << 10;

/// Largest request head on the admin listener.
pub const ADMIN_HEAD_BYTES: usize = 16 << 10;

/// Largest text of a prompt template. A prompt of 256 KiB has some 60,000 tokens.
pub const PROMPT_TEMPLATE_BYTES: usize = 256 << 10;

/// Most bytes of the variables of one prompt: as much as the context windows of most models take. They are copied, and rendered at one
/// go, while the core's other requests wait.
pub const PROMPT_VARIABLES_BYTES: usize = 1 << 20;

/// Instructions of the template engine for one text of a prompt. One takes some 20 to 50 ns, so that a prompt keeps its core from others
/// for less than 5 ms, long texts aside; a loop over 5,000 items stays below.
pub const PROMPT_FUEL: u64 = 100_000;

/// Calls of macros within each other in a template: a core's stack takes several times as many.
pub const PROMPT_NESTING: usize = 50;

/// Versions of prompt templates that a core counts by themselves; further ones count as one.
pub const PROMPT_SERIES: usize = 1024;

/// Most names of models, and of tenants, that are ever counted by themselves; later ones count as "other". A process that
/// reloads its configuration meets more than stand in one.
pub const SERIES_NAMES: usize = 64 << 10;
