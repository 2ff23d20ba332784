//! Parameters in a URL's query.

use std::str::FromStr;

use axum::extract::Query;
use http::Uri;

use crate::error::ApiError;

/// The first value of a parameter; an empty one counts as absent.
pub(super) fn text(query: Option<&str>, name: &str) -> Option<String> {
    // Axum reads queries of URIs; a query that came in a request is one of a URI.
    let uri: Uri = format!("/?{}", query?).parse().ok()?;
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&uri).ok()?;
    pairs
        .into_iter()
        .find(|(key, value)| key == name && !value.is_empty())
        .map(|(_, value)| value)
}

/// The first value of a parameter as a whole number.
///
/// # Errors
/// VALIDATION_ERROR.
pub(super) fn number<N: FromStr>(query: Option<&str>, name: &str) -> Result<Option<N>, ApiError> {
    let parsed = text(query, name).map(|text| text.parse());
    parsed
        .transpose()
        .map_err(|_| ApiError::validation(format!("/{name}"), "a whole number"))
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn values_are_decoded_and_empty_ones_count_as_absent() {
        assert_eq!(text(Some("a=1&b=x%20y&b=z"), "b").as_deref(), Some("x y"));
        assert_eq!(text(Some("a=&b"), "a"), None);
        assert_eq!(text(None, "a"), None);
    }

    #[test]
    fn what_is_no_number_is_named() {
        assert_eq!(number::<u32>(Some("limit=7"), "limit").expect("a number"), Some(7));
        let refused = number::<u32>(Some("limit=-7"), "limit").expect_err("below zero");
        assert_eq!(refused.details["pointer"], "/limit");
    }
}
