//! The rows of what tokens cost at a model. Part of [`super::KEYS`].

use super::Absent::Optional;
use super::Table::Model;
use super::{Key, Kind, tenant};

const PRICE: Kind = Kind::Money { least: 0, most: 1_000_000 * tenant::UNIT };

#[rustfmt::skip]
pub(super) const ROWS: &[Key] = &[
    Key { table: Model, name: "price_input", kind: PRICE, absent: Optional,
        doc: "Price of a million tokens of prompts, in the unit of money that budgets are in; at most six digits after the \
              point. Without it, they cost nothing.",
        example: r#""0.15""# },
    Key { table: Model, name: "price_cached_input", kind: PRICE, absent: Optional,
        doc: "Price of a million tokens of prompts that the provider reports as read from its own cache. Without it, they cost \
              price_input.",
        example: r#""0.075""# },
    Key { table: Model, name: "price_cache_write", kind: PRICE, absent: Optional,
        doc: "Price of a million tokens of prompts that the provider reports as written to its own cache, as Anthropic's API \
              does. Without it, they cost price_input.",
        example: r#""0.15""# },
    Key { table: Model, name: "price_output", kind: PRICE, absent: Optional,
        doc: "Price of a million tokens of answers, reasoning included.",
        example: r#""0.60""# },
];
