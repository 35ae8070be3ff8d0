//! Several servers asked at once by a command: a runtime of its own that ends with the call. Never on a core.

use std::rc::Rc;
use std::sync::Arc;

use tokio::task::{LocalSet, spawn_local};

use super::{Answer, Target, ask_for};
use crate::net::Dial;

/// Whom to ask for what, or why nobody can be asked.
pub type Asked = Result<Target, String>;

/// Asks each target at its addresses, and keeps at most `most` bytes of each body. Errors: nothing could be asked.
pub fn ask_all(targets: Vec<(Asked, Arc<[Dial]>)>, most: usize) -> Result<Vec<Result<Answer, String>>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let answers = LocalSet::new().block_on(&runtime, async {
        let ask = |(target, addresses): (Asked, Arc<[Dial]>)| {
            spawn_local(async move { ask_for(&Rc::new(target?), &addresses, most).await })
        };
        let asked: Vec<_> = targets.into_iter().map(ask).collect();
        let mut answers = Vec::with_capacity(asked.len());
        for task in asked {
            answers.push(task.await.unwrap_or_else(|_| Err("the probe itself failed".to_owned())));
        }
        answers
    });
    runtime.shutdown_background();
    Ok(answers)
}
