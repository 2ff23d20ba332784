//! Access tokens: JWT, HS256 and nothing else (AUTH-5).

use std::fmt;
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use kingsguard_protocol::http::Secret;
use kingsguard_protocol::{ErrorCode, Timestamp, UserId};
use serde::{Deserialize, Serialize};

use super::identity::{FamilyId, Identity, TokenId};
use crate::config::Config;
use crate::error::ApiError;

/// A token is longer than this only if it is not ours: ours are below 700 bytes. Bounds what a stranger can make us hash.
const TOKEN_BYTES_MAX: usize = 4_096;

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: UserId,
    jti: TokenId,
    fam: FamilyId,
    iat: i64,
    exp: i64,
}

/// Signs and judges access tokens.
pub(super) struct Signer {
    signing: EncodingKey,
    judging: DecodingKey,
    validation: Validation,
    issuer: String,
    audience: String,
    life: Duration,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

impl Signer {
    pub(super) fn new(config: &Config) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // AUTH-6 allows 5 s; all nodes of a service are expected to keep time, so that none is needed.
        validation.leeway = 0;
        validation.set_issuer(&[&config.jwt_issuer]);
        validation.set_audience(&[&config.jwt_audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let secret = config.jwt_secret.reveal().as_bytes();
        Self {
            signing: EncodingKey::from_secret(secret),
            judging: DecodingKey::from_secret(secret),
            validation,
            issuer: config.jwt_issuer.clone(),
            audience: config.jwt_audience.clone(),
            life: config.access_token_ttl,
        }
    }

    /// A fresh token of a family. `exp` counts whole seconds, rounded up so that the promised life is held.
    pub(super) fn sign(&self, user_id: &UserId, family_id: &FamilyId) -> Result<Secret, ApiError> {
        let now_ms = Timestamp::now().as_unix_ms();
        let life_ms = i64::try_from(self.life.as_millis()).unwrap_or(i64::MAX);
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            sub: user_id.clone(),
            jti: TokenId::generate(),
            fam: family_id.clone(),
            iat: now_ms.div_euclid(1000),
            exp: now_ms.saturating_add(life_ms).saturating_add(999).div_euclid(1000),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.signing)
            .map(Secret::from)
            .map_err(ApiError::internal)
    }

    /// Judges form, algorithm, signature, issuer, audience and time; not revocation.
    pub(super) fn judge(&self, token: &str) -> Result<Identity, ApiError> {
        let invalid = || ApiError::new(ErrorCode::AuthTokenInvalid);
        if token.len() > TOKEN_BYTES_MAX {
            return Err(invalid());
        }
        let claims = jsonwebtoken::decode::<Claims>(token, &self.judging, &self.validation)
            .map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => ApiError::new(ErrorCode::AuthTokenExpired),
                _ => invalid(),
            })?
            .claims;
        let expires_at = claims
            .exp
            .checked_mul(1000)
            .and_then(Timestamp::from_unix_ms)
            .ok_or_else(invalid)?;
        if expires_at <= Timestamp::now() {
            return Err(ApiError::new(ErrorCode::AuthTokenExpired));
        }
        Ok(Identity {
            user_id: claims.sub,
            token_id: claims.jti,
            family_id: claims.fam,
            expires_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use pretty_assertions::assert_eq;
    use serde_json::{Value, json};

    use super::*;

    fn signer(extra: &[(&str, &str)]) -> Signer {
        let mut variables = vec![
            ("KINGSGUARD_JWT_SECRET", "0123456789abcdef0123456789abcdef"),
            ("KINGSGUARD_DATABASE_URL", "postgres://kingsguard@127.0.0.1/kingsguard"),
            ("KINGSGUARD_REDIS_URL", "redis://127.0.0.1/"),
        ];
        variables.extend(extra);
        // Of a name that is given twice the later value counts.
        Signer::new(&Config::from_variables(variables).expect("complete").config)
    }

    fn token(signer: &Signer) -> String {
        let signed = signer.sign(&UserId::from("user_a"), &FamilyId::from("family_a".to_owned()));
        signed.expect("signing needs nothing").reveal().to_owned()
    }

    fn code(signer: &Signer, token: &str) -> ErrorCode {
        signer.judge(token).expect_err("the token is bad").code
    }

    fn part(value: &Value) -> String {
        URL_SAFE_NO_PAD.encode(value.to_string())
    }

    fn signed(signer: &Signer, algorithm: Algorithm, claims: &Value) -> String {
        jsonwebtoken::encode(&Header::new(algorithm), claims, &signer.signing).expect("claims are JSON")
    }

    fn claims(expires_in_s: i64) -> Value {
        json!({
            "iss": "kingsguard", "aud": "kingsguard", "sub": "user_a", "jti": "token_a", "fam": "family_a",
            "iat": 0, "exp": Timestamp::now().as_unix_ms() / 1000 + expires_in_s
        })
    }

    #[test]
    fn a_token_stands_for_its_user_and_family() {
        let signer = signer(&[]);
        let identity = signer.judge(&token(&signer)).expect("just signed");
        assert_eq!(identity.user_id, UserId::from("user_a"));
        assert_eq!(identity.family_id.as_str(), "family_a");
        let left_ms = identity.expires_at.as_unix_ms() - Timestamp::now().as_unix_ms();
        assert!((899_000..=901_000).contains(&left_ms), "{left_ms} ms left of 15 min");
    }

    #[test]
    fn a_changed_payload_is_invalid() {
        let signer = signer(&[]);
        let good = token(&signer);
        let mut parts: Vec<&str> = good.split('.').collect();
        let forged =
            part(&json!({"iss": "kingsguard", "aud": "kingsguard", "sub": "user_b", "exp": 9_999_999_999_i64}));
        parts[1] = &forged;
        assert_eq!(code(&signer, &parts.join(".")), ErrorCode::AuthTokenInvalid);
    }

    #[test]
    fn no_algorithm_and_another_algorithm_are_invalid() {
        let signer = signer(&[]);
        let none = format!("{}.{}.", part(&json!({"alg": "none", "typ": "JWT"})), part(&claims(60)));
        assert_eq!(code(&signer, &none), ErrorCode::AuthTokenInvalid);
        assert_eq!(
            code(&signer, &signed(&signer, Algorithm::HS512, &claims(60))),
            ErrorCode::AuthTokenInvalid
        );
        signer
            .judge(&signed(&signer, Algorithm::HS256, &claims(60)))
            .expect("the same claims are good under HS256");
    }

    #[test]
    fn another_issuer_audience_or_key_is_invalid() {
        let ours = signer(&[]);
        for other in [
            ("KINGSGUARD_JWT_ISSUER", "other"),
            ("KINGSGUARD_JWT_AUDIENCE", "other"),
            ("KINGSGUARD_JWT_SECRET", "another key of at least thirty-two bytes"),
        ] {
            let theirs = signer(&[other]);
            assert_eq!(code(&ours, &token(&theirs)), ErrorCode::AuthTokenInvalid, "{}", other.0);
        }
    }

    #[test]
    fn an_expired_token_is_told_from_an_invalid_one() {
        let signer = signer(&[]);
        assert_eq!(
            code(&signer, &signed(&signer, Algorithm::HS256, &claims(-6))),
            ErrorCode::AuthTokenExpired
        );
        assert_eq!(
            code(&signer, &signed(&signer, Algorithm::HS256, &claims(0))),
            ErrorCode::AuthTokenExpired
        );
    }

    #[test]
    fn a_missing_claim_is_invalid() {
        let signer = signer(&[]);
        for missing in ["iss", "aud", "sub", "jti", "fam", "exp"] {
            let mut claims = claims(60);
            claims.as_object_mut().expect("an object").remove(missing);
            assert_eq!(
                code(&signer, &signed(&signer, Algorithm::HS256, &claims)),
                ErrorCode::AuthTokenInvalid,
                "{missing}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_judge_panic(text in ".*") {
            proptest::prop_assert!(signer(&[]).judge(&text).is_err());
        }
    }
}
