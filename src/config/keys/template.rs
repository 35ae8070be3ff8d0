//! The rows of prompt templates. Part of [`super::KEYS`].

use super::Absent::{Default, Optional, Required};
use super::Table::Template;
use super::{Key, Kind, NAME};

#[rustfmt::skip]
pub(super) const ROWS: &[Key] = &[
    Key { table: Template, name: "name", kind: NAME, absent: Required,
        doc: "The id by which requests ask for it: `\"prompt\": {\"id\": NAME}`.",
        example: r#""support""# },
    Key { table: Template, name: "version", kind: NAME, absent: Default(r#""1""#),
        doc: "Several versions of one name may stand side by side, each in a table of its own; a request may name one.",
        example: r#""2026-11""# },
    Key { table: Template, name: "default", kind: Kind::Switch, absent: Default("false"),
        doc: "Whether requests that name no version get this one. Where no version of a name is marked, they get the last one.",
        example: "true" },
    Key { table: Template, name: "system", kind: Kind::Template, absent: Optional,
        doc: "The text of a system message, in front of the client's own messages. Jinja's syntax; {{ name }} is a variable of the \
              request. Every variable has to be given. file:/path reads the text from a file.",
        example: r#""You answer questions about {{ product }}. Be {{ tone }}.""# },
    Key { table: Template, name: "user", kind: Kind::Template, absent: Optional,
        doc: "The same of a user message, behind the system message. At least one of the two is required.",
        example: r#""{% for question in questions %}* {{ question }}\n{% endfor %}""# },
    Key { table: Template, name: "defaults", kind: Kind::Members, absent: Optional,
        doc: "Values of variables that a request may leave out.",
        example: r#"{ tone = "brief" }"# },
];
