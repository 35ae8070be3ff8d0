//! A mock model's behaviour, parsed from its name, and its response bodies. Pure.

/// Bounds what a name can request, so that a typing error does not exhaust the machine's memory.
const CONTENT_BYTES: u64 = 16 << 20;

#[derive(Debug, PartialEq, Eq)]
pub struct Behaviour {
    pub first_byte_ms: u64,
    pub chunks: u64,
    pub gap_ms: u64,
    /// Per chunk.
    pub content_bytes: u64,
    pub status: u16,
    pub cut_after: Option<u64>,
}

impl Behaviour {
    /// Unknown parts are ignored.
    pub fn of(model: &str) -> Behaviour {
        let mut behaviour =
            Behaviour { first_byte_ms: 0, chunks: 16, gap_ms: 0, content_bytes: 8, status: 200, cut_after: None };
        for part in model.split('-').skip(1) {
            let Some(value) = part.get(1..).and_then(|digits| digits.parse::<u64>().ok()) else { continue };
            match part.as_bytes()[0] {
                b't' => behaviour.first_byte_ms = value,
                b'n' => behaviour.chunks = value.min(1 << 20),
                b'i' => behaviour.gap_ms = value,
                b'b' => behaviour.content_bytes = value.min(CONTENT_BYTES),
                b's' => {
                    behaviour.status = u16::try_from(value).ok().filter(|&s| (200..600).contains(&s)).unwrap_or(200)
                }
                b'c' => behaviour.cut_after = Some(value),
                _ => {}
            }
        }
        behaviour
    }

    pub fn whole_body(&self, model: &str, call: u64) -> Vec<u8> {
        let content = "x".repeat((self.content_bytes * self.chunks).min(CONTENT_BYTES) as usize);
        let (model, tokens) = (text(model), self.chunks);
        format!(
            r#"{{"id":"chatcmpl-{call}","object":"chat.completion","created":1,"model":{model},"choices":[{{"index":0,"message":{{"role":"assistant","content":"{content}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":10,"completion_tokens":{tokens},"total_tokens":{}}}}}"#,
            tokens + 10
        )
        .into_bytes()
    }

    pub fn event(&self, model: &str, call: u64, number: u64, at_us: u64) -> String {
        let content = "x".repeat(self.content_bytes as usize);
        let role = if number == 0 { r#""role":"assistant","# } else { "" };
        envelope(model, call, &format!(r#"{{{role}"content":"{content}"}}"#), "null", at_us)
    }

    pub fn last_event(&self, model: &str, call: u64, at_us: u64) -> String {
        envelope(model, call, "{}", r#""stop""#, at_us)
    }
}

fn envelope(model: &str, call: u64, delta: &str, finish: &str, at_us: u64) -> String {
    let model = text(model);
    format!(
        r#"{{"id":"chatcmpl-{call}","object":"chat.completion.chunk","created":1,"model":{model},"choices":[{{"index":0,"delta":{delta},"finish_reason":{finish}}}],"at_us":{at_us}}}"#
    )
}

fn text(model: &str) -> String {
    serde_json::to_string(model).unwrap_or_else(|_| "\"\"".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_it_all() {
        let found = Behaviour::of("mock-t20-n100-i10-b16-s503-c40");
        let wanted = Behaviour {
            first_byte_ms: 20,
            chunks: 100,
            gap_ms: 10,
            content_bytes: 16,
            status: 503,
            cut_after: Some(40),
        };
        assert_eq!(found, wanted);
        assert_eq!(Behaviour::of("gpt-4o-mini"), Behaviour::of("mock"));
    }

    #[test]
    fn bodies_are_json() {
        let behaviour = Behaviour::of("a\"b-n3");
        for body in [behaviour.event("a\"b", 1, 0, 5), behaviour.last_event("a\"b", 1, 5)] {
            serde_json::from_str::<serde_json::Value>(&body).unwrap();
        }
        serde_json::from_slice::<serde_json::Value>(&behaviour.whole_body("a\"b", 1)).unwrap();
    }
}
