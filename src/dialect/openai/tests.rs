//! Tests of the OpenAI dialect: tables for facts, properties of edits and conversions, golden files for visible bytes.

mod answers;
mod asked;
mod events;
mod faults;
mod golden;
mod requests;
mod shapes;
