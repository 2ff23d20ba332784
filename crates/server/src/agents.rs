//! Who answers: the supervisor and its agents, wired to the one tool dispatcher.
//!
//! [`AgentRegistry::execute`] works on one run and says what happens through the run's sink. It never says
//! `agent_started`, `agent_stopped` or `agent_completed`: those are the run's.
//!
//! An agent can be given no tool but through its [`Desk`], and only the registry, which needs a dispatcher, makes desks:
//!
//! ```compile_fail,E0451
//! use kingsguard_server::agents::Desk;
//!
//! fn unwired(desk: Desk<'_>) -> Desk<'_> {
//!     Desk { dispatcher: unreachable!(), ..desk }
//! }
//! ```

mod answer;
mod case;
mod desk;
pub mod examples;
mod job;
mod memory;
mod plan;
mod registry;
pub mod sink;
mod supervisor;
mod team;
mod telling;
mod wording;

pub use case::Case;
pub use desk::{Desk, WorkError};
pub use job::{AgentFailure, Job, Outcome};
pub use memory::{InMemoryContexts, MemoryError, ThreadContexts};
pub use plan::order;
pub use registry::{Agent, AgentRegistry, AgentServices, RegistryError, SUPERVISOR};
