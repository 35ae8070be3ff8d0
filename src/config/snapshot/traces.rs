//! Which requests are traced, and where their spans go.

use secrecy::SecretString;
use strum::{EnumString, VariantNames};

use super::{Address, Tls};

/// Bits of a trace id that decide whether it is sampled (W3C Trace Context Level 2, 2.2.4: the last seven bytes are random).
const RANDOM_BITS: u32 = 56;

/// Tracing is on.
#[derive(Clone, Debug)]
pub struct Traces {
    pub address: Address,
    /// For the `Host` field.
    pub authority: String,
    /// Of the requests to it, from its first slash.
    pub path: String,
    pub tls: Option<Tls>,
    pub protocol: TraceProtocol,
    pub sampling: Sampling,
    pub headers: Vec<(String, SecretString)>,
    /// For one batch.
    pub timeout_ms: u64,
    pub service_name: String,
}

/// How spans are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum TraceProtocol {
    Http,
    Grpc,
}

/// Which traces are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    pub parent: ParentDecision,
    /// Of the random part of a trace id, what is below is not recorded.
    least: u64,
}

/// What a caller's decision counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParentDecision {
    Followed,
    Ignored,
}

impl Sampling {
    pub fn new(millionths: u64, parent: ParentDecision) -> Sampling {
        let all = 1_u64 << RANDOM_BITS;
        let kept = u128::from(all) * u128::from(millionths.min(1_000_000)) / 1_000_000;
        Sampling { parent, least: all - kept as u64 }
    }

    /// Whether a trace is recorded whose caller decides nothing. Every node decides the same.
    pub fn takes(&self, trace_id: &[u8; 16]) -> bool {
        let random = u64::from_be_bytes([
            0,
            trace_id[9],
            trace_id[10],
            trace_id[11],
            trace_id[12],
            trace_id[13],
            trace_id[14],
            trace_id[15],
        ]);
        random >= self.least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_takes_its_part_of_the_trace_ids() {
        let id = |random: u64| {
            let mut id = [0xab; 16];
            id[9..].copy_from_slice(&random.to_be_bytes()[1..]);
            id
        };
        let highest = (1 << RANDOM_BITS) - 1;
        for (millionths, least) in [(1_000_000, 0), (500_000, 1 << 55), (10_000, highest - highest / 100 + 1)] {
            let sampling = Sampling::new(millionths, ParentDecision::Followed);
            assert!(sampling.takes(&id(highest)) && sampling.takes(&id(least)), "{millionths}");
            assert!(least == 0 || !sampling.takes(&id(least - 2)), "{millionths}");
        }
        let none = Sampling::new(0, ParentDecision::Followed);
        assert!(!none.takes(&id(highest)) && !none.takes(&id(0)));
    }
}
