//! The words of the agent event contract, as types.
//!
//! This crate is the one place that knows how a frame looks: every event, control frame, client message, HTTP body, error
//! code and close code of `docs/contract.md`. The reference backend writes these types, the test kit reads them, and
//! the JSON Schemas in `docs/schema/` are made from them.
//!
//! It does no I/O, knows no async runtime, and depends on no other package of this workspace.
//!
//! # Glossary
//!
//! One word per idea, in code, logs, documents and reports alike.
//!
//! | word | meaning |
//! |---|---|
//! | user | an account; every thread, run and event belongs to exactly one |
//! | thread | one conversation: an append-only, ordered log of events |
//! | run | one execution of the agents, caused by one client message, inside one thread |
//! | event | a frame that is part of a thread's log: it has `event_id`, `seq`, `run_id` |
//! | control frame | a frame outside the log (handshake, pong, error, notice): it has no `seq` |
//! | epoch | opaque string naming one incarnation of a thread's log |
//! | connection | one WebSocket; a user may have several, several may follow one thread |
//! | bridge | the part of a backend that turns what agents do into events and brings them to connections |
//! | provider | what gives a test its services (containers, processes, external) |
//! | model | the language model behind the agents |
//! | target | the backend being judged |
//! | suite run | one execution of test categories |
//! | recording | what one test's connections sent and received, stored |
//!
//! # Where to start
//!
//! [`Event`] is what a run says, [`ControlFrame`] what a backend says outside the log, [`ServerFrame`] reads either,
//! [`ClientMessage`] is what a client says, [`decode`] how that is read and refused, [`ErrorCode`] how a backend says no,
//! and [`schema`] what clients in other languages need of all this.

pub mod client;
pub mod close;
pub mod control;
pub mod decode;
pub mod error;
pub mod event;
pub mod frame;
pub mod http;
pub mod id;
pub mod limits;
mod raw;
pub mod schema;
pub mod timestamp;

pub use client::{ClientBody, ClientMessage};
pub use close::CloseCode;
pub use control::ControlFrame;
pub use decode::DecodeError;
pub use error::{ErrorCode, ErrorFrame, Recovery};
pub use event::{Event, EventBody, EventHeader};
pub use frame::ServerFrame;
pub use id::{ConnectionId, Epoch, EventId, ExecutionId, MessageId, RunId, ThreadId, UserId};
pub use limits::Limits;
pub use timestamp::Timestamp;

/// The contract's version, as `connection_established` states it.
pub const PROTOCOL_VERSION: &str = "1";
