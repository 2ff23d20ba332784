//! What a test asks of its target beyond the core: prompts, capabilities.

use serde_json::Value;

use super::TestContext;
use crate::target::profile::Prompts;
use crate::target::{Capability, Target};

/// The target that the environment names.
///
/// # Panics
/// Its profile cannot be read.
pub(super) fn of_environment(test: &str) -> Option<Target> {
    match Target::from_env() {
        Ok(target) => target,
        Err(error) => panic!("{test} cannot start: {error:#}"),
    }
}

impl TestContext {
    /// What makes an agent call a tool that succeeds; where the target's profile knows nothing, the test is not judged.
    #[must_use]
    pub fn tool_prompt(&self) -> String {
        self.prompt("tool", |prompts| prompts.tool.clone())
    }

    /// What makes an agent call a tool that fails; where the target's profile knows nothing, the test is not judged.
    #[must_use]
    pub fn failing_tool_prompt(&self) -> String {
        self.prompt("failing_tool", |prompts| prompts.failing_tool.clone())
    }

    /// What makes a run that lasts so many seconds; where the target's profile knows nothing, the test is not judged.
    #[must_use]
    pub fn long_run_prompt(&self, seconds: u32) -> String {
        self.prompt("long_run", |prompts| prompts.long_run_of(seconds))
    }

    fn prompt(&self, name: &str, of: impl FnOnce(&Prompts) -> Option<String>) -> String {
        let profile = self.session.profile();
        of(&profile.prompts).unwrap_or_else(|| self.capture.lacks(format!("{} has no `prompts.{name}`", profile.name)))
    }

    /// For what no call and no message shows: where the target does not claim it, the test is not judged.
    pub fn needs(&self, capability: Capability) {
        if let Some(why) = self.session.profile().lacks(capability) {
            self.capture.lacks(why);
        }
    }

    /// Whether the target claims what a client message makes use of, so that a test over many messages can leave others out.
    #[must_use]
    pub fn is_claimed(&self, message: &Value) -> bool {
        let profile = self.session.profile();
        Capability::of_message(message)
            .into_iter()
            .all(|used| profile.lacks(used).is_none())
    }
}
