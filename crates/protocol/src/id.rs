//! Ids as types: a thread id can never be passed as a user id (contract §1).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        id!($(#[$doc])* $name, $prefix, schemars::json_schema!({
            "type": "string",
            "pattern": concat!("^", $prefix, "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"),
        }));
    };
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $schema:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }

        impl $name {
            /// What every id of this kind made by a backend begins with.
            pub const PREFIX: &'static str = $prefix;

            /// A new id: the prefix and a UUIDv7 (RFC 9562), so ids sort by the time they were made.
            #[must_use]
            pub fn generate() -> Self {
                Self(format!("{}{}", $prefix, uuid::Uuid::now_v7()).into())
            }

            /// The id as it stands on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether this is the prefix followed by a UUIDv7 with its hyphens, as the contract has ids that backends make.
            #[must_use]
            pub fn is_well_formed(&self) -> bool {
                self.0
                    .strip_prefix($prefix)
                    .filter(|rest| rest.len() == uuid::fmt::Hyphenated::LENGTH)
                    .and_then(|rest| uuid::Uuid::try_parse(rest).ok())
                    .is_some_and(|uuid| uuid.get_version_num() == 7)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(/** An account. */ UserId, "user_");
id!(/** One conversation. */ ThreadId, "thread_");
id!(/** One execution of the agents. */ RunId, "run_");
id!(/** One event of a thread's log. */ EventId, "event_");
id!(
    /** One client message. Clients may choose any string of 1–128 characters. */
    MessageId,
    "message_",
    schemars::json_schema!({ "type": "string", "minLength": 1, "maxLength": 128 })
);
id!(/** One WebSocket. */ ConnectionId, "connection_");
id!(/** One execution of a tool. */ ExecutionId, "execution_");
id!(
    /** One incarnation of a thread's log: it changes if and only if earlier `seq` values may mean something else. */
    Epoch,
    "epoch_",
    schemars::json_schema!({ "type": "string", "minLength": 1 })
);
