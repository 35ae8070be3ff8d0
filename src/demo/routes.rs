//! From a path to an endpoint; the models on offer; the count of calls that every answer shows.
//! The count is the only state. Must never answer for a model it does not list.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::reply::{Failure, Pace, Reply};
use super::request::{Method, Request};
use super::{chat, completions, embeddings};

/// The models on offer and how fast each speaks.
const MODELS: [(&str, Pace); 2] = [("demo", Pace::Natural), ("demo-fast", Pace::Immediate)];

/// Unix time, in seconds, of the models' making: any constant will do, and this one is 1 January 2025.
const MODELS_CREATED: u64 = 1_735_689_600;

#[derive(Default)]
pub struct Routes {
    calls: AtomicU64,
}

/// What an endpoint gets: the body, the model's pace, and which call this is (the first is 1).
pub struct Call {
    pub body: Value,
    pub model: String,
    pub pace: Pace,
    pub number: u64,
}

impl Routes {
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// The reply to `request`, whatever it holds.
    pub fn answer(&self, request: &Request) -> Reply {
        self.reply(request).unwrap_or_else(Failure::reply)
    }

    fn reply(&self, request: &Request) -> Result<Reply, Failure> {
        let endpoint: fn(&Call) -> Result<Reply, Failure> = match request.path.as_str() {
            "/health" => return get(request, || Ok(json!({"status": "ok", "calls": self.calls()}))),
            "/v1/models" => return get(request, || Ok(model_list())),
            "/v1/chat/completions" => chat::answer,
            "/v1/completions" => completions::answer,
            "/v1/embeddings" => embeddings::answer,
            path => match path.strip_prefix("/v1/models/") {
                Some(name) => return get(request, || find_model(name).map(|(name, _)| model(name))),
                None => return Err(unknown_path(request)),
            },
        };
        if request.method != Method::Post {
            return Err(wrong_method("POST"));
        }
        let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        endpoint(&read_call(&request.body, number)?)
    }
}

fn read_call(body: &[u8], number: u64) -> Result<Call, Failure> {
    let body: Value = serde_json::from_slice(body).map_err(|error| Failure {
        status: 400,
        message: format!("The body is not valid JSON: {error}."),
        param: None,
        code: None,
    })?;
    if !body.is_object() {
        return Err(Failure { status: 400, message: "The body must be an object.".into(), param: None, code: None });
    }
    let Some(asked) = body.get("model").and_then(Value::as_str) else {
        return Err(Failure::invalid("model", "You must provide a model."));
    };
    let (model, pace) = find_model(asked)?;
    let model = model.to_owned();
    Ok(Call { body, model, pace, number })
}

fn find_model(name: &str) -> Result<(&'static str, Pace), Failure> {
    MODELS.iter().find(|(known, _)| *known == name).copied().ok_or_else(|| Failure {
        status: 404,
        message: format!("The model `{name}` does not exist here; there are `demo` and `demo-fast`."),
        param: Some("model"),
        code: Some("model_not_found"),
    })
}

fn model_list() -> Value {
    let list: Vec<Value> = MODELS.iter().map(|(name, _)| model(name)).collect();
    json!({"object": "list", "data": list})
}

fn model(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": MODELS_CREATED, "owned_by": "ringway-demo"})
}

fn get(request: &Request, body: impl FnOnce() -> Result<Value, Failure>) -> Result<Reply, Failure> {
    match request.method {
        Method::Get | Method::Head => Ok(Reply::Whole { status: 200, body: body()?, pace: Pace::Immediate }),
        Method::Post | Method::Other => Err(wrong_method("GET")),
    }
}

fn wrong_method(right: &str) -> Failure {
    Failure {
        status: 405,
        message: format!("This path takes {right}."),
        param: None,
        code: Some("method_not_supported"),
    }
}

fn unknown_path(request: &Request) -> Failure {
    let message = format!("There is nothing at {}.", request.path);
    Failure { status: 404, message, param: None, code: Some("unknown_url") }
}
