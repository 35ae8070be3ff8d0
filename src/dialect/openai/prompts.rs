//! Completions of several prompts in one request (the legacy API): the prompts of a request, and each request's own answer out of
//! a common one. Bytes of prompts and choices are taken as they are. Must never put a choice in another one's place.

use std::ops::Range;

use super::embeddings::{Input, Inputs, shares};
use super::usage::token_usage;
use crate::dialect::facts::{Parts, TokenUsage};
use crate::wire::Span;
use crate::wire::json::{self, Kind, Tape, Value};

/// Root, its members, the choices, their members.
const LEVELS: usize = 3;

/// The prompts of a request, if they are texts, each is answered once, and they may go with those of other requests. `tape` is
/// scratch.
pub fn prompts(body: &[u8], tape: &mut Tape, most: usize) -> Option<Inputs> {
    json::parse(body, tape).ok()?;
    let root = tape.root();
    for member in root.members() {
        let value = member.value;
        let is_usual = match member.name.plain(body)? {
            b"stream" => value.is_null() || value.as_bool() == Some(false),
            b"n" | b"best_of" => value.is_null() || value.as_u64(body) == Some(1),
            // Drawn from one source for all prompts of a request.
            b"seed" | b"prompt_embeds" => value.is_null(),
            _ => true,
        };
        if !is_usual {
            return None;
        }
    }
    let value = root.get(body, "prompt")?;
    let (mut inputs, mut text) = (Vec::new(), Vec::new());
    let mut add = |value: Value<'_>| {
        inputs.push(Input { span: value.span(), weight: value.text(body, &mut text)?.len() as u64 });
        (inputs.len() <= most).then_some(())
    };
    match value.kind() {
        Kind::String => add(value)?,
        Kind::Array => value.elements().try_for_each(add)?,
        _ => return None,
    }
    (!inputs.is_empty()).then_some(Inputs { array: value.span(), inputs })
}

/// Each request's own answer out of one to all of their prompts: `ranges` are the places of each one's, `weights` the lengths of the
/// prompts. Counts of tokens are parts by length, and exactly the whole together. None if there is not one choice for each prompt.
/// `tape` is scratch.
pub fn split(
    answer: &[u8],
    ranges: &[Range<usize>],
    weights: &[u64],
    tape: &mut Tape,
) -> Option<Vec<(Vec<u8>, TokenUsage)>> {
    json::parse_outline(answer, tape, LEVELS).ok()?;
    let root = tape.root();
    let mut choices = vec![None; weights.len()];
    for choice in root.get(answer, "choices")?.elements() {
        let index = choice.get(answer, "index")?;
        let place = choices.get_mut(usize::try_from(index.as_u64(answer)?).ok()?)?;
        let text = choice.get(answer, "text")?.inside()?;
        if place.replace((choice.span(), index.span(), text.len() as u64)).is_some() {
            return None;
        }
    }
    let choices: Vec<(Span, Span, u64)> = choices.into_iter().collect::<Option<_>>()?;
    let usage = root.get(answer, "usage")?;
    let count = |name| usage.get(answer, name).and_then(|count| count.as_u64(answer));
    let parts = token_usage(usage, answer)?.parts();
    let prompt = shares(count("prompt_tokens")?, weights);
    let said: Vec<u64> = choices.iter().map(|(_, _, length)| *length).collect();
    let completion = shares(count("completion_tokens")?, &said);
    let (cached, cache_written) = (shares(parts.cached, weights), shares(parts.cache_written, weights));
    let reasoning = shares(parts.reasoning, &said);
    let part = |range: &Range<usize>| {
        let sum = |all: &[u64]| all.get(range.clone()).map(|part| part.iter().sum::<u64>());
        let [cached, cache_written, reasoning] = [&cached, &cache_written, &reasoning].map(|all| sum(all).unwrap_or(0));
        let parts = Parts { cached, cache_written, reasoning };
        let tokens = TokenUsage::counted(sum(&prompt), sum(&completion), None).with_parts(parts);
        let own = choices.get(range.clone())?;
        let mut out = vec![b'{'];
        for (place, member) in root.members().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            out.extend_from_slice(member.name.span().of(answer));
            out.push(b':');
            if member.is_named(answer, "choices") {
                write(own, answer, &mut out);
            } else if member.is_named(answer, "usage") {
                let TokenUsage { prompt, completion, total, .. } = tokens;
                let counts = format!(
                    "{{\"prompt_tokens\":{prompt},\"completion_tokens\":{completion},\"total_tokens\":{total}}}"
                );
                out.extend_from_slice(counts.as_bytes());
            } else {
                out.extend_from_slice(member.value.span().of(answer));
            }
        }
        out.push(b'}');
        Some((out, tokens))
    };
    ranges.iter().map(part).collect()
}

/// These choices, numbered from 0.
fn write(choices: &[(Span, Span, u64)], answer: &[u8], out: &mut Vec<u8>) {
    for (place, (choice, index, _)) in choices.iter().enumerate() {
        out.push(if place == 0 { b'[' } else { b',' });
        out.extend_from_slice(Span { start: choice.start, end: index.start }.of(answer));
        out.extend_from_slice(itoa::Buffer::new().format(place).as_bytes());
        out.extend_from_slice(Span { start: index.end, end: choice.end }.of(answer));
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_answered_once_are_prompts() {
        let read = |body: &str| {
            let found = prompts(body.as_bytes(), &mut Tape::new(), 2)?;
            let text = |input: &Input| String::from_utf8(input.span.of(body.as_bytes()).to_vec()).unwrap();
            Some(found.inputs.iter().map(text).collect::<Vec<_>>().join(" "))
        };
        for (body, expected) in [
            (r#"{"prompt":"a","n":1,"stream":false,"seed":null}"#, Some("\"a\"")),
            (r#"{"prompt":["a","b\n"],"best_of":null}"#, Some("\"a\" \"b\\n\"")),
            (r#"{"prompt":["a","b","c"]}"#, None),
            (r#"{"prompt":[]}"#, None),
            (r#"{"prompt":[1,2]}"#, None),
            (r#"{"prompt":["a",[1]]}"#, None),
            (r#"{"prompt":"a","n":2}"#, None),
            (r#"{"prompt":"a","best_of":3}"#, None),
            (r#"{"prompt":"a","stream":true}"#, None),
            (r#"{"prompt":"a","seed":7}"#, None),
            (r#"{"prompt":"a","\u006e":2}"#, None),
            (r#"{"input":"a"}"#, None),
        ] {
            assert_eq!(read(body).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn each_gets_its_own_choices_and_its_part_of_the_tokens() {
        let answer = r#"{"id":"c","object":"text_completion","choices":[{"text":"bbb","index":1,"logprobs":{"a":[1]}},{"index":0,"text":"a"},{"text":"","index" : 2}],"usage":{"prompt_tokens":10,"completion_tokens":8,"total_tokens":18,"details":{}},"x":[1e0]}"#;
        let split = |answer: &str, ranges: &[Range<usize>]| {
            split(answer.as_bytes(), ranges, &[5, 3, 2], &mut Tape::new()).map(|parts| {
                parts.into_iter().map(|(body, tokens)| (String::from_utf8(body).unwrap(), tokens)).collect::<Vec<_>>()
            })
        };
        let parts = split(answer, &[0..1, 1..3]).unwrap();
        assert_eq!(
            parts[0].0,
            r#"{"id":"c","object":"text_completion","choices":[{"index":0,"text":"a"}],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7},"x":[1e0]}"#
        );
        assert_eq!(
            parts[1].0,
            r#"{"id":"c","object":"text_completion","choices":[{"text":"bbb","index":0,"logprobs":{"a":[1]}},{"text":"","index" : 1}],"usage":{"prompt_tokens":5,"completion_tokens":6,"total_tokens":11},"x":[1e0]}"#
        );
        let cached =
            answer.replace("\"details\":{}", r#""prompt_tokens_details":{"cached_tokens":6,"cache_write_tokens":4}"#);
        let parts = split(&cached, &[0..1, 1..3]).unwrap();
        let parts: Vec<_> =
            parts.iter().map(|(_, tokens)| (tokens.prompt, tokens.cached, tokens.cache_written)).collect();
        assert_eq!(parts, [(5, 3, 2), (5, 3, 2)]);
        for other in [
            answer.replace("\"index\":1", "\"index\":0"),
            answer.replace("\"index\":1", "\"index\":3"),
            answer.replace("\"completion_tokens\":8,", ""),
            answer.replace(r#",{"text":"","index" : 2}"#, ""),
        ] {
            assert!(split(&other, &[0..1, 1..3]).is_none(), "{other}");
        }
    }
}
