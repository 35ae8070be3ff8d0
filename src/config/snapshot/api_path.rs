//! Where a backend has its API, which clients find below `/v1` here.

use std::borrow::Cow;

/// What clients' paths begin with.
const VERSION: &str = "/v1";

/// Paths of a backend, by those of this gateway and back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiPath {
    /// In front of every path: empty, or `/...` without a slash at the end, as is `version`.
    base: String,
    /// What it has in place of `/v1`.
    version: String,
}

impl ApiPath {
    pub fn new(base: String, version: &str) -> ApiPath {
        ApiPath { base, version: version.trim_end_matches('/').to_owned() }
    }

    /// Whether its paths are those of this gateway.
    pub fn is_the_same(&self) -> bool {
        self.base.is_empty() && self.version == VERSION
    }

    /// A path of this gateway, with its query or without, as the backend has it.
    pub fn there(&self, target: &[u8]) -> Vec<u8> {
        let base = self.base.as_bytes();
        match target.strip_prefix(VERSION.as_bytes()) {
            Some(rest @ ([] | [b'/' | b'?', ..])) => [base, self.version.as_bytes(), rest].concat(),
            _ => [base, target].concat(),
        }
    }

    /// A path of the backend as this gateway has it; one that is not of its API as it is.
    pub fn back<'a>(&self, path: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(rest) = below(path, &self.base) else { return Cow::Borrowed(path) };
        match below(rest, &self.version) {
            Some(rest) if self.version != VERSION => Cow::Owned([VERSION.as_bytes(), rest].concat()),
            _ => Cow::Borrowed(rest),
        }
    }
}

/// What of `path` is below `front`, from its slash on.
fn below<'a>(path: &'a [u8], front: &str) -> Option<&'a [u8]> {
    path.strip_prefix(front.as_bytes()).filter(|rest| rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_there_and_back() {
        let cases = [
            ("", "/v1", "/v1/files?x=/v1/", "/v1/files?x=/v1/"),
            ("/api", "/v1", "/v1/files", "/api/v1/files"),
            ("/api", "/v1", "/health", "/api/health"),
            ("", "/v1beta/openai", "/v1/chat/completions", "/v1beta/openai/chat/completions"),
            ("", "/v1beta/openai/", "/v1/models", "/v1beta/openai/models"),
            ("/api", "/v2", "/v1/files", "/api/v2/files"),
            ("", "/", "/v1/chat/completions?a=b", "/chat/completions?a=b"),
            ("", "/v2", "/v1x/y", "/v1x/y"),
        ];
        for (base, version, here, there) in cases {
            let paths = ApiPath::new(base.to_owned(), version);
            assert_eq!(paths.there(here.as_bytes()), there.as_bytes(), "{here} at {base} {version}");
            assert_eq!(paths.back(there.as_bytes()), here.as_bytes(), "{there} from {base} {version}");
        }
        let paths = ApiPath::new("/api".to_owned(), "/v2");
        for path in ["/other/v2/x", "/apis/v2/x", "x"] {
            assert_eq!(paths.back(path.as_bytes()), path.as_bytes());
        }
    }
}
