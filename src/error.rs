//! Every failure once.
