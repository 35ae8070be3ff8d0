//! Where spans go, as the background core needs it.

use super::secure;
use crate::config::snapshot::{Snapshot, TraceProtocol};
use crate::control::traces::Settings;
use crate::net::tls::{Offer, TlsContext};

/// None: there are no spans. Blocking. Errors: the receiver's certificates cannot be read.
pub fn settings(snapshot: &Snapshot) -> Result<Option<Settings>, String> {
    let Some(of) = &snapshot.traces else { return Ok(None) };
    let offer = match of.protocol {
        TraceProtocol::Http => Offer::Http1,
        TraceProtocol::Grpc => Offer::Http2,
    };
    let wrong = |error: String| format!("traces: {error}");
    let tls = match &of.tls {
        None => None,
        Some(tls) => {
            let settings = secure::lone(tls, offer).map_err(wrong)?;
            Some(TlsContext::new(&settings).map_err(|error| wrong(error.to_string()))?.client())
        }
    };
    Ok(Some(Settings { of: of.clone(), tls }))
}
