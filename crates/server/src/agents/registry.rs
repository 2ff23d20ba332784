//! Who there is, wired to what they need. There is no other way to have an agent work.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use kingsguard_protocol::http::AgentSummary;

use super::case::Case;
use super::desk::{Desk, WorkError};
use super::memory::ThreadContexts;
use super::team;
use crate::model::Model;
use crate::tools::{self, PriceCatalogue, ToolDispatcher, UsageSource};

/// The agent that leads the others, and answers where none is named.
pub const SUPERVISOR: &str = "supervisor";

/// Something that can work on a request.
pub trait Agent: fmt::Debug + Send + Sync {
    /// Its name on the wire.
    fn name(&self) -> &'static str;

    /// What it does, in a sentence.
    fn description(&self) -> &'static str;

    /// The tools that it may use; the dispatcher refuses all others.
    fn tool_names(&self) -> &'static [&'static str];

    /// Works on the case at its desk.
    fn work<'a>(&'a self, desk: &'a Desk<'a>, case: &'a mut Case) -> BoxFuture<'a, Result<(), WorkError>>;
}

/// What agents need from the rest of the backend. All of it: an agent without one of these cannot be built.
#[derive(Clone, Debug)]
pub struct AgentServices {
    /// Where users' records are.
    pub usage: Arc<dyn UsageSource>,
    /// What is kept about threads.
    pub contexts: Arc<dyn ThreadContexts>,
    /// What thinks.
    pub model: Model,
    /// How long a tool may take unless it says otherwise.
    pub tool_limit: Duration,
}

/// Why a registry cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// An agent lists a tool that there is not.
    #[error("agent `{agent}` lists the unknown tool `{tool}`")]
    UnknownTool {
        /// The agent.
        agent: &'static str,
        /// The tool.
        tool: &'static str,
    },
    /// Two agents have one name.
    #[error("two agents are named `{0}`")]
    SameName(&'static str),
    /// The price catalogue cannot be read.
    #[error("price catalogue cannot be read")]
    Catalogue(#[from] tools::CatalogueError),
    /// The stored examples cannot be read.
    #[error("stored examples cannot be read")]
    Examples(#[from] super::examples::ExampleError),
}

/// Every agent, wired.
#[derive(Debug)]
pub struct AgentRegistry {
    pub(super) agents: BTreeMap<&'static str, Box<dyn Agent>>,
    pub(super) dispatcher: ToolDispatcher,
    pub(super) services: AgentServices,
    pub(super) examples: super::examples::Examples,
}

impl AgentRegistry {
    /// The agents and tools of the backend. Building twice gives the same.
    ///
    /// # Errors
    /// As [`RegistryError`] says; none of it depends on anything but the code.
    pub fn builtin(services: AgentServices) -> Result<Self, RegistryError> {
        let catalogue = Arc::new(PriceCatalogue::builtin()?);
        let dispatcher = ToolDispatcher::new(tools::builtin(), Arc::clone(&catalogue), services.tool_limit);
        Self::new(team::builtin(), dispatcher, services)
    }

    pub(super) fn new(
        team: Vec<Box<dyn Agent>>,
        dispatcher: ToolDispatcher,
        services: AgentServices,
    ) -> Result<Self, RegistryError> {
        let mut agents: BTreeMap<&'static str, Box<dyn Agent>> = BTreeMap::new();
        for agent in team {
            let name = agent.name();
            if let Some(tool) = agent
                .tool_names()
                .iter()
                .find(|tool| dispatcher.description(tool).is_none())
            {
                return Err(RegistryError::UnknownTool { agent: name, tool });
            }
            if name == SUPERVISOR || agents.insert(name, agent).is_some() {
                return Err(RegistryError::SameName(name));
            }
        }
        let examples = super::examples::Examples::builtin(dispatcher.catalogue())?;
        Ok(Self {
            agents,
            dispatcher,
            services,
            examples,
        })
    }

    /// The prices that the tools compute with; records that are brought get their cost from the same.
    #[must_use]
    pub fn catalogue(&self) -> Arc<PriceCatalogue> {
        Arc::clone(self.dispatcher.catalogue())
    }

    /// Every agent's name, sorted, the supervisor's among them.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.agents.keys().copied().chain([SUPERVISOR]).collect();
        names.sort_unstable();
        names
    }

    /// Whether there is an agent of that name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        name == SUPERVISOR || self.agents.contains_key(name)
    }

    /// The agent of that name; the supervisor is none of its own kind.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&dyn Agent> {
        self.agents.get(name).map(AsRef::as_ref)
    }

    /// What `GET /api/agents` says: every agent with its tools.
    #[must_use]
    pub fn summaries(&self) -> Vec<AgentSummary> {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let leader = AgentSummary {
            agent_name: SUPERVISOR.to_owned(),
            description: "Leads the others and answers from what they find".to_owned(),
            tool_names: Vec::new(),
        };
        let others = self.agents.values().map(|agent| AgentSummary {
            agent_name: agent.name().to_owned(),
            description: agent.description().to_owned(),
            tool_names: own(agent.tool_names()),
        });
        [leader].into_iter().chain(others).collect()
    }

    /// Every tool's name, sorted.
    pub fn tool_names(&self) -> impl Iterator<Item = &'static str> {
        self.dispatcher.tool_names()
    }

    /// The model, for health and metrics.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.services.model
    }
}

#[cfg(test)]
mod tests;
