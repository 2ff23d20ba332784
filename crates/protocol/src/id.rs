//! Ids as types: a thread id can never be passed as a user id (contract §1).

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        #[schemars(transparent)]
        pub struct $name(Arc<str>);

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

            /// Whether this is the prefix followed by a UUIDv7, as the contract has ids that backends make.
            #[must_use]
            pub fn is_well_formed(&self) -> bool {
                self.0
                    .strip_prefix($prefix)
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
    "message_"
);
id!(/** One WebSocket. */ ConnectionId, "connection_");
id!(/** One execution of a tool. */ ExecutionId, "execution_");
id!(
    /** One incarnation of a thread's log: it changes if and only if earlier `seq` values may mean something else. */
    Epoch,
    "epoch_"
);
