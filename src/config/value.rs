//! Text of one value to what it means: sizes, durations, addresses, CPU lists, digests.
//! Pure functions; none keeps state. A message never repeats text that could hold a secret.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use rustls::pki_types::ServerName;

use super::problem::printable;
use super::snapshot::{AccessLog, Address, CoreChoice, Endpoint, Listen};
use crate::limits::PROMPT_TEMPLATE_BYTES;

/// Why a text is not a value of its type, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    pub what: String,
    pub remedy: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}; {}", self.what, self.remedy)
    }
}

impl std::error::Error for Wrong {}

impl FromStr for Listen {
    type Err = Wrong;

    /// As `server.listen` reads it, for the command line.
    fn from_str(text: &str) -> Result<Listen, Wrong> {
        listen(text)
    }
}

/// What a backend's URL says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub address: Address,
    /// For the `Host` field.
    pub authority: String,
    /// Empty, or `/...` without a slash at the end.
    pub base_path: String,
    /// The host whose certificate is asked for; `None` in plain text.
    pub secure_host: Option<String>,
}

/// `sockaddr_un` holds 108 bytes, the last one a NUL (unix(7)).
const UNIX_PATH_BYTES: usize = 107;

/// Longest host name (RFC 1035 2.3.4).
const HOST_BYTES: usize = 253;

/// Longest provider secret, so that it fits a request head of any server. Known ones stay below 300 bytes, tokens of
/// cloud identities below 2 KiB.
const SECRET_BYTES: usize = 4 << 10;

/// Longest path of a health check; with a base path in front it fits what servers take (RFC 9112 3: 8000 bytes).
const REQUEST_PATH_BYTES: usize = 1 << 10;

/// Longest name of a header field that tells a session; known ones stay below 32 bytes.
const FIELD_NAME_BYTES: usize = 64;

/// Highest CPU number: the kernel's largest CPU mask has 8192 bits (CONFIG_NR_CPUS).
const CPU_MAX: usize = 8191;

pub(super) fn wrong(what: impl Into<String>, remedy: impl Into<String>) -> Wrong {
    Wrong { what: what.into(), remedy: remedy.into() }
}

/// Whether a text may be a template.
pub fn template(text: &str) -> Result<(), Wrong> {
    if text.is_empty() {
        return Err(wrong("is empty", "write a text, or take the key out"));
    }
    if text.len() > PROMPT_TEMPLATE_BYTES {
        return Err(wrong(
            format!("has more than {} KiB", PROMPT_TEMPLATE_BYTES >> 10),
            "make what is long a variable",
        ));
    }
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return Err(wrong("has a control character", "write text, with line breaks and tabs at most"));
    }
    Ok(())
}

/// Digits and what follows them; `None` if there are no digits or the number does not fit.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim_start()))
}

/// Bytes of `"4GiB"`, `"512KiB"` or `"1048576"`.
pub fn size(text: &str) -> Result<u64, Wrong> {
    let refuse =
        |what: String| Err(wrong(what, "write a whole number and B, KiB, MiB, GiB or TiB, such as \"512MiB\""));
    let quoted = printable(text);
    let Some((number, unit)) = number_and_unit(text.trim()) else {
        return refuse(format!("\"{quoted}\" is not a size"));
    };
    let unit_bytes = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1u64 << 40,
        _ => return refuse(format!("\"{quoted}\" has a unit that is none of a size")),
    };
    match number.checked_mul(unit_bytes) {
        Some(bytes) => Ok(bytes),
        None => refuse(format!("\"{quoted}\" is too large")),
    }
}

/// Milliseconds of `"300s"`, `"5ms"`, `"2m"` or `"1h"`.
pub fn duration_ms(text: &str) -> Result<u64, Wrong> {
    let refuse = |what: String| Err(wrong(what, "write a whole number and ms, s, m or h, such as \"30s\""));
    let quoted = printable(text);
    let Some((number, unit)) = number_and_unit(text.trim()) else {
        return refuse(format!("\"{quoted}\" is not a duration"));
    };
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000u64,
        "" => return refuse(format!("\"{quoted}\" has no unit")),
        _ => return refuse(format!("\"{quoted}\" has a unit that is none of a duration")),
    };
    match number.checked_mul(unit_ms) {
        Some(ms) => Ok(ms),
        None => refuse(format!("\"{quoted}\" is too long")),
    }
}

/// Bytes as `size` reads them, in the largest unit that leaves a whole number.
pub fn spell_size(bytes: u64) -> String {
    for (unit, shift) in [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes != 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

/// Milliseconds as `duration_ms` reads them, in the largest unit that leaves a whole number.
pub fn spell_duration(ms: u64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    for (unit, unit_ms) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if ms.is_multiple_of(unit_ms) {
            return format!("{}{unit}", ms / unit_ms);
        }
    }
    format!("{ms}ms")
}

/// Millionths of a decimal number such as `"0.15"`: exact, or refused.
pub fn money(text: &str) -> Result<u64, Wrong> {
    let refuse =
        |what: String| Err(wrong(what, "write it in digits, with at most six after a point, such as \"0.15\""));
    let quoted = printable(text);
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(part) {
        return refuse(format!("\"{quoted}\" is not an amount"));
    }
    if part.len() > 6 {
        return refuse(format!("\"{quoted}\" has more than six digits after the point"));
    }
    let millionths = format!("{part:0<6}").parse::<u64>().unwrap_or(0);
    let whole = whole.parse::<u64>().ok().and_then(|whole| whole.checked_mul(1_000_000));
    match whole.and_then(|whole| whole.checked_add(millionths)) {
        Some(millionths) => Ok(millionths),
        None => refuse(format!("\"{quoted}\" is too large")),
    }
}

/// Millionths of a number such as `0.01`.
pub(super) fn ratio(text: &str) -> Result<u64, Wrong> {
    money(text).map_err(|_| {
        let what = format!("\"{}\" is not a number from 0 to 1", printable(text));
        wrong(what, "write it in digits, with at most six after a point, such as 0.01")
    })
}

/// RFC 3986 2.1. A percent sign without two hexadecimal digits stands for itself.
pub(super) fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let (mut plain, mut at) = (Vec::with_capacity(text.len()), 0);
    while let Some(&byte) = text.get(at) {
        let code = if byte == b'%' { digit(text.get(at + 1)).zip(digit(text.get(at + 2))) } else { None };
        plain.push(code.map_or(byte, |(high, low)| (high * 16 + low) as u8));
        at += if code.is_some() { 3 } else { 1 };
    }
    plain
}

/// Millionths as `money` reads them.
pub fn spell_money(millionths: u64) -> String {
    let (whole, part) = (millionths / 1_000_000, millionths % 1_000_000);
    let text = format!("{whole}.{part:06}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The address of a store's server, as [`Endpoint`] reads it.
pub(super) fn endpoint(text: &str) -> Result<String, Wrong> {
    match Endpoint::of(text) {
        Some(_) => Ok(text.to_owned()),
        None if text.contains('@') => Err(wrong(
            "a credential stands in the address",
            "write it as user and password, and the address as \"redis://10.0.0.9:6379\"",
        )),
        None if text
            .split_once("://")
            .is_some_and(|(scheme, _)| scheme.contains("+sentinel") || scheme.contains("+cluster")) =>
        {
            Err(wrong(
                "Sentinels and clusters are not asked where the configuration is",
                "name their servers one by one, as \"redis://10.0.0.9:6379\": the first that has it is read",
            ))
        }
        None => Err(wrong(
            format!("\"{}\" is no address of a server", printable(text)),
            "write http://host:port or https://host:port, or redis://host:port or rediss://host:port",
        )),
    }
}

/// An origin as a browser spells it (RFC 6454 6.1), or `*`.
pub(super) fn origin(text: &str) -> Result<String, Wrong> {
    let refuse =
        |what: &str| Err(wrong(format!("\"{}\" {what}", printable(text)), "write it as \"https://chat.example\""));
    if text == "*" {
        return Ok(text.to_owned());
    }
    let Some((scheme, authority)) = text.split_once("://") else {
        return refuse("is not an origin");
    };
    let is_scheme = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    let is_host = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._:[]".contains(&byte);
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return refuse("has an uppercase letter, and browsers send origins in lower case");
    }
    if authority.contains(['/', '?', '#', '@', '*']) {
        return refuse("has more than a scheme, a host and a port");
    }
    if scheme.is_empty() || authority.is_empty() || !scheme.bytes().all(is_scheme) || !authority.bytes().all(is_host) {
        return refuse("is not an origin");
    }
    let own_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return Ok(text.to_owned()),
    };
    if authority.ends_with(own_port) {
        return refuse("has its scheme's own port, which browsers leave out");
    }
    Ok(text.to_owned())
}

/// A path of a Unix socket.
fn unix_path(path: &str) -> Result<PathBuf, Wrong> {
    if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
        return Err(wrong("not an absolute path of a socket", "write unix:/run/ringway/ringway.sock, for example"));
    }
    if path.len() > UNIX_PATH_BYTES {
        let what = format!("the path of a Unix socket has {} bytes, the kernel takes {UNIX_PATH_BYTES}", path.len());
        return Err(wrong(what, "choose a shorter path"));
    }
    Ok(PathBuf::from(path))
}

/// A listen address: `host:port` with an IP address, or `unix:/path`.
/// An address as in `listen`, or `off`.
pub(super) fn listen_or_off(text: &str) -> Result<Option<Listen>, Wrong> {
    if text == "off" { Ok(None) } else { listen(text).map(Some) }
}

pub(super) fn listen(text: &str) -> Result<Listen, Wrong> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix_path(path).map(Listen::Unix);
    }
    match text.parse::<SocketAddr>() {
        Ok(address) => Ok(Listen::Tcp(address)),
        Err(_) => Err(wrong(
            format!("\"{}\" is not an IP address with a port", printable(text)),
            "write 127.0.0.1:8080 for this machine only, 0.0.0.0:8080 or [::]:8080 for every address, or unix:/path",
        )),
    }
}

/// `off`, `stdout` or an absolute path.
pub(super) fn access_log(text: &str) -> Result<AccessLog, Wrong> {
    match text {
        "off" => Ok(AccessLog::Off),
        "stdout" => Ok(AccessLog::Stdout),
        path if path.starts_with('/') && !path.ends_with('/') && !path.contains('\0') => {
            Ok(AccessLog::File(PathBuf::from(path)))
        }
        _ => Err(wrong(
            format!("\"{}\" names no place for the log", printable(text)),
            "write \"off\", \"stdout\" or the absolute path of a file",
        )),
    }
}

/// `auto` or a CPU list such as `2-5,8`.
pub(super) fn cores(text: &str) -> Result<CoreChoice, Wrong> {
    if text == "auto" {
        return Ok(CoreChoice::Auto);
    }
    let remedy = "write \"auto\", a count such as 2 (without quotes), or a list of CPU numbers such as \"2-5,8\"";
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Some(first), Some(last)) = (cpu(first), cpu(last)) else {
            return Err(wrong(format!("\"{}\" is not a list of CPUs", printable(text)), remedy));
        };
        if first > last {
            return Err(wrong(format!("the range {first}-{last} runs backward"), format!("write {last}-{first}")));
        }
        for number in first..=last {
            if cpus.contains(&number) {
                return Err(wrong(format!("CPU {number} stands twice in the list"), "name each CPU once"));
            }
            cpus.push(number);
        }
    }
    Ok(CoreChoice::List(cpus))
}

fn cpu(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok().filter(|number| *number <= CPU_MAX) } else { None }
}

/// Ends of URLs that are copied from examples of providers' documentation.
const ENDPOINTS: [&str; 6] = ["/chat/completions", "/completions", "/embeddings", "/responses", "/messages", "/models"];

/// A backend's URL. No message repeats it: it may hold a password.
pub(super) fn url(text: &str) -> Result<Url, Wrong> {
    let example = "write http://host:port, https://host:port/base or unix:/path";
    if let Some(path) = text.strip_prefix("unix:") {
        let address = Address::Unix(unix_path(path)?);
        return Ok(Url { address, authority: "localhost".to_owned(), base_path: String::new(), secure_host: None });
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(wrong("not a URL", example));
    };
    let secure = scheme.eq_ignore_ascii_case("https");
    if !secure && !scheme.eq_ignore_ascii_case("http") {
        return Err(wrong("a scheme other than http and https", example));
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err(wrong("a user name or password inside the URL", "put the credential into api_key"));
    }
    let (host, port) = authority_address(authority, if secure { 443 } else { 80 })?;
    let base_path = path.trim_end_matches('/');
    if !base_path.bytes().all(is_path_byte) {
        return Err(wrong("the path has a query, a fragment, or a character no path may have", example));
    }
    if base_path == "/v1" || base_path.ends_with("/v1") {
        return Err(wrong(
            "the URL ends in /v1, and requests would go to /v1/v1/...",
            "leave /v1 out: it is part of every request's path",
        ));
    }
    if let Some(path) = ENDPOINTS.iter().find(|path| base_path.ends_with(*path)) {
        return Err(wrong(
            format!("the URL is that of one endpoint, and requests would go to {path}/v1{path}"),
            "leave out /v1 and what follows it: they are part of every request's path",
        ));
    }
    Ok(Url {
        secure_host: secure.then(|| host.clone()),
        address: Address::Tcp { host, port },
        authority: authority.to_owned(),
        base_path: base_path.to_owned(),
    })
}

/// `host`, `host:port` or `[v6]:port` of a URL; the scheme's own port if there is none (RFC 9110 4.2).
fn authority_address(authority: &str, own_port: u16) -> Result<(String, u16), Wrong> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').unwrap_or((rest, "]"));
            if host.parse::<Ipv6Addr>().is_err() || !(after.is_empty() || after.starts_with(':')) {
                return Err(wrong("not an IPv6 address in brackets", "write http://[::1]:8000, for example"));
            }
            (host, after.strip_prefix(':'))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let name_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let is_name = !host.is_empty() && host.len() <= HOST_BYTES && host.bytes().all(name_byte);
    if !authority.starts_with('[') && !is_name {
        return Err(wrong(
            "no host name or IP address after the scheme",
            "write http://host:port or https://host:port",
        ));
    }
    let port = match port {
        None => own_port,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().unwrap_or(0u16),
        Some(_) => 0,
    };
    if port == 0 {
        return Err(wrong("the port is not a number from 1 to 65535", "write http://host:port or https://host:port"));
    }
    Ok((host.to_ascii_lowercase(), port))
}

/// An absolute path of a file.
pub(super) fn file_path(text: &str) -> Result<String, Wrong> {
    if !text.starts_with('/') || text.ends_with('/') || text.contains('\0') {
        let what = format!("\"{}\" is not the absolute path of a file", printable(text));
        return Err(wrong(what, "write it from the root, such as \"/etc/ringway/ca.pem\""));
    }
    Ok(text.to_owned())
}

/// An absolute path of a directory.
pub(super) fn directory_path(text: &str) -> Result<String, Wrong> {
    if !text.starts_with('/') || text.contains('\0') {
        let what = format!("\"{}\" is not the absolute path of a directory", printable(text));
        return Err(wrong(what, "write it from the root, such as \"/var/lib/ringway\""));
    }
    Ok(text.to_owned())
}

/// A host's name or IP address as a certificate has it: what TLS will take, told here, where its line is known.
pub(super) fn host(text: &str) -> Result<String, Wrong> {
    // The dot that ends a name in DNS is no part of it in TLS (RFC 6066 3).
    let name = text.strip_suffix('.').unwrap_or(text);
    match ServerName::try_from(name) {
        Ok(_) => Ok(name.to_ascii_lowercase()),
        Err(_) => Err(wrong(
            format!("\"{}\" is neither a host name nor an IP address", printable(text)),
            "write the name that the certificate is for, such as \"llm.internal\"",
        )),
    }
}

/// The path of a request, perhaps with a query.
pub(super) fn request_path(text: &str) -> Result<String, Wrong> {
    if text.len() > REQUEST_PATH_BYTES {
        return Err(wrong(format!("the path has over {REQUEST_PATH_BYTES} bytes"), "write a shorter one"));
    }
    let path_byte = |byte: u8| is_path_byte(byte) || byte == b'?';
    if !text.starts_with('/') || text.starts_with("//") || !text.bytes().all(path_byte) {
        let what = format!("\"{}\" is not a path", printable(text));
        return Err(wrong(what, "begin it with one slash, such as \"/health\""));
    }
    Ok(text.to_owned())
}

/// The name of a header field (RFC 9110 5.1: a token), in lower case.
pub(super) fn field_name(text: &str) -> Result<String, Wrong> {
    let token_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.is_empty() || text.len() > FIELD_NAME_BYTES || !text.bytes().all(token_byte) {
        let what = format!("\"{}\" is not the name of a header field", printable(text));
        return Err(wrong(what, "write a name such as \"x-session-id\""));
    }
    Ok(text.to_ascii_lowercase())
}

/// Bytes of a path (RFC 3986 3.3: pchar and `/`).
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:@/".contains(&byte)
}

/// Whether a text names a variable of the environment, as LiteLLM (`os.environ/NAME`), a shell (`$NAME`) and others do.
pub(super) fn is_foreign_reference(text: &str) -> bool {
    let name =
        ["os.environ/", "env:", "env.", "env/", "$env:", "$"].iter().find_map(|prefix| text.strip_prefix(prefix));
    name.is_some_and(|name| {
        let fits = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        name.starts_with(|first: char| first.is_ascii_uppercase() || first == '_') && name.bytes().all(fits)
    })
}

/// Checks that a provider secret fits a header field. No message repeats any of it.
pub(super) fn secret(text: &str) -> Result<(), Wrong> {
    if text.is_empty() {
        return Err(wrong("the secret is empty", "leave the key out if the backend needs none"));
    }
    if text.len() > SECRET_BYTES {
        return Err(wrong(format!("the secret has over {SECRET_BYTES} bytes"), "check that it is the right one"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong(
            "the secret has a space, a line break, or a character other than visible ASCII",
            "check that nothing but the secret is there",
        ));
    }
    Ok(())
}

/// The 32 bytes of `sha256:<64 hex>`. Anything else may be a key in the clear, so no message repeats it.
pub(super) fn digest(text: &str) -> Result<[u8; 32], Wrong> {
    let hash_it = "write its hash instead: printf %s \"$KEY\" | ringway key hash";
    let Some(hex) = text.strip_prefix("sha256:") else {
        let is_bare_hash = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        return Err(if is_bare_hash {
            wrong("a hash without its kind", "put sha256: in front if it is the SHA-256 of a key")
        } else {
            wrong("a key in the clear may not stand in the configuration", hash_it)
        });
    };
    let mut bytes = [0; 32];
    let digits = hex.as_bytes();
    let mut good = digits.len() == 64;
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        match (hex_digit(pair[0]), hex_digit(pair[1])) {
            (Some(high), Some(low)) => *byte = high << 4 | low,
            _ => good = false,
        }
    }
    if !good {
        return Err(wrong(
            "not sha256: and 64 hexadecimal digits",
            "make the line with: printf %s \"$KEY\" | ringway key hash",
        ));
    }
    if bytes == EMPTY_SHA256 {
        return Err(wrong("the hash of an empty key, which would let in a request with an empty credential", hash_it));
    }
    Ok(bytes)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|value| value as u8)
}

/// SHA-256 of nothing (FIPS 180-4).
const EMPTY_SHA256: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41,
    0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// A name, or a label if it may be empty. What passes needs no escaping inside JSON or a metric's label.
pub(super) fn name(text: &str, most_bytes: usize) -> Result<(), Wrong> {
    if text.len() > most_bytes {
        return Err(wrong(format!("{} bytes long, the most is {most_bytes}", text.len()), "choose a shorter name"));
    }
    if text.chars().any(|c| c.is_control() || matches!(c, '"' | '\\')) {
        return Err(wrong("has a control character, a quote or a backslash", "leave it out"));
    }
    if text.trim() != text {
        return Err(wrong("begins or ends with white space", "leave the white space out"));
    }
    Ok(())
}
