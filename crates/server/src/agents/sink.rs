//! Where agents and tools say what they do.

use std::fmt;

use futures_util::future::BoxFuture;
use kingsguard_protocol::{EventBody, Timestamp};

/// Takes the events of one run, in the order in which they are said.
///
/// Runs are given one by the bridge; unit tests give a recorder. It knows the run, its thread, its user and its cause,
/// so whoever speaks names only himself.
pub trait EmitEvents: fmt::Debug + Send + Sync {
    /// Says one event and resolves, with the event's own timestamp, once it is durable.
    ///
    /// # Errors
    /// As [`SinkError`] says; the event was then not said.
    fn emit<'a>(&'a self, agent_name: &'a str, body: EventBody) -> BoxFuture<'a, Result<Timestamp, SinkError>>;

    /// Says several events in a row and resolves once they are on their way, in their place before whatever is said
    /// later; what it resolves to does so once all of them are durable.
    ///
    /// # Errors
    /// As [`SinkError`] says; then none of the events was said, or, of the second future, perhaps not all.
    fn hand_in<'a>(&'a self, agent_name: &'a str, bodies: Vec<EventBody>) -> BoxFuture<'a, HandedIn<'a>>;
}

/// Events on their way: resolves once all of them are durable.
pub type HandedIn<'a> = Result<BoxFuture<'a, Result<(), SinkError>>, SinkError>;

/// Why an event could not be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// The run has ended: nothing more may be said in it.
    #[error("run has ended")]
    RunEnded,
    /// The log cannot be written now.
    #[error("log of the thread cannot be written")]
    LogUnavailable,
}

#[cfg(test)]
pub(crate) mod recorder {
    //! Remembers what was said, for unit tests.

    use std::sync::{Mutex, PoisonError};

    use super::*;

    /// One event as it was said.
    #[derive(Clone, Debug)]
    pub(crate) struct Said {
        pub agent_name: String,
        pub body: EventBody,
        pub at: Timestamp,
    }

    /// A sink that keeps every event in memory; it can be told to refuse all after a number of them.
    #[derive(Debug, Default)]
    pub(crate) struct Recorder {
        said: Mutex<Vec<Said>>,
        refuses_after: Option<usize>,
    }

    impl Recorder {
        /// A sink that takes this many events and refuses all others.
        pub(crate) fn that_refuses_after(events: usize) -> Self {
            Self {
                refuses_after: Some(events),
                ..Self::default()
            }
        }

        pub(crate) fn said(&self) -> Vec<Said> {
            self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
        }

        pub(crate) fn types(&self) -> Vec<&'static str> {
            self.said().iter().map(|said| said.body.event_type()).collect()
        }
    }

    impl EmitEvents for Recorder {
        fn emit<'a>(&'a self, agent_name: &'a str, body: EventBody) -> BoxFuture<'a, Result<Timestamp, SinkError>> {
            Box::pin(async move {
                let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
                if self.refuses_after.is_some_and(|max| said.len() >= max) {
                    return Err(SinkError::LogUnavailable);
                }
                let at = Timestamp::now();
                said.push(Said {
                    agent_name: agent_name.to_owned(),
                    body,
                    at,
                });
                Ok(at)
            })
        }

        fn hand_in<'a>(&'a self, agent_name: &'a str, bodies: Vec<EventBody>) -> BoxFuture<'a, HandedIn<'a>> {
            Box::pin(async move {
                for body in bodies {
                    self.emit(agent_name, body).await?;
                }
                Ok(Box::pin(async { Ok(()) }) as BoxFuture<'a, _>)
            })
        }
    }
}
