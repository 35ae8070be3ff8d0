//! `/v1/embeddings`: a vector that depends on the text alone; texts that share words lie near each other.
//! Pure. Each word has a fixed pseudo-random direction, and a text is the sum of its words, made one long.

use serde_json::{Value, json};

use super::prompt::{count_tokens, number};
use super::reply::{Failure, Reply};
use super::routes::Call;
use super::text::hash;

/// Length of a vector when the request does not say.
const DIMENSIONS: u64 = 64;

/// Longest vector on request, as with OpenAI's largest model.
const DIMENSIONS_MAX: u64 = 3072;

/// Most inputs in one request, as with OpenAI.
const INPUTS: usize = 2048;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Answers one request for embeddings.
///
/// # Errors
/// When the input is missing or of a type that OpenAI does not take either.
pub fn answer(call: &Call) -> Result<Reply, Failure> {
    let inputs = inputs(call.body.get("input"))?;
    let dimensions = match number(&call.body, "dimensions")?.unwrap_or(DIMENSIONS) {
        dimensions @ 1..=DIMENSIONS_MAX => dimensions as usize,
        _ => return Err(Failure::invalid("dimensions", format!("`dimensions` must lie in 1 to {DIMENSIONS_MAX}."))),
    };
    let encode: fn(&[f32]) -> Value = match call.body.get("encoding_format").unwrap_or(&Value::Null) {
        Value::Null => |vector| json!(vector),
        Value::String(format) if format == "float" => |vector| json!(vector),
        Value::String(format) if format == "base64" => |vector| json!(base64(vector)),
        _ => return Err(Failure::invalid("encoding_format", "`encoding_format` must be `float` or `base64`.")),
    };
    let item = |(index, text): (usize, &String)| json!({"object": "embedding", "index": index, "embedding": encode(&vector(text, dimensions))});
    let data: Vec<Value> = inputs.iter().enumerate().map(item).collect();
    let tokens: usize = inputs.iter().map(|text| count_tokens(text)).sum();
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    let body = json!({"object": "list", "data": data, "model": call.model, "usage": usage});
    Ok(Reply::Whole { status: 200, body, pace: call.pace })
}

fn inputs(input: Option<&Value>) -> Result<Vec<String>, Failure> {
    let wrong = || Failure::invalid("input", format!("`input` must be a string, tokens, or a list of 1 to {INPUTS}."));
    match input {
        Some(Value::String(text)) => Ok(vec![text.clone()]),
        Some(Value::Array(list)) if list.first().is_some_and(Value::is_u64) => {
            Ok(vec![tokens(list).ok_or_else(wrong)?])
        }
        Some(Value::Array(list)) if (1..=INPUTS).contains(&list.len()) => list
            .iter()
            .map(|item| match item {
                Value::String(text) => Ok(text.clone()),
                Value::Array(list) => tokens(list).ok_or_else(wrong),
                _ => Err(wrong()),
            })
            .collect(),
        _ => Err(wrong()),
    }
}

/// Token numbers as words.
fn tokens(list: &[Value]) -> Option<String> {
    let words: Option<Vec<String>> = list.iter().map(|token| token.as_u64().map(|token| token.to_string())).collect();
    words.map(|words| words.join(" "))
}

fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut sum = vec![0f32; dimensions];
    // A start of its own, so that a text without words has a direction too.
    for word in std::iter::once("").chain(text.split_whitespace()) {
        let mut state = hash(word.to_lowercase().as_bytes()) | 1;
        for place in &mut sum {
            // xorshift64: any spread of bits will do here.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *place += (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
        }
    }
    let length = sum.iter().map(|place| place * place).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    sum.iter_mut().for_each(|place| *place /= length);
    sum
}

/// RFC 4648 base64 of the numbers as little-endian 32-bit floats, which is what OpenAI's SDKs ask for.
fn base64(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|place| place.to_le_bytes()).collect();
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let sextet = bits >> (18 - 6 * place) & 63;
            text.push(if place <= group.len() { char::from(ALPHABET[sextet as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine(left: &str, right: &str) -> f32 {
        vector(left, 64).iter().zip(vector(right, 64)).map(|(left, right)| left * right).sum()
    }

    #[test]
    fn near_texts_have_near_vectors() {
        assert!((cosine("a ring of cores", "a ring of cores") - 1.0).abs() < 1e-3);
        assert!(cosine("a ring of cores", "a ring of fire") > cosine("a ring of cores", "seven green bottles"));
        assert!(vector("", 3072).iter().all(|place| place.is_finite()));
    }

    #[test]
    fn base64_is_rfc_4648() {
        assert_eq!(base64(&[]), "");
        assert_eq!(base64(&[1.0]), "AACAPw==");
        assert_eq!(base64(&[1.0, -2.0]), "AACAPwAAAMA=");
        assert_eq!(base64(&[1.0, -2.0, 0.5]), "AACAPwAAAMAAAAA/");
    }
}
