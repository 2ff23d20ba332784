//! From which pages a browser may connect (AUTH-7).

use http::{HeaderMap, header};
use kingsguard_protocol::ErrorCode;

use crate::error::ApiError;

/// No `Origin` is allowed, as only browsers send one; an empty list allows every origin.
pub(super) fn judge(allowed: &[String], headers: &HeaderMap) -> Result<(), ApiError> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let (Some(origin), false) = (origins.next(), allowed.is_empty()) else {
        return Ok(());
    };
    let known = origin
        .to_str()
        .is_ok_and(|origin| allowed.iter().any(|one| one.eq_ignore_ascii_case(origin.trim())));
    if known && origins.next().is_none() {
        Ok(())
    } else {
        Err(ApiError::new(ErrorCode::OriginNotAllowed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_allowed(allowed: &[&str], origins: &[&str]) -> bool {
        let allowed: Vec<String> = allowed.iter().map(|&one| one.to_owned()).collect();
        let mut headers = HeaderMap::new();
        for origin in origins {
            headers.append(header::ORIGIN, origin.parse().expect("a header value"));
        }
        judge(&allowed, &headers).is_ok()
    }

    #[test]
    fn only_origins_of_the_list_are_allowed_where_there_is_one() {
        let list = ["https://chat.example"];
        assert!(is_allowed(&list, &["https://chat.example"]));
        assert!(is_allowed(&list, &["HTTPS://Chat.Example"]));
        assert!(is_allowed(&list, &[]));
        assert!(is_allowed(&[], &["https://evil.example"]));
        for foreign in [
            "https://evil.example",
            "https://chat.example.evil",
            "http://chat.example",
            "null",
            "",
        ] {
            assert!(!is_allowed(&list, &[foreign]), "{foreign}");
        }
        assert!(!is_allowed(&list, &["https://chat.example", "https://evil.example"]));
    }
}
