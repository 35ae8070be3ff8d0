//! `ringway check --probe`: asks every backend for its models, as a request would reach it: name, connection, certificate,
//! credential, model names. Owns nothing; sends no request that costs.

use crate::config::snapshot::{Backend, Snapshot};
use crate::control::probe::{Answer, Target, ask_all};
use crate::cores::{resolve, secure};

/// For a backend, all its addresses together.
const TIMEOUT_MS: u64 = 10_000;
/// Of a list of models; providers with hundreds of them describe each in half a KiB.
const LIST_BYTES: usize = 4 << 20;
/// Names that are shown where one is missing.
const SHOWN: usize = 8;

/// What was found, a sentence each.
#[derive(Debug, Default)]
pub struct Probed {
    /// Requests would fail.
    pub errors: Vec<String>,
    pub good: Vec<String>,
}

/// Asks every backend, side by side. Errors: nothing could be asked.
pub fn probe(snapshot: &Snapshot) -> Result<Probed, String> {
    let tls = secure::settings(snapshot)?;
    let (addresses, unresolved) = resolve::addresses(snapshot);
    let asked = snapshot.backends.iter().zip(&addresses).zip(&tls).map(|((backend, addresses), tls)| {
        (Target::of(backend, "/v1/models", TIMEOUT_MS, tls.as_ref()), addresses.clone())
    });
    let answers = ask_all(asked.collect(), LIST_BYTES)?;
    let mut probed = Probed { errors: unresolved, good: Vec::new() };
    for (place, (backend, answer)) in snapshot.backends.iter().zip(answers).enumerate() {
        match answer {
            // Its name is among the unresolved ones.
            Err(_) if addresses[place].is_empty() => {}
            Err(why) => probed.errors.push(format!("backend {}: {why}", backend.name)),
            Ok(answer) => judge(snapshot, place, backend, &answer, &mut probed),
        }
    }
    Ok(probed)
}

/// What a backend's answer means for it and for the models that use it.
fn judge(snapshot: &Snapshot, place: usize, backend: &Backend, answer: &Answer, probed: &mut Probed) {
    let name = &backend.name;
    match answer.status {
        401 | 403 => {
            let why = match backend.api_key {
                Some(_) => "refuses backend.api_key",
                None => "wants a credential; set backend.api_key",
            };
            return probed.errors.push(format!("backend {name}: {why} (it answers {})", answer.status));
        }
        200 => {}
        status => {
            return probed
                .good
                .push(format!("backend {name}: reached; it has no list of models (it answers {status})"));
        }
    }
    let Some(models) = listed(&answer.body) else {
        return probed.good.push(format!("backend {name}: reached; its list of models is not one that can be read"));
    };
    let before = probed.errors.len();
    for model in &snapshot.models {
        for target in model.targets.iter().filter(|target| target.backend == place) {
            let Some(wanted) = target.model.as_ref().or((!model.name.contains('*')).then_some(&model.name)) else {
                continue;
            };
            if !models.contains(wanted) {
                let nearest = models.iter().min_by_key(|there| strsim::damerau_levenshtein(there, wanted));
                let hint = match nearest {
                    None => "it has none".to_owned(),
                    Some(nearest) if models.len() > SHOWN => {
                        format!("the nearest of its {} is {nearest}", models.len())
                    }
                    Some(_) => format!("it has {}", models.join(", ")),
                };
                probed.errors.push(format!("model {}: backend {name} has no model {wanted}; {hint}", model.name));
            }
        }
    }
    if probed.errors.len() == before {
        probed
            .good
            .push(format!("backend {name}: reached, its {} as configured", super::counted(models.len(), "model")));
    }
}

/// The names in a list of models.
fn listed(body: &[u8]) -> Option<Vec<String>> {
    let list: serde_json::Value = serde_json::from_slice(body).ok()?;
    let names = list.get("data")?.as_array()?.iter().filter_map(|model| model.get("id")?.as_str().map(printable));
    Some(names.collect())
}

fn printable(name: &str) -> String {
    name.chars().filter(|letter| !letter.is_control()).take(200).collect()
}
