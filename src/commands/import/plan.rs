//! The result of an import: backends, models and keys in Ringway's terms, and their text as TOML. Owns the spelling of
//! values. Never contains a secret, only the name of the variable that will hold it.

use std::fmt::Write;

use super::yaml::plain;

/// The new configuration.
#[derive(Debug, Default)]
pub struct Plan {
    pub source: String,
    pub tenants: Vec<Tenant>,
    pub cache: Cache,
    /// The URL of a Redis, with references to variables.
    pub redis: Option<String>,
    pub backends: Vec<Backend>,
    pub models: Vec<Model>,
    /// Required environment variables, and the purpose of each.
    pub variables: Vec<Variable>,
}

#[derive(Debug)]
pub struct Variable {
    pub name: String,
    pub what: String,
    /// A value of the right kind, to check the result without the real one.
    pub example: &'static str,
}

#[derive(Debug)]
pub struct Tenant {
    pub name: String,
    /// `sha256:...`, or a reference to a variable with that.
    pub key: String,
    pub comment: String,
}

#[derive(Debug, Default)]
pub struct Cache {
    pub enabled: bool,
    pub ttl_ms: Option<u64>,
}

/// Two deployments that are equal in all fields except the line share one.
#[derive(Clone, Debug, Default)]
pub struct Backend {
    pub name: String,
    pub provider: String,
    /// Of its first deployment.
    pub line: u64,
    pub url: String,
    /// What it has in place of `/v1`, if that is another path.
    pub api_path: Option<String>,
    /// A reference to a variable.
    pub api_key: Option<String>,
    /// Distinguishes keys that are in the file in clear text, without containing them.
    pub key_hash: Option<String>,
    pub azure: bool,
    pub priority: u32,
    pub timeout_request_ms: Option<u64>,
    pub timeout_first_token_ms: Option<u64>,
    pub eject_errors: Option<u32>,
    pub eject_time_ms: Option<u64>,
    pub max_tokens_default: Option<u64>,
    /// Header fields of its requests; values may be references.
    pub headers: Vec<(String, String)>,
    /// Members of its requests that clients leave out.
    pub body: Vec<(String, toml::Value)>,
}

#[derive(Clone, Debug, Default)]
pub struct Target {
    pub backend: String,
    pub model: String,
    /// Its share relative to the model's other targets, in any unit.
    pub share: Option<f64>,
    pub max_concurrent: Option<f64>,
    pub prices: Prices,
}

/// Of a million tokens, as the configuration spells them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    pub input: Option<String>,
    pub cached_input: Option<String>,
    pub cache_write: Option<String>,
    pub output: Option<String>,
}

impl Prices {
    /// With those of `more` where there is none.
    pub fn or(self, more: Prices) -> Prices {
        Prices {
            input: self.input.or(more.input),
            cached_input: self.cached_input.or(more.cached_input),
            cache_write: self.cache_write.or(more.cache_write),
            output: self.output.or(more.output),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub name: String,
    pub line: u64,
    pub targets: Vec<Target>,
    pub balance: &'static str,
    pub retries: Option<u32>,
    pub fallback: Vec<String>,
    pub prices: Prices,
}

impl Plan {
    /// The name of the backend that equals `wanted`; adds it if there is none.
    pub fn backend(&mut self, mut wanted: Backend) -> String {
        let same = |known: &&Backend| {
            let with_name = Backend { name: known.name.clone(), line: known.line, ..wanted.clone() };
            with_name.rows() == known.rows() && known.key_hash == wanted.key_hash
        };
        if let Some(known) = self.backends.iter().find(same) {
            return known.name.clone();
        }
        let count = self.backends.iter().filter(|known| known.provider == wanted.provider).count();
        let stem = wanted.provider.replace('_', "-");
        wanted.name = if count == 0 { stem } else { format!("{stem}-{}", count + 1) };
        let name = wanted.name.clone();
        self.backends.push(wanted);
        name
    }

    pub fn variable(&mut self, name: &str, what: impl Into<String>, example: &'static str) {
        if !self.variables.iter().any(|known| known.name == name) {
            self.variables.push(Variable { name: name.to_owned(), what: what.into(), example });
        }
    }

    /// The configuration, with `left` as comments at its end.
    pub fn toml(&self, left: &[String]) -> String {
        let mut out = format!(
            "# Written by `ringway import litellm` from {}. Look at the end for what is not in here, then:\n\
             #     ringway check --config FILE\n",
            plain(&self.source)
        );
        if !self.variables.is_empty() {
            out += "#\n# The environment holds:\n";
            for variable in &self.variables {
                line(&mut out, format_args!("#   {}  {}", variable.name, plain(&variable.what)));
            }
        }
        let listen = if self.tenants.is_empty() {
            out += "\n# Without a [[tenant]] no key is asked for, so that only this machine may ask.\n";
            "127.0.0.1:4000"
        } else {
            out.push('\n');
            "0.0.0.0:4000"
        };
        line(&mut out, format_args!("[server]\nlisten = [{}]", text(listen)));
        out += "\n# LiteLLM answers from a cache only where litellm_settings.cache says so.\n[cache]\n";
        line(&mut out, format_args!("enabled = {}", self.cache.enabled));
        if let Some(ms) = self.cache.ttl_ms {
            line(&mut out, format_args!("ttl = {}", duration(ms)));
        }
        if let Some(url) = &self.redis {
            line(&mut out, format_args!("\n[redis]\nurl = {}", reference(url)));
        }
        for backend in &self.backends {
            line(&mut out, format_args!("\n# Line {}: {}.", backend.line, plain(&backend.provider)));
            out += &backend.rows();
        }
        for model in &self.models {
            line(&mut out, format_args!("\n# Line {}.", model.line));
            out += &model.rows();
        }
        for tenant in &self.tenants {
            line(&mut out, format_args!("\n# {}", plain(&tenant.comment)));
            line(
                &mut out,
                format_args!("[[tenant]]\nname = {}\nkeys = [{}]", text(&tenant.name), reference(&tenant.key)),
            );
        }
        if !left.is_empty() {
            out += "\n# Not carried over, or to be looked at:\n";
            for words in left {
                line(&mut out, format_args!("#   {words}"));
            }
        }
        out
    }
}

impl Backend {
    pub fn rows(&self) -> String {
        let mut out = format!("[[backend]]\nname = {}\nurl = {}\n", text(&self.name), reference(&self.url));
        if let Some(path) = &self.api_path {
            line(&mut out, format_args!("api_path = {}", text(path)));
        }
        // As there, clients of either API are served.
        let api = if self.provider == "anthropic" { "anthropic" } else { "openai" };
        line(&mut out, format_args!("api = \"{api}\""));
        if let Some(key) = &self.api_key {
            line(&mut out, format_args!("api_key = {}", reference(key)));
        }
        if self.azure {
            out += "api_key_field = \"api-key\"\n";
        }
        if self.priority > 0 {
            line(&mut out, format_args!("priority = {}", self.priority));
        }
        for (key, ms) in [
            ("timeout_request", self.timeout_request_ms),
            ("timeout_first_token", self.timeout_first_token_ms),
            ("eject_time", self.eject_time_ms),
        ] {
            if let Some(ms) = ms {
                line(&mut out, format_args!("{key} = {}", duration(ms)));
            }
        }
        if let Some(errors) = self.eject_errors {
            line(&mut out, format_args!("eject_errors = {errors}"));
        }
        if let Some(tokens) = self.max_tokens_default {
            line(&mut out, format_args!("max_tokens_default = {tokens}"));
        }
        out += &self.additions();
        out
    }

    /// What is added to its requests.
    pub fn additions(&self) -> String {
        let mut out = String::new();
        let inline = |members: Vec<String>| format!("{{ {} }}", members.join(", "));
        if !self.headers.is_empty() {
            let members = self.headers.iter().map(|(name, value)| format!("{} = {}", text(name), reference(value)));
            line(&mut out, format_args!("headers = {}", inline(members.collect())));
        }
        if !self.body.is_empty() {
            let members = self.body.iter().map(|(name, value)| format!("{} = {value}", text(name)));
            line(&mut out, format_args!("body = {}", inline(members.collect())));
        }
        out
    }
}

impl Model {
    /// Whether its name stands for many.
    pub fn is_pattern(&self) -> bool {
        self.name.contains('*')
    }

    pub fn rows(&self) -> String {
        let mut out = format!("[[model]]\nname = {}\n", text(&self.name));
        if self.targets.len() > 1 {
            line(&mut out, format_args!("balance = {}", text(self.balance)));
        }
        if let Some(retries) = self.retries {
            line(&mut out, format_args!("retries = {retries}"));
        }
        if let Some(most) = self.max_concurrent() {
            line(&mut out, format_args!("max_concurrent_requests = {most}"));
        }
        let Prices { input, cached_input, cache_write, output } = &self.prices;
        let caching = [("price_cached_input", cached_input), ("price_cache_write", cache_write)];
        for (key, price) in [("price_input", input)].into_iter().chain(caching).chain([("price_output", output)]) {
            if let Some(price) = price {
                line(&mut out, format_args!("{key} = {}", text(price)));
            }
        }
        if !self.fallback.is_empty() {
            let names: Vec<String> = self.fallback.iter().map(|name| text(name)).collect();
            line(&mut out, format_args!("fallback = [{}]", names.join(", ")));
        }
        let weights = self.weights();
        out += "backends = [\n";
        for (number, target) in self.targets.iter().enumerate() {
            let mut row = format!("    {{ backend = {}", text(&target.backend));
            if target.model != self.name {
                row += &format!(", model = {}", text(&target.model));
            }
            if let Some(weights) = &weights {
                row += &format!(", weight = {}", weights[number]);
            }
            line(&mut out, format_args!("{row} }},"));
        }
        out += "]\n";
        out
    }

    /// Weights from 1 to 1000 in proportion to the shares, if every target has one and they differ.
    fn weights(&self) -> Option<Vec<u64>> {
        let shares: Vec<f64> = self.targets.iter().map(|target| target.share).collect::<Option<_>>()?;
        let most = shares.iter().copied().fold(0.0, f64::max);
        if most <= 0.0 || shares.iter().all(|share| *share == most) {
            return None;
        }
        let whole = most <= 1000.0 && shares.iter().all(|share| *share >= 1.0 && share.fract() == 0.0);
        let scale = if whole { 1.0 } else { 1000.0 / most };
        let weights: Vec<u64> = shares.iter().map(|share| ((share * scale).round() as u64).max(1)).collect();
        let divisor = weights.iter().copied().fold(0, common_divisor);
        Some(weights.into_iter().map(|weight| weight / divisor.max(1)).collect())
    }

    /// The sum of the targets' bounds, if each has one.
    fn max_concurrent(&self) -> Option<u64> {
        let sum: f64 = self.targets.iter().map(|target| target.max_concurrent).sum::<Option<f64>>()?;
        (1.0..=1_000_000.0).contains(&sum).then_some(sum as u64)
    }
}

fn common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

fn line(out: &mut String, words: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{words}");
}

/// A TOML string with exactly `value`; escapes `${`, which would be taken from the environment.
fn text(value: &str) -> String {
    toml::Value::String(value.replace("${", "$${")).to_string()
}

/// As `text`, for values with references to the environment.
fn reference(value: &str) -> String {
    toml::Value::String(value.to_owned()).to_string()
}

fn duration(ms: u64) -> String {
    if ms.is_multiple_of(1000) { format!("\"{}s\"", ms / 1000) } else { format!("\"{ms}ms\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(shares: &[Option<f64>]) -> Model {
        let target = |share: &Option<f64>| Target { share: *share, ..Target::default() };
        Model { targets: shares.iter().map(target).collect(), ..Model::default() }
    }

    #[test]
    fn weights_keep_the_proportion() {
        assert_eq!(model(&[Some(6000.0), Some(3000.0)]).weights(), Some(vec![2, 1]));
        assert_eq!(model(&[Some(0.3), Some(0.1)]).weights(), Some(vec![1000, 333]));
        assert_eq!(model(&[Some(9.0), Some(0.0)]).weights(), Some(vec![1000, 1]));
        assert_eq!(model(&[Some(5.0), Some(5.0)]).weights(), None);
        assert_eq!(model(&[Some(5.0), None]).weights(), None);
    }

    #[test]
    fn text_stands_for_itself() {
        assert_eq!(text("a${B}"), "\"a$${B}\"");
        for hostile in ["quote\"", "back\\slash", "line\nbreak", "tab\t", "\u{7f}", "'''", "\"\"\""] {
            let table: toml::Table = format!("x = {}", text(hostile)).parse().unwrap();
            assert_eq!(table["x"].as_str(), Some(hostile));
        }
    }
}
