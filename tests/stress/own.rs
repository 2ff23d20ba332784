//! Tests that bring their own settings.

mod bad_links;
mod order;
mod slow_reader;
