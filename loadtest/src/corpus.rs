//! A corpus of unique prompts from a seed, one request body per line, the most requested first. Pure except for
//! printing.

use std::error::Error;
use std::io::Write;

use crate::rng::Rng;

const WORDS: &[&str] = &[
    "river",
    "bridge",
    "ledger",
    "harbour",
    "signal",
    "forest",
    "engine",
    "market",
    "winter",
    "garden",
    "letter",
    "station",
    "mountain",
    "figure",
    "copper",
    "window",
    "journey",
    "council",
    "pattern",
    "season",
    "method",
    "island",
    "question",
    "reason",
    "compare",
    "explain",
    "describe",
    "summarise",
    "translate",
    "between",
    "before",
    "without",
];
pub const MODELS: &str = "gpt-4,claude-3,llama-3";

const EXAMPLES: &str = "\
A line is the body of a chat completion; line 1 is the prompt asked for most. Lengths of prompts are spread evenly
on a logarithmic scale from 100 bytes to 10 KB.

Examples:
  loadtest corpus --seed 7 > corpus.jsonl
  loadtest run --url http://127.0.0.1:8080 --scenario zipf --corpus corpus.jsonl --rate 2000 --seconds 10";

/// Generate a corpus as JSON lines
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The same seed gives the same corpus
    #[arg(long)]
    seed: u64,
    /// Unique prompts
    #[arg(long, default_value_t = 10_000)]
    prompts: usize,
    /// Models to spread the prompts over
    #[arg(long, value_delimiter = ',', default_value = MODELS)]
    models: Vec<String>,
}

pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in generate(arguments.seed, arguments.prompts, &arguments.models) {
        writeln!(out, "{line}")?;
    }
    Ok(out.flush()?)
}

/// Bodies by rank. `models` is not empty.
pub fn generate(seed: u64, prompts: usize, models: &[String]) -> Vec<String> {
    let mut rng = Rng::new(seed);
    (0..prompts)
        .map(|rank| {
            let length = (100.0 * 100f64.powf(rng.unit())) as usize;
            // The rank makes it unique, however short it is.
            let mut prompt = format!("Question {rank}:");
            while prompt.len() < length {
                prompt.push(' ');
                prompt.push_str(WORDS[rng.below(WORDS.len())]);
            }
            let model = &models[rng.below(models.len())];
            serde_json::json!({
                "model": model, "temperature": 0, "messages": [{"role": "user", "content": prompt}],
            })
            .to_string()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_unique_repeatable_and_of_the_right_size() {
        let models = vec!["a".to_owned(), "b".to_owned()];
        let corpus = generate(7, 500, &models);
        assert_eq!(corpus, generate(7, 500, &models));
        let unique: std::collections::HashSet<&String> = corpus.iter().collect();
        assert_eq!(unique.len(), 500);
        assert!(corpus.iter().all(|body| (100..10_300).contains(&body.len())));
    }
}
