//! Tests that need a backend of their own: settings, signals, restarts.
