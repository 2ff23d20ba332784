//! Where a credential travels (AUTH-2): sub-protocol, `Authorization`, query `ticket`, query `token`, in this order. The
//! first carrier present decides; a bad one does not fall through to the next.

use axum::extract::Query;
use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::{HeaderMap, Uri, header};
use kingsguard_protocol::ErrorCode;
use kingsguard_protocol::http::Secret;

use crate::error::ApiError;

/// What the sub-protocols that carry a token begin with.
const PREFIXES: [&str; 4] = ["jwt", "jwt-auth", "bearer", "staging-auth"];

/// Segments that may stand between prefix and token.
const ENVIRONMENTS: [&str; 4] = ["local", "development", "staging", "production"];

/// Base64url as clients write it, with padding or without.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a client proves itself by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// An access token.
    Bearer(Secret),
    /// A ticket (AUTH-4).
    Ticket(Secret),
}

/// A credential and how it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The credential, not yet judged.
    pub credential: Credential,
    /// The offered sub-protocol that carried it: exactly this is echoed, or none (AUTH-3). It holds the token, so it is
    /// a secret too.
    pub subprotocol: Option<Secret>,
}

/// The credential of an upgrade or a stream; `None` where no carrier is present.
///
/// # Errors
/// AUTH_TOKEN_INVALID: the first carrier present holds no credential.
pub fn credential(headers: &HeaderMap, uri: &Uri) -> Result<Option<Carried>, ApiError> {
    if let Some(offered) = offered_subprotocols(headers).find(|offered| split_prefix(offered).is_some()) {
        let token = split_prefix(offered)
            .and_then(token_of_subprotocol)
            .ok_or_else(invalid)?;
        return Ok(Some(Carried {
            credential: Credential::Bearer(token),
            subprotocol: Some(Secret::from(offered)),
        }));
    }
    if let Some(token) = bearer(headers)? {
        return Ok(Some(Carried {
            credential: Credential::Bearer(token),
            subprotocol: None,
        }));
    }
    let pairs = match uri.query() {
        None => Vec::new(),
        Some(_) => Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map(|query| query.0)
            .unwrap_or_default(),
    };
    let first = |name: &str| {
        pairs
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };
    let carried = |credential| {
        Ok(Some(Carried {
            credential,
            subprotocol: None,
        }))
    };
    match (first("ticket"), first("token")) {
        (Some(""), _) | (None, Some("")) => Err(invalid()),
        (Some(ticket), _) => carried(Credential::Ticket(Secret::from(ticket))),
        (None, Some(token)) => carried(Credential::Bearer(Secret::from(token))),
        (None, None) => Ok(None),
    }
}

/// The token of `Authorization: Bearer T`; `None` where the header is absent.
///
/// # Errors
/// AUTH_TOKEN_INVALID: the header is there and holds no bearer token.
pub fn bearer(headers: &HeaderMap) -> Result<Option<Secret>, ApiError> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Ok(None);
    };
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|value| value.trim().split_once(' '))
        .ok_or_else(invalid)?;
    let token = token.trim();
    // RFC 9110 §11.1: the scheme's case does not matter.
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(invalid());
    }
    Ok(Some(Secret::from(token)))
}

fn invalid() -> ApiError {
    ApiError::new(ErrorCode::AuthTokenInvalid)
}

/// All sub-protocols that a client offers, in its order: the header may be repeated, and each holds a list.
fn offered_subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|offered| !offered.is_empty())
}

/// What follows one of the four prefixes and its dot.
fn split_prefix(offered: &str) -> Option<&str> {
    let (prefix, rest) = offered.split_once('.')?;
    PREFIXES.contains(&prefix).then_some(rest)
}

fn token_of_subprotocol(rest: &str) -> Option<Secret> {
    let token = match rest.split_once('.') {
        Some((environment, token)) if ENVIRONMENTS.contains(&environment) => token,
        _ => rest,
    };
    if is_jwt_shaped(token) {
        return Some(Secret::from(token));
    }
    let whole = String::from_utf8(BASE64URL.decode(token).ok()?).ok()?;
    is_jwt_shaped(&whole).then(|| Secret::from(whole))
}

/// Three parts; the last may be empty (`alg: none`), which the judge refuses.
fn is_jwt_shaped(token: &str) -> bool {
    let parts: Vec<&str> = token.split('.').collect();
    parts.len() == 3 && parts[..2].iter().all(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1c2VyX2EifQ.c2lnbmF0dXJl";
    const OTHER: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1c2VyX2IifQ.b3RoZXI";

    fn headers(pairs: &[(&'static str, String)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().expect("a header value"));
        }
        headers
    }

    fn uri(text: &str) -> Uri {
        text.parse().expect("a URI")
    }

    fn by_subprotocol(offered: &str) -> Result<Option<Carried>, ErrorCode> {
        credential(&headers(&[("sec-websocket-protocol", offered.to_owned())]), &uri("/ws")).map_err(|error| error.code)
    }

    fn bearer_of(token: &str, subprotocol: Option<&str>) -> Option<Carried> {
        Some(Carried {
            credential: Credential::Bearer(Secret::from(token)),
            subprotocol: subprotocol.map(Secret::from),
        })
    }

    #[test]
    fn every_prefix_with_and_without_environment_raw_and_encoded_carries_the_token() {
        let encoded = BASE64URL.encode(JWT);
        let unpadded = encoded.trim_end_matches('=');
        for prefix in PREFIXES {
            for environment in ["", "local.", "development.", "staging.", "production."] {
                for token in [JWT, unpadded] {
                    let offered = format!("{prefix}.{environment}{token}");
                    assert_eq!(
                        by_subprotocol(&offered),
                        Ok(bearer_of(JWT, Some(&offered))),
                        "{offered}"
                    );
                }
            }
        }
    }

    #[test]
    fn of_seven_copies_in_one_header_the_first_is_taken_and_echoed() {
        let copies = [
            format!("jwt.local.{JWT}"),
            format!("jwt-auth.local.{JWT}"),
            format!("bearer.local.{JWT}"),
            format!("staging-auth.{JWT}"),
            format!("jwt.{JWT}"),
            format!("jwt-auth.{JWT}"),
            format!("bearer.{JWT}"),
        ];
        assert_eq!(by_subprotocol(&copies.join(", ")), Ok(bearer_of(JWT, Some(&copies[0]))));
    }

    #[test]
    fn sub_protocols_without_a_prefix_are_passed_over() {
        let ours = format!("bearer.{JWT}");
        assert_eq!(
            by_subprotocol(&format!("chat, e2e-testing,{ours}")),
            Ok(bearer_of(JWT, Some(&ours)))
        );
        assert_eq!(by_subprotocol("chat, jwt, JWT.x, superchat.v1"), Ok(None));
    }

    #[test]
    fn a_repeated_header_is_one_list() {
        let ours = format!("jwt.{JWT}");
        let both = headers(&[
            ("sec-websocket-protocol", "chat".to_owned()),
            ("sec-websocket-protocol", ours.clone()),
        ]);
        let carried = credential(&both, &uri("/ws")).expect("present");
        assert_eq!(carried, bearer_of(JWT, Some(&ours)));
    }

    #[test]
    fn the_first_carrier_decides() {
        let all = [
            ("sec-websocket-protocol", format!("jwt.{JWT}")),
            ("authorization", format!("Bearer {OTHER}")),
        ];
        let with_query = uri("/ws?token=t&ticket=k");
        let carried =
            |headers: &HeaderMap, uri: &Uri| credential(headers, uri).expect("good").expect("present").credential;
        assert_eq!(
            carried(&headers(&all), &with_query),
            Credential::Bearer(Secret::from(JWT))
        );
        assert_eq!(
            carried(&headers(&all[1..]), &with_query),
            Credential::Bearer(Secret::from(OTHER))
        );
        assert_eq!(
            carried(&HeaderMap::new(), &with_query),
            Credential::Ticket(Secret::from("k"))
        );
        assert_eq!(
            carried(&HeaderMap::new(), &uri("/ws?token=t")),
            Credential::Bearer(Secret::from("t"))
        );
        assert_eq!(credential(&HeaderMap::new(), &uri("/ws?other=1")).expect("good"), None);
    }

    #[test]
    fn a_bad_carrier_does_not_fall_through_to_a_good_one() {
        let good = ("authorization", format!("Bearer {JWT}"));
        let invalid = |headers: HeaderMap, target: &str| {
            let refused = credential(&headers, &uri(target)).expect_err("the first carrier is bad");
            assert_eq!(refused.code, ErrorCode::AuthTokenInvalid);
        };
        for bad in [
            "jwt.",
            "jwt.x",
            "bearer.local.",
            "jwt.a.b",
            "jwt.a.b.c.d",
            "staging-auth.!!!",
        ] {
            invalid(
                headers(&[("sec-websocket-protocol", bad.to_owned()), good.clone()]),
                "/ws",
            );
        }
        for bad in ["Basic dTpw", "Bearer", "Bearer  ", "Token x"] {
            invalid(
                headers(&[("authorization", bad.to_owned())]),
                &format!("/ws?token={JWT}"),
            );
        }
        invalid(HeaderMap::new(), &format!("/ws?ticket=&token={JWT}"));
    }

    #[test]
    fn the_scheme_is_read_without_case() {
        let carried = bearer(&headers(&[("authorization", format!("bEaReR {JWT}"))])).expect("good");
        assert_eq!(carried, Some(Secret::from(JWT)));
    }

    proptest::proptest! {
        #[test]
        fn no_header_makes_it_panic(offered in "[ -~]{0,200}", query in "[!-~]{0,100}") {
            let pairs = [("sec-websocket-protocol", offered)];
            if let Ok(uri) = format!("/ws?{query}").parse::<Uri>() {
                drop(credential(&headers(&pairs), &uri));
            }
        }
    }
}
