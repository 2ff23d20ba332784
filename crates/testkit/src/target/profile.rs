//! A target's profile: a TOML file that says what a backend is like.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::lacks::{self, Lacks};
use super::users::Users;
use super::{Capability, Shape};
use crate::clause::Clause;
use crate::connect::ConnectOptions;
use crate::recording::Facts;
use crate::transport::Trust;

/// Stands for a user's token in a template.
const TOKEN: &str = "{token}";

/// Stands for a number of seconds in [`Prompts::long_run`].
const SECONDS: &str = "{seconds}";

/// What a backend is like. `environments/example.profile.toml` shows every field.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// What to call the backend.
    pub name: String,
    /// How it takes connections.
    #[serde(default)]
    pub connection: Connection,
    /// Where users and their tokens come from.
    #[serde(default)]
    pub users: Users,
    /// What to say in order to provoke what tests look at.
    #[serde(default)]
    pub prompts: Prompts,
    /// What it claims.
    #[serde(default)]
    pub claims: Claims,
    /// How its frames differ from the contract's.
    #[serde(default)]
    pub shape: Shape,
    /// What its wire lacks.
    #[serde(default)]
    pub lacks: Lacks,
}

/// How a backend takes connections. In each template `{token}` stands for the user's token.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Connection {
    /// Path of the WebSocket.
    pub path: String,
    /// Templates of the offered sub-protocols, in order.
    pub protocols: Vec<String>,
    /// Templates of headers.
    pub headers: BTreeMap<String, String>,
    /// Templates of query parameters.
    pub query: BTreeMap<String, String>,
    /// The authorities that its certificate is believed by, as PEM, relative to the profile; those of this machine where it
    /// is absent.
    pub ca_file: Option<PathBuf>,
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            path: "/ws".into(),
            protocols: vec![format!("jwt.{TOKEN}")],
            headers: BTreeMap::new(),
            query: BTreeMap::new(),
            ca_file: None,
        }
    }
}

impl Connection {
    /// Whose certificates are believed.
    pub(crate) fn trust(&self) -> Trust {
        Trust::of(self.ca_file.as_deref())
    }
}

/// What to say in order to provoke what tests look at. Where one is absent, tests that need it are not judged.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompts {
    /// Makes an agent call at least one tool, which succeeds.
    pub tool: Option<String>,
    /// Makes an agent call a tool that fails.
    pub failing_tool: Option<String>,
    /// Makes a run that lasts `{seconds}` seconds.
    pub long_run: Option<String>,
}

/// What a backend claims.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// What it has of what may be left out.
    #[serde(default)]
    pub capabilities: BTreeSet<Capability>,
    /// Clauses that it does not claim to keep, each with the reason. Tests about them are not judged.
    #[serde(default)]
    pub leaves_out: BTreeMap<String, String>,
}

/// The contract's own: whatever the reference backend is like.
impl Default for Profile {
    fn default() -> Self {
        Self {
            name: "the contract's own".into(),
            connection: Connection::default(),
            users: Users::default(),
            prompts: Prompts {
                tool: Some("What did I spend?".into()),
                failing_tool: Some("Show my spend from 2026-13-45".into()),
                long_run: Some(format!("Watch my usage for {SECONDS} seconds")),
            },
            claims: Claims {
                capabilities: Capability::all().collect(),
                leaves_out: BTreeMap::new(),
            },
            shape: Shape::default(),
            lacks: Lacks::default(),
        }
    }
}

impl Profile {
    /// Reads a profile from its file. Files that it names lie relative to it.
    ///
    /// # Errors
    /// The file cannot be read, or a field of it is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading the profile {}", path.display()))?;
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        let read = Self::parse(&text, &folder).and_then(|profile| {
            if profile.connection.ca_file.is_some() {
                profile.connection.trust().config()?;
            }
            profile.users.look()?;
            Ok(profile)
        });
        read.with_context(|| format!("reading the profile {}", path.display()))
    }

    fn parse(text: &str, folder: &Path) -> Result<Self> {
        let mut profile: Self =
            toml::from_str(text).map_err(|error| anyhow::anyhow!("{}", error.to_string().trim()))?;
        profile.check()?;
        profile.users.resolve(folder);
        if let Some(ca_file) = &mut profile.connection.ca_file {
            *ca_file = beside(folder, ca_file);
        }
        Ok(profile)
    }

    fn check(&self) -> Result<()> {
        ensure!(
            !self.name.trim().is_empty(),
            "`name` is blank: say what to call the backend"
        );
        let connection = &self.connection;
        ensure!(
            connection.path.starts_with('/'),
            "`connection.path` is {:?}: begin it with /",
            connection.path
        );
        let templates = connection.protocols.iter();
        let templates = templates
            .chain(connection.headers.values())
            .chain(connection.query.values());
        ensure!(
            templates.into_iter().any(|template| template.contains(TOKEN)),
            "nothing in `connection` carries the token: put {TOKEN} into `protocols`, `headers` or `query`"
        );
        for protocol in &connection.protocols {
            let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            ensure!(
                protocol.replace(TOKEN, "x").chars().all(token),
                "`connection.protocols` holds {protocol:?}, which is no sub-protocol: no blanks, commas or quotes"
            );
        }
        if let Some(long_run) = &self.prompts.long_run {
            ensure!(
                long_run.contains(SECONDS),
                "`prompts.long_run` is {long_run:?}: say with {SECONDS} where the duration goes"
            );
        }
        for (id, reason) in &self.claims.leaves_out {
            ensure!(
                Clause::find(id).is_some(),
                "`claims.leaves_out` names {id:?}, which is no clause: docs/contract.md has all of them"
            );
            ensure!(
                !reason.trim().is_empty(),
                "`claims.leaves_out.{id}` is blank: say why the backend does not keep it"
            );
        }
        self.shape.check().map_err(anyhow::Error::msg)?;
        lacks::check(&self.lacks)?;
        self.users.check()
    }

    /// The usual way to connect with a token.
    #[must_use]
    pub fn options(&self, token: &str) -> ConnectOptions {
        let filled = |template: &String| template.replace(TOKEN, token);
        let connection = &self.connection;
        let mut options = ConnectOptions::default().with_protocols(connection.protocols.iter().map(filled));
        for (name, value) in &connection.headers {
            options = options.with_header(name, filled(value));
        }
        for (name, value) in &connection.query {
            options = options.with_query(name, &filled(value));
        }
        options
    }

    /// Tells a recording what the validators must know of the backend.
    pub(crate) fn note_in(&self, facts: &mut Facts) {
        facts.shape = self.shape.clone();
        facts.lacks = self.lacks.clone();
        facts.leaves_out = self.claims.leaves_out.clone();
    }

    /// Why a capability cannot be used, where the profile does not claim it.
    pub(crate) fn lacks(&self, capability: Capability) -> Option<String> {
        let claimed = self.claims.capabilities.contains(&capability);
        (!claimed).then(|| format!("{} does not claim `{capability}`: {}", self.name, capability.what()))
    }

    /// Why tests about these clauses say nothing about the backend, where it does not claim to keep one of them, or has no
    /// handshake that they could be about.
    pub(crate) fn left_out(&self, clauses: &[Clause]) -> Option<String> {
        if let Some(reason) = &self.lacks.handshake
            && clauses.iter().any(|clause| clause.id.starts_with("HSK-"))
        {
            return Some(format!("{} has no handshake: {reason}", self.name));
        }
        let left_out = clauses.iter().find_map(|clause| {
            let reason = self.claims.leaves_out.get(clause.id)?;
            Some((clause.id, reason))
        });
        left_out.map(|(id, reason)| format!("{} leaves out {id}: {reason}", self.name))
    }
}

impl Prompts {
    /// What makes a run that lasts so long.
    pub(crate) fn long_run_of(&self, seconds: u32) -> Option<String> {
        // "for 1 seconds" is understood everywhere; English is not the subject.
        Some(self.long_run.as_ref()?.replace(SECONDS, &seconds.to_string()))
    }
}

/// A path of a profile, relative to the profile's own folder.
pub(super) fn beside(folder: &Path, path: &Path) -> PathBuf {
    folder.join(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn wrong(text: &str) -> String {
        match Profile::parse(text, Path::new("")) {
            Ok(profile) => panic!("accepted as {profile:?}"),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn the_example_is_a_profile_and_shows_every_section() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../environments/example.profile.toml");
        let profile = Profile::read(&path).expect("the example is read");
        assert_eq!(profile.connection.path, "/ws");
        assert!(profile.prompts.long_run.is_some() && !profile.claims.leaves_out.is_empty());
        let text = std::fs::read_to_string(&path).expect("it is there");
        for capability in Capability::all() {
            assert!(text.contains(&capability.to_string()), "{capability} is not shown");
        }
    }

    #[test]
    fn the_least_profile_claims_nothing_that_may_be_left_out() {
        let profile = Profile::parse("name = \"mine\"", Path::new("")).expect("a name is enough");
        assert!(Capability::all().all(|capability| profile.lacks(capability).is_some()));
        assert_eq!(profile.prompts.long_run_of(3), None);
        let own = Profile::default();
        assert!(Capability::all().all(|capability| own.lacks(capability).is_none()));
        assert_eq!(
            own.prompts.long_run_of(3).as_deref(),
            Some("Watch my usage for 3 seconds")
        );
    }

    #[test]
    fn a_wrong_field_is_named_with_what_to_do() {
        for (text, named) in [
            ("", "name"),
            ("name = \"a\"\ncolour = 1", "unknown field `colour`"),
            (
                "name = \"a\"\n[connection]\npath = \"ws\"",
                "`connection.path` is \"ws\": begin it with /",
            ),
            ("name = \"a\"\n[connection]\nprotocols = [\"x\"]", "carries the token"),
            (
                "name = \"a\"\n[connection]\nprotocols = [\"a b{token}\"]",
                "is no sub-protocol",
            ),
            ("name = \"a\"\n[prompts]\nlong_run = \"wait\"", "{seconds}"),
            (
                "name = \"a\"\n[claims]\ncapabilities = [\"fly\"]",
                "unknown variant `fly`",
            ),
            (
                "name = \"a\"\n[claims.leaves_out]\n\"SEQ-99\" = \"x\"",
                "\"SEQ-99\", which is no clause",
            ),
            ("name = \"a\"\n[claims.leaves_out]\n\"SEQ-1\" = \" \"", "say why"),
            ("name = \"a\"\n[lacks]\ncolour = \"x\"", "unknown field `colour`"),
            (
                "name = \"a\"\n[lacks.fields]\nrun_id = \"x\"",
                "`lacks.fields` names \"run_id\"",
            ),
            ("name = \"a\"\n[users]\nby = \"magic\"", "unknown variant `magic`"),
        ] {
            let said = wrong(text);
            assert!(said.contains(named), "{text:?} says {said:?}");
        }
    }

    #[test]
    fn a_token_goes_where_the_templates_say() {
        let text = "name = \"a\"\n[connection]\nprotocols = [\"chat\", \"jwt.{token}\"]\n\
                    headers = { Authorization = \"Bearer {token}\" }\nquery = { t = \"{token}\" }";
        let options = Profile::parse(text, Path::new("")).expect("well formed").options("abc");
        assert_eq!(options.path_and_query("/chat"), "/chat?t=abc");
        let expected = [
            ("Authorization".to_owned(), "Bearer abc".to_owned()),
            ("Sec-WebSocket-Protocol".to_owned(), "chat, jwt.abc".to_owned()),
        ];
        assert_eq!(options.headers(), expected);
    }
}
