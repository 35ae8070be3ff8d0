//! What a value of each kind is to be, in words: for messages and the reference.

use crate::config::keys::Kind;
use crate::config::value;

/// What a value of this kind is, for messages and the reference.
pub(crate) fn expects(kind: Kind) -> String {
    match kind {
        Kind::Listen => "an array of \"address:port\" or \"unix:/path\"".to_owned(),
        Kind::Address => "\"address:port\" or \"unix:/path\"".to_owned(),
        Kind::ListenOrOff => "\"address:port\", \"unix:/path\" or \"off\"".to_owned(),
        Kind::Size { least, most } => {
            format!("a size from {} to {}", value::spell_size(least), value::spell_size(most))
        }
        Kind::Duration { least_ms, most_ms } => {
            format!("a duration from {} to {}", value::spell_duration(least_ms), value::spell_duration(most_ms))
        }
        Kind::DurationOrZero { least_ms, most_ms } => {
            format!("\"0s\", or {}", expects(Kind::Duration { least_ms, most_ms }))
        }
        Kind::Count { least, most } => format!("an integer from {least} to {most}"),
        Kind::Ratio => "a number from 0 to 1, such as 0.01".to_owned(),
        Kind::Switch => "true or false".to_owned(),
        Kind::Choice(words) => one_of(words),
        Kind::Name { most_bytes } => format!("text of 1 to {most_bytes} bytes"),
        Kind::Label { most_bytes } => format!("text of at most {most_bytes} bytes"),
        Kind::Cores => "\"auto\", a count, or a list of CPU numbers such as \"2-5,8\"".to_owned(),
        Kind::AccessLog => "\"off\", \"stdout\" or the absolute path of a file".to_owned(),
        Kind::Url => "\"http://host:port\", \"https://host/base\" or \"unix:/path\"".to_owned(),
        Kind::File => "the absolute path of a file".to_owned(),
        Kind::Files => "the absolute path of a file, or an array of them".to_owned(),
        Kind::Directory => "the absolute path of a directory".to_owned(),
        Kind::Headers => "a table such as { x-team = \"search\" }".to_owned(),
        Kind::Members => "a table such as { top_k = 20 }".to_owned(),
        Kind::Host => "a host name or an IP address".to_owned(),
        Kind::RequestPath => "a path such as \"/health\"".to_owned(),
        Kind::FieldName => "the name of a header field such as \"x-session-id\"".to_owned(),
        Kind::Secret => "text, \"${NAME}\", \"file:/path\" or \"credential:name\"".to_owned(),
        Kind::Template => "the text of a template, or \"file:/path\"".to_owned(),
        Kind::Digest => "\"sha256:\" and 64 hexadecimal digits".to_owned(),
        Kind::Credentials => {
            "an array of \"sha256:\" and 64 hexadecimal digits, or tables such as { hash = \"sha256:...\" }".to_owned()
        }
        Kind::Moment => "a date such as \"2027-01-31\", or a time such as \"2027-01-31T18:00:00Z\"".to_owned(),
        Kind::Names { .. } => "an array of names".to_owned(),
        Kind::Targets => "an array of backend names or tables such as { backend = \"name\" }".to_owned(),
        Kind::Money { least, most } => {
            format!("a decimal number from \"{}\" to \"{}\"", value::spell_money(least), value::spell_money(most))
        }
        Kind::Budgets => "a table such as { amount = \"100\", period = \"1d\" }, or an array of them".to_owned(),
        Kind::ModelLimits => "an array of tables such as { model = \"name\", requests_per_minute = 60 }".to_owned(),
        Kind::ServiceTiers => "an array of tables such as { tier = \"flex\", priority = 9 }".to_owned(),
        Kind::Endpoints => "an array of addresses such as \"https://10.0.0.7:2379\"".to_owned(),
        Kind::Origins => "an array of origins such as \"https://chat.example\", or \"*\"".to_owned(),
    }
}

/// What a text of this kind is: an element, where the kind is a list.
pub(super) fn expects_element(kind: Kind) -> String {
    match kind {
        Kind::Listen => "\"address:port\" or \"unix:/path\"".to_owned(),
        Kind::Names { .. } | Kind::Targets => "a name".to_owned(),
        Kind::Origins => "an origin".to_owned(),
        Kind::Endpoints => "the address of a server".to_owned(),
        other => expects(other),
    }
}

fn one_of(words: &[&str]) -> String {
    let mut out = String::new();
    for (index, word) in words.iter().enumerate() {
        let separator = match words.len() - index {
            _ if index == 0 => "",
            1 => " or ",
            _ => ", ",
        };
        out.push_str(&format!("{separator}\"{word}\""));
    }
    out
}
