//! The page at `/` and its files, which are part of the program. Nothing on it comes from elsewhere, and nothing in it
//! runs that is not one of these files.

use hyper::header::{CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};

use super::routes::{Answer, reply};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    Html,
    Style,
    Script,
    Icon,
}

/// No inline script or style, no other origin, no frame around it (CSP Level 3).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub fn answer(file: File) -> Response<Answer> {
    let (kind, text) = match file {
        File::Html => ("text/html; charset=utf-8", include_str!("page/page.html")),
        File::Style => ("text/css; charset=utf-8", include_str!("page/page.css")),
        File::Script => ("text/javascript; charset=utf-8", include_str!("page/page.js")),
        File::Icon => ("image/svg+xml", include_str!("page/icon.svg")),
    };
    let mut response = reply(StatusCode::OK, kind, text);
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
