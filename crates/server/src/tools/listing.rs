//! The records themselves, for those who want to see each.

use std::fmt::Write as _;

use kingsguard_protocol::Timestamp;
use serde_json::json;

use super::dataset::UsageRow;
use super::dispatcher::{ToolError, ToolInputs};
use super::figures::{Object, dollars, object};

/// Records that one answer lists, the newest ones. The whole answer is kept as one message: more would make it a file,
/// which is what exports are for.
const LISTED_MAX: usize = 5_000;

/// Counts what an answer lists; the rows themselves are its parts.
pub(super) fn list_records(rows: &[UsageRow], _inputs: &ToolInputs) -> Result<Object, ToolError> {
    let listed = listed(rows);
    let at = |row: Option<&UsageRow>| {
        row.and_then(|row| Timestamp::from_unix_ms(row.at_ms))
            .map(|at| at.to_string())
    };
    Ok(object(json!({
        "records": rows.len(),
        "listed": listed.len(),
        "listed_cost_microusd": listed.iter().map(|row| row.cost_microusd).sum::<u64>(),
        "first_at": at(listed.first()),
        "last_at": at(listed.last()),
    })))
}

/// The records of these that an answer lists: the newest, oldest first.
#[must_use]
pub fn listed(rows: &[UsageRow]) -> &[UsageRow] {
    &rows[rows.len().saturating_sub(LISTED_MAX)..]
}

/// One record in a line, without what it does not have.
#[must_use]
pub fn row_in_words(row: &UsageRow) -> String {
    let mut line = Timestamp::from_unix_ms(row.at_ms).map_or_else(String::new, |at| at.to_string());
    let mut add = |arguments: std::fmt::Arguments<'_>| line.write_fmt(arguments).expect("a string takes it");
    add(format_args!(" {}", row.model));
    if let Some(feature) = &row.feature {
        add(format_args!(" for {feature}"));
    }
    add(format_args!(
        ": {} tokens in, {} out",
        row.input_tokens, row.output_tokens
    ));
    if let Some(latency_ms) = row.latency_ms {
        add(format_args!(", {latency_ms} ms"));
    }
    add(format_args!(", {}", dollars(row.cost_microusd)));
    if !row.success {
        add(format_args!(", failed"));
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::super::dataset::tests::row;
    use super::*;

    #[test]
    fn a_line_says_what_the_record_has_and_nothing_else() {
        let whole = row(0);
        assert_eq!(
            row_in_words(&whole),
            "1970-01-01T00:00:00.000Z gpt-4o for search: 1000 tokens in, 100 out, 500 ms, $0.0035\n"
        );
        let bare = UsageRow {
            feature: None,
            latency_ms: None,
            success: false,
            ..whole
        };
        assert_eq!(
            row_in_words(&bare),
            "1970-01-01T00:00:00.000Z gpt-4o: 1000 tokens in, 100 out, $0.0035, failed\n"
        );
    }

    #[test]
    fn the_newest_are_listed_where_there_are_too_many() {
        let rows: Vec<_> = (0..LISTED_MAX as i64 + 3).map(row).collect();
        let listed = listed(&rows);
        assert_eq!((listed.len(), listed[0].at_ms), (LISTED_MAX, 3));
    }
}
