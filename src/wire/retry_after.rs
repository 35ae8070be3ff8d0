//! Stub.
pub fn wait_ms(retry_after: Option<&[u8]>, retry_after_ms: Option<&[u8]>, _unix_ms: u64) -> Option<u64> {
    let n = |v: Option<&[u8]>| std::str::from_utf8(v?).ok()?.parse::<u64>().ok();
    n(retry_after_ms).or(n(retry_after).map(|s| s * 1000))
}
