//! What a backend may leave out and still be judged by the rest.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Something that a backend may leave out. Where its profile does not claim it, every test that uses it is not judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// Accounts with e-mail and password.
    Accounts,
    /// Tickets for a WebSocket.
    Tickets,
    /// Threads over the WebSocket.
    Threads,
    /// Threads over HTTP.
    ThreadsRest,
    /// Stored history over the WebSocket.
    History,
    /// Going on after a lost connection.
    Resume,
    /// Stopping a run.
    Stop,
    /// Asking one agent by its name.
    StartAgent,
    /// What agents do at present.
    AgentStatus,
    /// What an agent knows of a thread.
    AgentContext,
    /// Messages over HTTP.
    ChatRest,
    /// Server-Sent Events.
    Sse,
    /// Usage records, and agents that compute answers from them.
    DataImport,
    /// What a user used and what it cost.
    Billing,
    /// Several messages in one frame.
    Batch,
    /// What one connection of a user tells his others.
    Relays,
    /// Judging answers and texts.
    Quality,
    /// Stored examples.
    Examples,
    /// A fresh token within a connection.
    Reauthentication,
    /// Confirming that an event arrived.
    Confirmation,
    /// Health, metrics and a description of the HTTP side.
    Operations,
    /// Refusing a frame by its header, before the rest of it came.
    EarlyRefusal,
}

/// What makes use of a capability.
struct Use {
    capability: Capability,
    /// For people.
    what: &'static str,
    /// How the paths of its HTTP calls begin.
    calls: &'static [&'static str],
    /// Types of its client messages, aliases included.
    messages: &'static [&'static str],
}

const USES: &[Use] = &[
    Use {
        capability: Capability::Accounts,
        what: "accounts with e-mail and password: register, login, refresh, logout, me",
        calls: &["/auth/"],
        messages: &[],
    },
    Use {
        capability: Capability::Tickets,
        what: "tickets for a WebSocket",
        calls: &["/api/websocket/ticket"],
        messages: &[],
    },
    Use {
        capability: Capability::Threads,
        what: "threads over the WebSocket: create, list, switch, rename, delete",
        calls: &[],
        messages: &[
            "create_thread",
            "list_threads",
            "switch_thread",
            "rename_thread",
            "delete_thread",
        ],
    },
    Use {
        capability: Capability::ThreadsRest,
        what: "threads over HTTP",
        calls: &["/api/threads"],
        messages: &[],
    },
    Use {
        capability: Capability::History,
        what: "stored history over the WebSocket",
        calls: &[],
        messages: &["get_thread_history"],
    },
    Use {
        capability: Capability::Resume,
        what: "going on after a lost connection",
        calls: &[],
        messages: &[],
    },
    Use {
        capability: Capability::Stop,
        what: "stopping a run",
        calls: &[],
        messages: &["stop_agent"],
    },
    Use {
        capability: Capability::StartAgent,
        what: "asking one agent by its name",
        calls: &["/api/agents"],
        messages: &["start_agent", "execute_agent", "agent_request"],
    },
    Use {
        capability: Capability::AgentStatus,
        what: "what agents do at present",
        calls: &["/api/runs"],
        messages: &["agent_status_request"],
    },
    Use {
        capability: Capability::AgentContext,
        what: "what an agent knows of a thread",
        calls: &[],
        messages: &["get_agent_context"],
    },
    Use {
        capability: Capability::ChatRest,
        what: "messages over HTTP",
        calls: &["/api/chat/messages"],
        messages: &[],
    },
    Use {
        capability: Capability::Sse,
        what: "Server-Sent Events",
        calls: &["/api/chat/stream"],
        messages: &[],
    },
    Use {
        capability: Capability::DataImport,
        what: "usage records, and agents that compute answers from them",
        calls: &["/api/usage-records"],
        messages: &[],
    },
    Use {
        capability: Capability::Billing,
        what: "what a user used and what it cost",
        calls: &["/api/billing"],
        messages: &["get_usage"],
    },
    Use {
        capability: Capability::Batch,
        what: "several messages in one frame",
        calls: &[],
        messages: &["batch"],
    },
    Use {
        capability: Capability::Relays,
        what: "what one connection of a user tells his others",
        calls: &[],
        messages: &["broadcast", "typing_started", "typing_stopped"],
    },
    Use {
        capability: Capability::Quality,
        what: "judging answers and texts",
        calls: &[],
        messages: &["get_quality_metrics", "validate_content"],
    },
    Use {
        capability: Capability::Examples,
        what: "stored examples",
        calls: &[],
        messages: &["example_message"],
    },
    Use {
        capability: Capability::Reauthentication,
        what: "a fresh token within a connection",
        calls: &[],
        messages: &["auth"],
    },
    Use {
        capability: Capability::Confirmation,
        what: "confirming that an event arrived",
        calls: &[],
        messages: &["confirmation"],
    },
    Use {
        capability: Capability::Operations,
        what: "health, metrics and a description of the HTTP side",
        calls: &["/health", "/metrics", "/api/openapi.json"],
        messages: &[],
    },
    Use {
        capability: Capability::EarlyRefusal,
        what: "refusing a frame by its header, before the rest of it came",
        calls: &[],
        messages: &[],
    },
];

impl Capability {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        USES.iter().map(|one| one.capability)
    }

    /// What it is, for people.
    #[must_use]
    pub fn what(self) -> &'static str {
        USES.iter()
            .find(|one| one.capability == self)
            .map_or("", |one| one.what)
    }

    /// What an HTTP call makes use of.
    pub(crate) fn of_call(path: &str) -> Option<Self> {
        let used = USES
            .iter()
            .find(|one| one.calls.iter().any(|begin| path.starts_with(begin)));
        used.map(|one| one.capability)
    }

    /// What a client message makes use of.
    pub(crate) fn of_message(message: &Value) -> Vec<Self> {
        let kind = message.get("type").and_then(Value::as_str).unwrap_or_default();
        let named = USES.iter().filter(|one| one.messages.contains(&kind));
        let mut used: Vec<Self> = named.map(|one| one.capability).collect();
        let resumes = match message.get("resume").or_else(|| message.get("payload")?.get("resume")) {
            None | Some(Value::Null) => false,
            Some(Value::Array(threads)) => !threads.is_empty(),
            Some(_) => true,
        };
        if resumes && matches!(kind, "handshake_acknowledged" | "switch_thread") {
            used.push(Self::Resume);
        }
        used
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = serde_json::to_value(self).unwrap_or_default();
        f.write_str(name.as_str().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    #[test]
    fn a_call_and_a_message_tell_what_they_make_use_of() {
        assert_eq!(
            Capability::of_call("/api/threads/thread_1"),
            Some(Capability::ThreadsRest)
        );
        assert_eq!(Capability::of_call("/no/such/path"), None);
        for (message, used) in [
            (json!({ "type": "user_message", "resume": [1] }), vec![]),
            (json!({ "type": "execute_agent" }), vec![Capability::StartAgent]),
            (json!({ "type": "handshake_acknowledged", "resume": [] }), vec![]),
            (
                json!({ "type": "handshake_acknowledged", "resume": [{}] }),
                vec![Capability::Resume],
            ),
            (
                json!({ "type": "switch_thread", "payload": { "resume": {} } }),
                vec![Capability::Threads, Capability::Resume],
            ),
        ] {
            assert_eq!(Capability::of_message(&message), used, "{message}");
        }
    }

    #[test]
    fn every_capability_has_a_name_of_its_own_and_says_what_it_is() {
        let names: std::collections::BTreeSet<String> = Capability::all().map(|one| one.to_string()).collect();
        assert_eq!(names.len(), USES.len());
        assert!(Capability::all().all(|one| !one.what().is_empty()));
    }
}
