//! Golden files: visible bytes, rewritten with `UPDATE=1`. Inputs are in the formats of OpenAI, vLLM and llama.cpp.

use crate::dialect::facts::{Endpoint, EventKind, PublicError, StreamVerdict};
use crate::dialect::openai::*;
use crate::wire::json::Tape;
use crate::wire::sse::Splitter;
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/openai").join(name)
}

fn check(path: &Path, bytes: &[u8]) {
    crate::golden::check(path, bytes);
}

/// The inputs in a folder, by suffix; at least one.
fn inputs(folder: &Path, end: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder of golden files");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.to_string_lossy().ends_with(end))
        .collect();
    assert!(!paths.is_empty());
    paths.sort();
    paths
}

fn endpoint(bytes: &[u8]) -> Endpoint {
    match memchr::memmem::find(bytes, b"text_completion") {
        Some(_) => Endpoint::Completions,
        None => Endpoint::ChatCompletions,
    }
}

/// Splits a stream as the gateway does, and converts it to a non-streaming answer.
#[test]
fn streams_become_whole_answers() {
    for path in inputs(&folder("streamed"), ".in.sse") {
        let stream = std::fs::read(&path).expect("readable");
        let endpoint = endpoint(&stream);
        let (mut splitter, mut verdict, mut tape) = (Splitter::new(), StreamVerdict::new(), Tape::new());
        let (mut events, mut usage) = (Vec::new(), None);
        while let Some(event) = splitter.next(&stream).expect("short events") {
            let data = splitter.data(&event, &stream);
            if data.is_empty() {
                continue;
            }
            let facts = event_facts(endpoint, data, &mut tape);
            verdict.note(&facts);
            match facts.kind {
                EventKind::Done => {}
                EventKind::UsageOnly => usage = Some(data.to_vec()),
                _ => crate::wire::sse::event(&mut events, data),
            }
        }
        let stored = verdict.stored();
        assert!(stored.is_ok(), "{}: {stored:?}", path.display());
        let whole = whole_of(endpoint, &events, usage.as_deref());
        let mut whole = whole.unwrap_or_else(|| panic!("{} cannot be aggregated", path.display()));
        assert_eq!(answer_facts(endpoint, &whole, &mut tape).stored, Ok(()));
        whole.push(b'\n');
        check(&path.with_extension("").with_extension("out.json"), &whole);
    }
}

#[test]
fn whole_answers_become_streams() {
    for path in inputs(&folder("whole"), ".in.json") {
        let whole = std::fs::read(&path).expect("readable");
        let streamed = streamed_of(endpoint(&whole), &whole);
        let streamed = streamed.unwrap_or_else(|| panic!("{} cannot be converted to chunks", path.display()));
        let mut stream = streamed.events;
        stream.extend(streamed.usage_event.unwrap_or_default());
        crate::wire::sse::event(&mut stream, DONE);
        check(&path.with_extension("").with_extension("out.sse"), &stream);
    }
}

#[test]
fn bodies_of_our_own() {
    let mut out = Vec::new();
    let error = PublicError {
        status: 404,
        message: "The model `a\"b\\c\n\u{7f}é` does not exist.",
        kind: "invalid_request_error",
        code: Some("model_not_found"),
        param: Some("model"),
        request_id: "req-1",
    };
    write_error(&mut out, &error);
    out.push(b'\n');
    let server = PublicError { message: "Try again.", kind: "server_error", code: None, param: None, ..error };
    write_error(&mut out, &server);
    out.push(b'\n');
    check(&folder("bodies").join("errors.json"), &out);

    out.clear();
    write_error_event(&mut out, &error);
    write_response_error_event(&mut out, &error, b"");
    let before =
        b"data: {\"sequence_number\":1}\n\ndata: {\"sequence_number\": 41,\"delta\":\"\\\"sequence_number\\\":9\"}\n\n";
    write_response_error_event(&mut out, &error, before);
    check(&folder("bodies").join("error.sse"), &out);

    out.clear();
    write_models(&mut out, [].into_iter(), 1_700_000_000);
    out.push(b'\n');
    write_models(&mut out, ["gpt-4o-mini", "a/b \"quoted\""].into_iter(), 1_700_000_000);
    out.push(b'\n');
    write_model(&mut out, "gpt-4o-mini", 1_700_000_000);
    out.push(b'\n');
    check(&folder("bodies").join("models.json"), &out);
    for line in out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        serde_json::from_slice::<serde_json::Value>(line).expect("JSON");
    }
}
