//! The rows of what is asked of backends in another way than their clients ask. Part of [`super::KEYS`].

use strum::VariantNames;

use super::Absent::Default;
use super::Table::Backend;
use super::{Key, Kind};
use crate::config::snapshot::CountTokens;

#[rustfmt::skip]
pub(super) const ROWS: &[Key] = &[
    Key { table: Backend, name: "count_tokens", kind: Kind::Choice(CountTokens::VARIANTS), absent: Default(r#""off""#),
        doc: "With api = \"openai\": how it counts the tokens of a message (/v1/messages/count_tokens). \"vllm\" asks its /tokenize, \
              which applies the chat template; \"off\": it cannot, and the client gets 404.",
        example: r#""vllm""# },
];
