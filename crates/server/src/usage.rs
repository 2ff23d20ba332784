//! Bringing usage records: `POST /api/usage-records` (contract §11, HTTP-1).

/// Rows that one call may bring; the issue chose the number.
pub const ROWS_MAX: u64 = 100_000;
