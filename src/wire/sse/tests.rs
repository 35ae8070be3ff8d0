//! Tests of the splitter and the writers.
