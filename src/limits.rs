//! Every hard bound of the gateway, once, with its unit, its reason and its source.
//! What a user may change is a configuration key; what stands here protects the process and is not for changing.

/// Largest request or response head. nginx and Envoy stand at 32 and 60 KiB for browsers' cookies, model clients send under
/// 2 KiB. RFC 9112 2.3 and 3 leave the bound to us; above it 431.
pub const HEAD_BYTES: usize = 32 << 10;

/// Most header fields in one head. OpenAI's SDKs send about 20, a chain of proxies adds a dozen.
pub const HEAD_FIELDS: usize = 100;

/// Longest request target, inside the head. RFC 9112 3 recommends at least 8000 bytes.
pub const TARGET_BYTES: usize = 8 << 10;

/// Largest trailer section after a chunked body; it is read and dropped.
pub const TRAILER_BYTES: usize = 4 << 10;

/// Longest chunk-size line, extensions included. Extensions are ignored (RFC 9112 7.1.1) but not for ever.
pub const CHUNK_LINE_BYTES: usize = 256;

/// Most bytes of chunk extensions in one body, so that a body of one-byte chunks cannot hide megabytes in them.
pub const CHUNK_EXTENSIONS_BYTES: usize = 16 << 10;

/// Deepest nesting of a JSON body. Generated schemas reach a hundred; Python's own parser, which most backends use, stops
/// just below a thousand.
pub const JSON_DEPTH: usize = 1024;

/// Most values in one JSON body, arrays of numbers counted as two: more than fit into the largest body by default, so that
/// its size is the bound. At 16 bytes a node the tape stays under 128 MiB, whatever the size may be.
pub const JSON_NODES: usize = 8 << 20;

/// Memory of a tape, and of a canonical form, that is kept from request to request.
pub const SCRATCH_BYTES: usize = 1 << 20;

/// Largest single server-sent event that is looked into. An image in base64 in one delta has 3 to 20 MiB. Streams that are
/// not looked into have no such bound.
pub const EVENT_BYTES: usize = 32 << 20;

/// Most bytes on a node of events above a buffer's size that have not come whole, so that many backends with endless events
/// cannot fill its memory. Eight of the largest at a time; a stream that needs more breaks as one with too long an event.
pub const EVENTS_NODE_BYTES: u64 = 8 * EVENT_BYTES as u64;

/// Largest answer that is converted between its two forms. Conversion builds values on the core that owns the answer, some
/// ten nanoseconds a byte: at this size a few milliseconds, in which that core serves nobody else. Whoever wants the other
/// form of a larger one asks for it anew.
pub const CONVERTED_BYTES: usize = 256 << 10;

/// Longest model name a request may ask for. The longest published names have about 100 bytes.
pub const MODEL_BYTES: usize = 256;

/// Longest `x-request-id` taken over from a client; a longer one is replaced. UUIDs have 36 bytes.
pub const REQUEST_ID_BYTES: usize = 128;

/// Most choices of one answer that are followed to their end; OpenAI's own bound on `n` is 128. An answer with more is
/// relayed but not stored.
pub const CHOICES: usize = 128;

/// Memory of the cache where no configuration says another; the row `cache.memory` has the same default.
pub const CACHE_MEMORY_BYTES: u64 = 4 << 30;

/// Most bytes of a file of the kernel that are read to examine a host. `/proc/interrupts` of 256 CPUs has about 1 MiB and is
/// not read; what is read has a page or two.
pub const HOST_FILE_BYTES: u64 = 256 << 10;

/// Most names of one directory, and most files of one pattern, that are looked at; 512 CPUs with 10 idle states each.
pub const HOST_ENTRIES: usize = 8 << 10;

/// One above the highest number of a CPU; Linux on x86-64 can be built for 8,192.
pub const HOST_CPUS: usize = 8 << 10;

/// Most network interfaces that are looked at.
pub const HOST_NICS: usize = 64;

/// Most levels of control groups; each costs a few files.
pub const HOST_CGROUP_DEPTH: usize = 32;

/// Most interim (1xx) responses in front of an answer. Nobody sends more than two; a bound ends a loop.
pub const INTERIM_RESPONSES: u32 = 8;

/// Content one step of a decoder may give: small enough to be zeroed for one event, large enough for a body.
pub const DECODED_STEP_BYTES: usize = 8 << 10;

/// Most content for each byte received of a compressed answer. Streams of like events reach about 50, deflate ends at
/// 1,032, zstd and brotli at tens of thousands: above this it is made to fill memory.
pub const DECODED_RATIO: u64 = 200;

/// Content of a compressed answer on which the ratio is not looked at, so that a short answer of one repeated letter
/// passes.
pub const DECODED_FREE_BYTES: u64 = 4 << 20;

/// Largest window of a zstd stream as a power of two: 8 MiB, as RFC 9659 3 demands of senders.
pub const ZSTD_WINDOW_LOG: u32 = 23;

/// Largest header of a gzip member. Its longest sized field has 64 KiB; names and comments have no bound of their own.
pub const GZIP_HEADER_BYTES: usize = 128 << 10;

/// Largest error body that is read for its kind. Those that echo a whole prompt are larger, and are relayed unread.
pub const ERROR_BODY_BYTES: usize = 256 << 10;

/// How far into an error's message words are looked for. Known messages say what matters in their first sentence.
pub const ERROR_MESSAGE_BYTES: usize = 2 << 10;

/// Groups of fingerprints per core for which it is known when one was stored last; 64 KiB per core. At 1,000 stores per second
/// and core, a copy of another core's entry is asked for anew about every 16 seconds.
pub const STORE_EPOCHS: usize = 16 << 10;

/// Most series of requests one core counts apart by endpoint, model, tenant and status; further ones count without their
/// tenant. 1,000 tenants with a handful of models and statuses each fit; a scrape stays within a few megabytes.
pub const SERIES: usize = 16 << 10;

/// How long a backend's machine may leave what is sent to it unacknowledged, or a question whether it is there unanswered,
/// until the connection is given up. Linux would try for 15 minutes, and ask after two hours. Long enough for a server that
/// reads a large body late: Linux counts a closed window, too.
pub const PEER_SILENT_MS: u32 = 15_000;

/// How often it is asked, once it has been silent for that long.
pub const PEER_ASKED_SECONDS: u64 = 5;

/// Messages about requests between two cores: in the ring, and behind it while the receiver is stalled. A core at full load
/// sends some hundred in a round; beyond both, a message is dropped, and what waits for its answer has a time-out.
pub const REQUEST_MESSAGES: usize = 1024;
pub const REQUEST_MESSAGES_WAITING: usize = 64 << 10;

/// Bytes of answers between two cores. Streams that other cores follow send what they receive; a stalled core keeps no more
/// than this of each other core alive.
pub const REQUEST_MESSAGE_BYTES: u64 = 64 << 20;

/// Control messages between two cores: health of backends, addresses, drain. A few for each backend, seldom.
pub const CONTROL_MESSAGES: usize = 256;
pub const CONTROL_MESSAGES_WAITING: usize = 4096;
pub const CONTROL_MESSAGE_BYTES: u64 = 4 << 20;

/// Buffers of log lines between two cores, 36 KiB each. More than a data core may have under way by itself (`LOG_BYTES`).
pub const LOG_MESSAGES: usize = 128;
pub const LOG_MESSAGE_BYTES: u64 = 8 << 20;

/// Log lines of one data core that are not written yet. At 300 bytes a line that is two seconds of 7,000 requests a second;
/// beyond, lines are dropped and counted: a disk or pipe that is stuck costs the log alone.
pub const LOG_BYTES: usize = 4 << 20;

/// Messages a core receives before its other tasks run.
pub const MESSAGES_A_ROUND: usize = 256;

/// How long a core may make no progress before the process ends, so that it is started again. Everything that a core does
/// at a time takes milliseconds; a host that takes the CPU away for so long serves nobody either.
pub const STALL_MS: u64 = 10_000;

/// Messages about the process that standard error has not taken yet, in lines and bytes; beyond, they are dropped and counted.
pub const TOLD_LINES: usize = 1024;
pub const TOLD_BYTES: usize = 1 << 20;

/// Most connections of the admin listener at a time; one too many is closed at once. Probes, a scraper and a person take
/// less than ten.
pub const ADMIN_CONNECTIONS: usize = 64;

/// Largest head of a request to the admin listener.
pub const ADMIN_HEAD_BYTES: usize = 16 << 10;
