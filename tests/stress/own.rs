//! Tests that bring their own settings.

mod slow_reader;
