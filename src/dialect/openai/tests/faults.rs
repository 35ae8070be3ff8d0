//! Kinds of errors, for bodies as servers send them.

use crate::dialect::facts::ErrorKind::{self, *};
use crate::dialect::openai::error_kind;
use crate::limits::{ERROR_BODY_BYTES, ERROR_MESSAGE_BYTES};
use crate::wire::json::Tape;
use crate::wire::json::tests::law;
use proptest::prelude::*;

fn kind(body: &str) -> Option<ErrorKind> {
    error_kind(body.as_bytes(), &mut Tape::new())
}

#[test]
fn errors_of_providers() {
    for (body, expected) in [
        // OpenAI
        (
            r#"{"error":{"message":"Too long.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
            ContextWindow,
        ),
        (
            r#"{"error":{"message":"Too long.","type":"invalid_request_error","param":"messages[0].content","code":"string_above_max_length"}}"#,
            ContextWindow,
        ),
        (
            r#"{"error":{"message":"No more.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
            QuotaExhausted,
        ),
        (
            r#"{"error":{"message":"Slow down: 200 of 200 tokens; the context length is not to blame.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#,
            RateLimited,
        ),
        (r#"{"error":{"message":"Slow down.","type":"requests","param":null,"code":null}}"#, RateLimited),
        (r#"{"error":{"message":"Sorry.","type":"server_error","param":null,"code":null}}"#, Server),
        (
            r#"{"error":{"message":"The engine is currently overloaded","type":"server_error","param":null,"code":null}}"#,
            Overloaded,
        ),
        (
            r#"{"type":"error","error":{"type":"service_unavailable_error","code":"server_is_overloaded","message":"Later."}}"#,
            Overloaded,
        ),
        (
            r#"{"error":{"message":"Wrong key.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#,
            Client,
        ),
        (
            r#"{"error":{"message":"No such model.","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#,
            Client,
        ),
        // Azure
        (r#"{"error":{"code":"429","message":"Requests have exceeded the call rate limit."}}"#, RateLimited),
        (r#"{"error":{"code":"content_filter","message":"x","status":400}}"#, Client),
        // Anthropic
        (
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}"#,
            Overloaded,
        ),
        (r#"{"type":"error","error":{"type":"rate_limit_error","message":"x"}}"#, RateLimited),
        (r#"{"type":"error","error":{"type":"billing_error","message":"x"}}"#, QuotaExhausted),
        (r#"{"type":"error","error":{"type":"api_error","message":"x"}}"#, Server),
        (r#"{"type":"error","error":{"type":"timeout_error","message":"x"}}"#, Server),
        (r#"{"type":"error","error":{"type":"authentication_error","message":"x"}}"#, Client),
        (r#"{"type":"error","error":{"type":"request_too_large","message":"x"}}"#, Client),
        (
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#,
            ContextWindow,
        ),
        (
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000"}}"#,
            ContextWindow,
        ),
        (
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low"}}"#,
            QuotaExhausted,
        ),
        // Google, in an array
        (
            r#"[{"error":{"code":429,"message":"You exceeded your current quota","status":"RESOURCE_EXHAUSTED"}}]"#,
            RateLimited,
        ),
        (r#"[{"error":{"code":503,"message":"Later.","status":"UNAVAILABLE"}}]"#, Overloaded),
        (
            r#"[{"error":{"code":400,"message":"The input token count (1200000) exceeds the maximum","status":"INVALID_ARGUMENT"}}]"#,
            ContextWindow,
        ),
        // OpenRouter, DeepSeek, Mistral, Moonshot
        (r#"{"error":{"code":402,"message":"x"},"user_id":"u"}"#, QuotaExhausted),
        (r#"{"error":{"code":502,"message":"x","metadata":{"provider_name":"y"}}}"#, Server),
        (
            r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,"code":"invalid_request_error"}}"#,
            QuotaExhausted,
        ),
        (
            r#"{"object":"error","message":"x","type":"service_tier_capacity_exceeded","param":null,"code":"3505"}"#,
            Overloaded,
        ),
        (r#"{"error":{"message":"x","type":"exceeded_current_quota_error"}}"#, QuotaExhausted),
        (r#"{"error":{"message":"x","type":"engine_overloaded_error"}}"#, Overloaded),
    ] {
        assert_eq!(kind(body), Some(expected), "{body}");
    }
}

#[test]
fn errors_of_model_servers() {
    for (body, expected) in [
        // vLLM: without an inner object, and with one; only the message mentions the context window.
        (
            r#"{"object":"error","message":"This model's maximum context length is 4096 tokens. However, you requested 5000.","type":"BadRequestError","param":null,"code":400}"#,
            ContextWindow,
        ),
        (
            r#"{"error":{"message":"This model's maximum context length is 4096 tokens.","type":"BadRequestError","param":null,"code":400}}"#,
            ContextWindow,
        ),
        (
            r#"{"error":{"message":"The decoder prompt (length 9) is longer than the maximum model length of 8.","type":"BadRequestError","param":null,"code":400}}"#,
            ContextWindow,
        ),
        (
            r#"{"object":"error","message":"max_tokens must be at least 1, got -186.","type":"BadRequestError","param":null,"code":400}"#,
            ContextWindow,
        ),
        (
            r#"{"object":"error","message":"max_tokens must be at least 1, got 0.","type":"BadRequestError","param":null,"code":400}"#,
            Client,
        ),
        (r#"{"object":"error","message":"No such model.","type":"NotFoundError","param":null,"code":404}"#, Client),
        (r#"{"error":{"message":"EngineCore died.","type":"InternalServerError","param":null,"code":500}}"#, Server),
        // SGLang
        (
            r#"{"object":"error","message":"The input (61709 tokens) is longer than the model's context length (40960 tokens).","type":"BadRequestError","param":null,"code":400}"#,
            ContextWindow,
        ),
        (
            r#"{"object":"error","message":"The request queue is full.","type":"SERVICE_UNAVAILABLE","param":null,"code":503}"#,
            Overloaded,
        ),
        // llama.cpp
        (
            r#"{"error":{"code":400,"message":"request (4476 tokens) exceeds the available context size (4096 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":4476,"n_ctx":4096}}"#,
            ContextWindow,
        ),
        (
            r#"{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"invalid_request_error"}}"#,
            ContextWindow,
        ),
        (r#"{"error":{"code":500,"message":"Context size has been exceeded.","type":"server_error"}}"#, ContextWindow),
        (
            r#"{"error":{"code":500,"message":"input is too large to process. increase the physical batch size","type":"server_error"}}"#,
            ContextWindow,
        ),
        (r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#, Overloaded),
        (r#"{"error":{"code":401,"message":"Invalid API Key","type":"authentication_error"}}"#, Client),
        (r#"{"error":{"code":501,"message":"x","type":"not_supported_error"}}"#, Server),
        // TGI
        (
            r#"{"error":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 1512. Given: 6644 `inputs` tokens and 100 `max_new_tokens`","error_type":"validation"}"#,
            ContextWindow,
        ),
        (
            r#"{"error":"Input validation error: `inputs` must have less than 1024 tokens. Given: 1699","error_type":"validation"}"#,
            ContextWindow,
        ),
        (
            r#"{"error":"Input validation error: `temperature` must be strictly positive","error_type":"validation"}"#,
            Client,
        ),
        (r#"{"error":"Model is overloaded","error_type":"overloaded"}"#, Overloaded),
        (r#"{"error_type":"generation","error":"Request failed during generation"}"#, Server),
        // Ollama
        (r#"{"error":"model 'x' not found"}"#, Unknown),
        (
            r#"{"error":{"message":"the input length exceeds the context length","type":"api_error","param":null,"code":null}}"#,
            ContextWindow,
        ),
    ] {
        assert_eq!(kind(body), Some(expected), "{body}");
    }
}

#[test]
fn what_is_no_error_is_none() {
    for body in [
        "",
        "null",
        "[]",
        "{}",
        "Bad Gateway",
        "<html><body>502 maximum context length</body></html>",
        r#"{"error":null}"#,
        r#"{"error":{"message":"cut"#,
        r#"{"detail":"Not Found"}"#,
        r#"{"object":"chat.completion","choices":[]}"#,
        r#"{"type":"message","content":[]}"#,
        r#"{"data":{"error":{"code":429}}}"#,
    ] {
        assert_eq!(kind(body), None, "{body}");
    }
}

#[test]
fn odd_members_mean_nothing() {
    for body in [
        r#"{"error":{}}"#,
        r#"{"error":[]}"#,
        r#"{"error":1}"#,
        r#"{"error":{"code":-1,"type":null,"message":5,"status":[]}}"#,
        r#"{"error":{"code":99,"type":{"x":429}}}"#,
        r#"{"error":{"code":"4290","type":"error"}}"#,
        r#"{"error":{"type":"rate_limit_exceeded_rate_limit_exceeded_rate_limit_exceeded"}}"#,
        r#"{"error":{"type":"\u0072ate_limit_error"}}"#,
    ] {
        assert_eq!(kind(body), Some(Unknown), "{body}");
    }
}

#[test]
fn spellings_of_names_do_not_matter() {
    for name in ["rate_limit_error", "RateLimitError", "RATE_LIMIT", "rate-limit", "ratelimit"] {
        assert_eq!(kind(&format!(r#"{{"error":{{"type":"{name}"}}}}"#)), Some(RateLimited), "{name}");
    }
}

#[test]
fn large_bodies_cost_little() {
    let error = |message: &str| format!(r#"{{"error":{{"message":"{message}","code":400}}}}"#);
    let far = format!("{} maximum context length", "x".repeat(ERROR_MESSAGE_BYTES));
    assert_eq!(kind(&error(&far)), Some(Client), "phrases are searched at the start only");
    let long = format!("maximum context length {}", "x".repeat(ERROR_BODY_BYTES - 100));
    assert_eq!(kind(&error(&long)), Some(ContextWindow));
    let longer = format!("maximum context length {}", "x".repeat(ERROR_BODY_BYTES));
    assert_eq!(kind(&error(&longer)), None);
}

#[test]
fn any_body_is_survived() {
    let member = "\"(error|type|code|message|object|error_type|x)\":(null|429|\"error\"|\"overloaded\"|\\{\\}|\\[\\])";
    let near = prop::collection::vec(member, 0..5).prop_map(|members| members.join(","));
    law(2000, (near, prop::collection::vec(any::<u8>(), 0..60)), |(members, bytes)| {
        kind(&format!("{{{members}}}"));
        kind(&format!("[{{\"error\":{{{members}}}}}]"));
        error_kind(&bytes, &mut Tape::new());
        Ok(())
    });
}
