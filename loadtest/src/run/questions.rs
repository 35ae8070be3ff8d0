//! The requests of a run, one after another, as bytes. Owns the salt that makes a run's bodies unique.

use std::error::Error;
use std::io::Write;

use super::{Arguments, CacheUse, Scenario};
use crate::clock::unix_ns;
use crate::corpus;
use crate::rng::{Rng, Zipf};

pub struct Questions {
    scenario: Scenario,
    /// The head up to the fields that differ.
    head: Vec<u8>,
    model: String,
    salt: u64,
    asked: u64,
    corpus: Vec<String>,
    zipf: Zipf,
    rng: Rng,
    seen: Vec<bool>,
    repeated: u64,
}

impl Questions {
    pub fn new(arguments: &Arguments, host: &str, path: &str) -> Result<Questions, Box<dyn Error>> {
        let mut head = format!("POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n");
        if let Some(key) = &arguments.key {
            head.push_str(&format!("authorization: Bearer {key}\r\n"));
        }
        let corpus = match (&arguments.corpus, arguments.scenario) {
            (Some(file), Scenario::Zipf) => {
                let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
                text.lines().map(str::to_owned).collect()
            }
            (None, Scenario::Zipf) => corpus::generate(arguments.seed, 10_000, &arguments.models),
            _ => vec![String::new()],
        };
        if corpus.is_empty() {
            return Err("the corpus is empty".into());
        }
        Ok(Questions {
            scenario: arguments.scenario,
            head: head.into_bytes(),
            model: serde_json::to_string(&arguments.model)?,
            salt: unix_ns(),
            asked: 0,
            zipf: Zipf::new(corpus.len(), arguments.exponent),
            rng: Rng::new(arguments.seed),
            seen: vec![false; corpus.len()],
            corpus,
            repeated: 0,
        })
    }

    /// Writes the next request into `request`.
    pub fn next(&mut self, request: &mut Vec<u8>, cache: CacheUse) {
        let (model, number, salt) = (&self.model, self.asked, self.salt);
        let written;
        let body = match self.scenario {
            Scenario::Zipf => {
                let rank = self.zipf.rank(&mut self.rng);
                self.repeated += u64::from(std::mem::replace(&mut self.seen[rank], true));
                &self.corpus[rank]
            }
            Scenario::Hit => {
                written = body(model, "", "Tell me about Ulm.");
                &written
            }
            Scenario::Miss => {
                written = body(model, "", &format!("Tell me about place {salt}-{number}."));
                &written
            }
            Scenario::Stream => {
                written = body(model, r#""stream":true,"#, &format!("Tell me about place {salt}-{number}."));
                &written
            }
        };
        self.asked += 1;
        request.clear();
        request.extend_from_slice(&self.head);
        if cache == CacheUse::Bypassed {
            request.extend_from_slice(b"cache-control: no-store\r\n");
        }
        // Writing to a vector does not fail.
        let _ = write!(request, "content-length: {}\r\n\r\n{body}", body.len());
    }

    /// Fraction of the requests so far that repeated an earlier one, if the scenario repeats any.
    pub fn hits_possible(&self) -> Option<f64> {
        (self.scenario == Scenario::Zipf && self.asked > 0).then(|| self.repeated as f64 / self.asked as f64)
    }
}

fn body(model: &str, options: &str, question: &str) -> String {
    format!(
        r#"{{"model":{model},{options}"messages":[{{"role":"system","content":"You are a helpful assistant."}},{{"role":"user","content":"{question}"}}],"temperature":0,"max_tokens":256}}"#
    )
}
