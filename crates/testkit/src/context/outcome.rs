//! How a test's body may end.

/// What a test's body may end with.
pub trait Outcome {
    /// Why it failed, if it did.
    fn failure(self) -> Option<String>;
}

impl Outcome for () {
    fn failure(self) -> Option<String> {
        None
    }
}

/// How a test says that the machine or the generator fell short; made by [`TestContext::invalid`](super::TestContext::invalid).
pub(super) struct FellShort(String);

impl FellShort {
    pub(super) fn of(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// Why a test's body did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BodyFailure {
    /// A claim did not hold.
    Failed(String),
    /// The machine or the generator fell short.
    Invalid(String),
    /// The target does not claim what the test needs.
    NotJudged(String),
}

impl BodyFailure {
    pub(super) fn of_panic(panic: &(dyn std::any::Any + Send)) -> Self {
        match panic.downcast_ref::<FellShort>() {
            Some(FellShort(why)) => Self::Invalid(why.clone()),
            None => Self::Failed(panic_text(panic)),
        }
    }
}

impl std::fmt::Display for BodyFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed(why) => f.write_str(why),
            Self::Invalid(why) => write!(f, "invalid run: {why}"),
            Self::NotJudged(why) => write!(f, "not judged: {why}"),
        }
    }
}

impl Outcome for anyhow::Result<()> {
    fn failure(self) -> Option<String> {
        self.err().map(|error| format!("{error:#}"))
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "panicked with something that is no text".to_owned())
}
