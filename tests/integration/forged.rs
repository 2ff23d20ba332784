//! Tokens that a backend must refuse (AUTH-5), made from a good one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value, json};

/// A token's claims; the signature is not looked at.
pub fn claims(token: &str) -> Map<String, Value> {
    let body = token.split('.').nth(1).expect("a JWT has three parts");
    let bytes = URL_SAFE_NO_PAD.decode(body).expect("a JWT's claims are base64url");
    serde_json::from_slice(&bytes).expect("a JWT's claims are an object")
}

/// The claims with some of them changed.
pub fn changed(token: &str, changes: Value) -> Map<String, Value> {
    let mut claims = claims(token);
    claims.extend(changes.as_object().expect("changes are an object").clone());
    claims
}

/// Claims signed with a key.
pub fn signed(claims: &Map<String, Value>, algorithm: Algorithm, key: &[u8]) -> String {
    let key = EncodingKey::from_secret(key);
    jsonwebtoken::encode(&Header::new(algorithm), claims, &key).expect("HMAC signs anything")
}

/// The same claims under a header that asks for no signature.
pub fn unsigned(token: &str, alg: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(json!({ "alg": alg, "typ": "JWT" }).to_string());
    let claims = token.split('.').nth(1).expect("a JWT has three parts");
    format!("{header}.{claims}.")
}

/// Changed claims above the old signature.
pub fn tampered(token: &str, changes: Value) -> String {
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    let claims = Value::Object(changed(token, changes)).to_string();
    parts[1] = URL_SAFE_NO_PAD.encode(claims);
    parts.join(".")
}

/// The signature with its first byte changed.
pub fn with_broken_signature(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').expect("a JWT has three parts");
    let mut bytes = URL_SAFE_NO_PAD
        .decode(signature)
        .expect("a JWT's signature is base64url");
    bytes[0] ^= 1;
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// The whole token in base64url, as browsers need it in a sub-protocol.
pub fn encoded_whole(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(token)
}
