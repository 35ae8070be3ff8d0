//! Batches of embeddings, input by input: what is asked, a request without some of it, and an answer of parts that were answered
//! at other times. Bytes of inputs and embeddings are taken as they are. Must never put an embedding in another one's place.

use crate::dialect::facts::TokenUsage;
use crate::wire::Span;
use crate::wire::json::{self, Kind, Tape, Value};

/// Root, its members, the embeddings, their members: the numbers are nested deeper.
const LEVELS: usize = 3;

/// The inputs of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// Of the whole array.
    pub array: Span,
    pub inputs: Vec<Input>,
}

/// One text, or one array of token ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input {
    pub span: Span,
    /// What of the batch's tokens are its, as a part: ids are tokens, and of texts the bytes are counted.
    pub weight: u64,
}

/// An answer to several inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embeddings {
    /// The name of the model, with its quotes.
    pub model: Span,
    /// The embedding of each input, in their order.
    pub embeddings: Vec<Span>,
    pub prompt_tokens: u64,
}

/// The inputs of a request for several; none if there is one, or one of them is of another kind. `tape` is scratch.
pub fn inputs(body: &[u8], tape: &mut Tape, most: usize) -> Option<Inputs> {
    all_inputs(body, tape, most).filter(|inputs| inputs.inputs.len() > 1)
}

/// The inputs of a request for one or several; none if one is of another kind, or there is none. Of one that stands without an
/// array, or is an array of ids, the array is the input itself. `tape` is scratch.
pub fn all_inputs(body: &[u8], tape: &mut Tape, most: usize) -> Option<Inputs> {
    json::parse(body, tape).ok()?;
    let value = tape.root().get(body, "input")?;
    let (mut inputs, mut text) = (Vec::new(), Vec::new());
    if value.kind() != Kind::Array || value.is_numbers() {
        inputs.push(input(body, value, &mut text)?);
    } else {
        for element in value.elements() {
            inputs.push(input(body, element, &mut text)?);
            if inputs.len() > most {
                return None;
            }
        }
    }
    (1..=most).contains(&inputs.len()).then_some(Inputs { array: value.span(), inputs })
}

fn input(body: &[u8], value: Value<'_>, text: &mut Vec<u8>) -> Option<Input> {
    let weight = match value.kind() {
        Kind::String => value.text(body, text)?.len() as u64,
        Kind::Array if value.is_numbers() => {
            1 + value.span().of(body).iter().filter(|byte| **byte == b',').count() as u64
        }
        _ => return None,
    };
    Some(Input { span: value.span(), weight })
}

/// `body` without the inputs that are known; at least one is not. Everything else stays where it is, for those who know where: in
/// the place of what is left out there are spaces.
pub fn without(body: &[u8], inputs: &Inputs, is_known: impl Fn(usize) -> bool) -> Vec<u8> {
    let mut rest = body.to_vec();
    rest[inputs.array.start as usize + 1..inputs.array.end as usize - 1].fill(b' ');
    let mut is_first = true;
    for (_, input) in inputs.inputs.iter().enumerate().filter(|(place, _)| !is_known(*place)) {
        let (start, end) = (input.span.start as usize, input.span.end as usize);
        rest[start..end].copy_from_slice(&body[start..end]);
        if !std::mem::replace(&mut is_first, false) {
            // Between two inputs there was one.
            rest[start - 1] = b',';
        }
    }
    rest
}

/// The embeddings of a complete answer to `count` inputs, if it has one of each. `tape` is scratch.
pub fn embeddings(body: &[u8], count: usize, tape: &mut Tape) -> Option<Embeddings> {
    json::parse_outline(body, tape, LEVELS).ok()?;
    let root = tape.root();
    let text = |value: Value<'_>| (value.kind() == Kind::String).then(|| value.span());
    let model = root.get(body, "model").and_then(text)?;
    let usage = root.get(body, "usage")?;
    let prompt_tokens = usage.get(body, "prompt_tokens")?.as_u64(body)?;
    let mut found = vec![None; count];
    for item in root.get(body, "data")?.elements() {
        let index = usize::try_from(item.get(body, "index")?.as_u64(body)?).ok()?;
        let embedding = item.get(body, "embedding")?.span();
        if found.get_mut(index)?.replace(embedding).is_some() {
            return None;
        }
    }
    let embeddings = found.into_iter().collect::<Option<Vec<Span>>>()?;
    Some(Embeddings { model, embeddings, prompt_tokens })
}

/// What of `tokens` each part has: in proportion, and exactly `tokens` together.
pub fn shares(tokens: u64, weights: &[u64]) -> Vec<u64> {
    let all: u128 = weights.iter().map(|weight| u128::from(*weight)).sum::<u128>().max(1);
    let (mut sum, mut told) = (0_u128, 0_u64);
    let mut share = |weight: u64| {
        sum += u128::from(weight);
        let until = (u128::from(tokens) * sum / all) as u64;
        let share = until - told;
        told = until;
        share
    };
    weights.iter().map(|weight| share(*weight)).collect()
}

/// One input's part as it is kept: its tokens, the model's name, and the embedding.
pub fn write_part(model: &[u8], embedding: &[u8]) -> Vec<u8> {
    [b"{\"model\":", model, b",\"embedding\":", embedding, b"}"].concat()
}

/// The name of the model and the embedding in what [`write_part`] wrote.
pub fn read_part(part: &[u8], tape: &mut Tape) -> Option<(Span, Span)> {
    json::parse_outline(part, tape, 1).ok()?;
    let root = tape.root();
    Some((root.get(part, "model")?.span(), root.get(part, "embedding")?.span()))
}

/// An answer of these embeddings, in their order.
pub fn write<'a>(model: &[u8], embeddings: impl Iterator<Item = &'a [u8]>, tokens: TokenUsage) -> Vec<u8> {
    let mut out = b"{\"object\":\"list\",\"data\":[".to_vec();
    for (index, embedding) in embeddings.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"object\":\"embedding\",\"index\":");
        out.extend_from_slice(itoa::Buffer::new().format(index).as_bytes());
        out.extend_from_slice(b",\"embedding\":");
        out.extend_from_slice(embedding);
        out.push(b'}');
    }
    out.extend_from_slice(b"],\"model\":");
    out.extend_from_slice(model);
    let (prompt, total) = (tokens.prompt, tokens.total);
    out.extend_from_slice(format!(",\"usage\":{{\"prompt_tokens\":{prompt},\"total_tokens\":{total}}}}}").as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Option<Inputs> {
        inputs(body.as_bytes(), &mut Tape::new(), 100)
    }

    #[test]
    fn several_texts_or_arrays_of_ids_are_inputs() {
        let body = r#"{"model":"m","input":["a", "bc" ,"\"d,"],"x":1}"#;
        let found = read(body).unwrap();
        let told: Vec<(&str, u64)> = found
            .inputs
            .iter()
            .map(|input| (std::str::from_utf8(input.span.of(body.as_bytes())).unwrap(), input.weight))
            .collect();
        assert_eq!(told, [("\"a\"", 1), ("\"bc\"", 2), (r#""\"d,""#, 3)]);
        let ids = read(r#"{"input":[[1,2,3],[4]]}"#).unwrap();
        assert_eq!(ids.inputs.iter().map(|input| input.weight).collect::<Vec<_>>(), [3, 1]);
        for other in [r#"{"input":"a"}"#, r#"{"input":["a"]}"#, r#"{"input":[1,2]}"#, r#"{"input":["a",1]}"#, "[", "{}"]
        {
            assert_eq!(read(other), None, "{other}");
        }
        assert_eq!(inputs(br#"{"input":["a","b","c"]}"#, &mut Tape::new(), 2), None, "too many");
        for (body, expected) in [
            (r#"{"input":"ab"}"#, Some("\"ab\"")),
            (r#"{"input":["ab"]}"#, Some("\"ab\"")),
            (r#"{"input":[1,2]}"#, Some("[1,2]")),
            (r#"{"input":[[1,2]]}"#, Some("[1,2]")),
            (r#"{"input":[]}"#, None),
            (r#"{"input":7}"#, None),
            (r#"{"input":["a",1]}"#, None),
        ] {
            let found = all_inputs(body.as_bytes(), &mut Tape::new(), 2);
            let told = found.map(|found| found.inputs[0].span.of(body.as_bytes()).to_vec());
            assert_eq!(told.as_deref(), expected.map(str::as_bytes), "{body}");
        }
    }

    #[test]
    fn what_is_left_is_what_was_asked_without_what_is_known() {
        let body = "{\"model\":\"m\",\"input\":[ \"a\",\"b, c\",\n\"d\" , [1,2] ,\"e\"],\"dimensions\":3}";
        let found = read(body).unwrap();
        let whole: serde_json::Value = serde_json::from_str(body).unwrap();
        for known in 0..(1_u32 << 5) - 1 {
            let rest = without(body.as_bytes(), &found, |place| known & (1 << place) != 0);
            let mut expected = whole.clone();
            let all = whole["input"].as_array().unwrap();
            expected["input"] =
                (0..5).filter(|place| known & (1 << place) == 0).map(|place| all[place].clone()).collect();
            assert_eq!(serde_json::from_slice::<serde_json::Value>(&rest).unwrap(), expected);
            assert_eq!(rest.len(), body.len());
        }
    }

    #[test]
    fn an_answer_has_one_embedding_of_each_input() {
        let tape = &mut Tape::new();
        let body = br#"{"object":"list","data":[{"index":1,"embedding":"AAA="},{"embedding":[1,2.5],"index":0}],"model":"M","usage":{"prompt_tokens":7,"total_tokens":7}}"#;
        let found = embeddings(body, 2, tape).unwrap();
        assert_eq!(found.embeddings[0].of(body), b"[1,2.5]");
        assert_eq!((found.embeddings[1].of(body), found.model.of(body)), (&b"\"AAA=\""[..], &b"\"M\""[..]));
        assert_eq!(found.prompt_tokens, 7);
        assert_eq!(embeddings(body, 3, tape), None);
        assert_eq!(embeddings(body, 1, tape), None);
        let twice = br#"{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[2]}],"model":"M","usage":{"prompt_tokens":7}}"#;
        assert_eq!(embeddings(twice, 2, tape), None);

        let part = write_part(b"\"M\"", b"[1,2.5]");
        let (model, embedding) = read_part(&part, tape).unwrap();
        assert_eq!((model.of(&part), embedding.of(&part)), (&b"\"M\""[..], &b"[1,2.5]"[..]));
        let tokens = TokenUsage::counted(Some(7), None, Some(7));
        let whole = write(b"\"M\"", [&b"[1,2.5]"[..], b"\"AAA=\""].into_iter(), tokens);
        let again = embeddings(&whole, 2, tape).unwrap();
        assert_eq!((again.embeddings[0].of(&whole), again.prompt_tokens), (&b"[1,2.5]"[..], 7));
    }

    #[test]
    fn shares_are_all_there_is() {
        assert_eq!(shares(7, &[3, 4]), [3, 4]);
        assert_eq!(shares(10, &[1, 1, 1]).iter().sum::<u64>(), 10);
        assert_eq!(shares(5, &[0, 0]), [0, 0]);
        assert_eq!(shares(u64::MAX, &[1 << 20, 3]).iter().sum::<u64>(), u64::MAX);
    }
}
