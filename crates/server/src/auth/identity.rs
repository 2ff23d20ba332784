//! Who a credential stands for.

use std::fmt;
use std::sync::Arc;

use kingsguard_protocol::{Timestamp, UserId};
use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            pub(crate) fn generate() -> Self {
                Self(format!("{}{}", $prefix, uuid::Uuid::now_v7()).into())
            }

            /// The id as it is stored.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(/** One access token (`jti`); opens nothing by itself. */ TokenId, "token_");
id!(/** One login and everything refreshed from it (`fam`); revoked as a whole. */ FamilyId, "family_");

/// Who a credential stands for, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The account.
    pub user_id: UserId,
    /// The access token.
    pub token_id: TokenId,
    /// The token's family.
    pub family_id: FamilyId,
    /// When the token expires; no connection that it made lives longer (AUTH-6).
    pub expires_at: Timestamp,
}
