//! Everything a test of a chat backend holds in its hand.
//!
//! ```no_run
//! use kingsguard_testkit::prelude::*;
//!
//! #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
//! async fn resume_continues_after_the_last_seen_sequence() {
//!     TestContext::wire(case!("SEQ-3", "SEQ-1"))
//!         .run(async |ctx| {
//!             let ada = ctx.user("ada").await; // registered through HTTP, e-mail of her own
//!             let mut chat = ada.connect().await; // the full handshake
//!             let run = chat.ask("How can I spend less?").await; // until agent_completed
//!             assert_eq!(run.completed().status, RunStatus::Completed);
//!             chat.drop_connection().await; // TCP cut, no close frame
//!             let mut again = ada.resume(&mut chat).await;
//!             again.ask("And by model?").await;
//!         })
//!         .await;
//! }
//! ```
//!
//! # Where to start
//!
//! - [`TestContext`] starts what a test needs and judges it at its end: **every** test's captures go through all of
//!   [`validate`], whatever the test itself asserts. `wire` tests need nothing but an address; `own` tests choose settings
//!   ([`context::Builder::with_setting`]), restart and kill their backend.
//! - [`SimulatedUser`] is an account; [`Chat`] one connection of it; [`RunView`] one run as a connection saw it.
//! - [`RawSocket`] writes hand-made bytes; [`Http`] calls the REST side; [`ScriptedModel`] plays the language model.
//! - [`SteadyChat`] is a client that reconnects and resumes by itself, and the example of a correct one.
//! - [`fault`] puts faults on the links between the test, the nodes and their services.
//! - [`chaos`] lets services die and come back by a seed, and judges what all clients saw meanwhile.
//! - [`SampleRecords`] makes usage records from a seed, with the rows at hand for an independent computation.
//! - [`Timing`] analyses a recording's times.
//! - [`validate::judge`] judges any [`Recording`], also one that was stored; [`replay`] compares with what its test found.
//!
//! # What it deliberately does not do
//!
//! Validators are pure: they see a recording and nothing else. Nothing is recorded on the sender's side as received, and
//! nothing is added to what arrived. Only [`provider`] starts a process or a container; only [`deployment`] knows how the
//! reference backend is started. The kit never imports the backend: it sees the wire.

pub mod capture;
pub mod case;
pub mod chaos;
pub mod chat;
pub mod connect;
pub mod context;
pub mod deployment;
mod evidence;
pub mod fault;
pub mod frame;
pub mod http;
pub mod link;
pub mod model;
pub mod monitor;
pub mod process;
pub mod provider;
pub mod raw;
pub mod recording;
pub mod replay;
pub mod run_view;
pub mod sabotage;
pub mod sample;
pub mod schedule;
pub mod serve;
mod session;
pub mod stack;
pub mod stand_in;
pub mod steady;
pub mod supervisor;
pub mod target;
pub mod timeline;
pub mod timing;
pub mod transport;
pub mod user;
pub mod validate;

pub use chat::{Chat, PATIENCE};
pub use connect::ConnectOptions;
pub use context::TestContext;
pub use frame::Frame;
pub use http::{Answer, Http};
pub use kingsguard_report::{clause, covers};
pub use link::{Head, Refused};
pub use model::{ModelReply, ScriptedModel};
pub use raw::{RawFrame, RawSocket};
pub use recording::Recording;
pub use run_view::{RunView, ToolView};
pub use sample::SampleRecords;
pub use steady::{SteadyChat, SteadyOptions};
pub use timing::Timing;
pub use user::SimulatedUser;

/// What nearly every test uses.
pub mod prelude {
    pub use kingsguard_protocol::client::{ClientBody, ClientMessage, ResumePoint, ThreadResume};
    pub use kingsguard_protocol::control::RunPhase;
    pub use kingsguard_protocol::event::{RunStatus, ToolStatus};
    pub use kingsguard_protocol::{
        CloseCode, ControlFrame, ErrorCode, ErrorFrame, Event, EventBody, MessageId, RunId, ServerFrame, ThreadId,
        UserId,
    };
    pub use serde_json::{Value, json};

    pub use crate::fault::{Direction, Fault, FaultGuard, FaultProxy};
    pub use crate::target::Capability;
    pub use crate::{
        Answer, Chat, ConnectOptions, Frame, Http, ModelReply, RawFrame, RawSocket, Refused, RunView, SampleRecords,
        ScriptedModel, SimulatedUser, SteadyChat, SteadyOptions, TestContext, Timing,
    };
    pub use crate::{case, covers};
}
