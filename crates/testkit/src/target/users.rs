//! Where the users of a target come from: its own registration, a list of tokens, or a command that prints one.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fs4::fs_std::FileExt as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::profile::beside;

/// How long a command may take to print a token.
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);

/// How long a test waits until the listed users are free.
const LEASE_DEADLINE: Duration = Duration::from_secs(300);

/// Where the users of a target come from.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Users {
    /// Each test registers its own.
    Register(Register),
    /// Somebody made them before. Tests take turns, so that no two share a user at the same time.
    Tokens(Tokens),
    /// A command prints a token for a user of a name that no other test uses.
    Command(Command),
}

/// Registration over HTTP.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Register {
    /// Path of the call, a `POST` of a JSON object.
    pub path: String,
    /// The field that takes the address.
    pub email: String,
    /// The field that takes the password.
    pub password: String,
    /// The field that takes the name; none where it is blank.
    pub name: String,
    /// Further fields with constant values.
    pub constant: BTreeMap<String, Value>,
    /// Where the access token stands in the answer: names, separated by dots.
    pub access_token: String,
    /// Where the user's id stands in the answer; where it is blank, it is the token's `sub`.
    pub user_id: String,
    /// Where the refresh token stands in the answer; blank where there is none.
    pub refresh_token: String,
}

impl Default for Register {
    fn default() -> Self {
        Self {
            path: "/auth/register".into(),
            email: "email".into(),
            password: "password".into(),
            name: "name".into(),
            constant: BTreeMap::new(),
            access_token: "access_token".into(),
            user_id: "user_id".into(),
            refresh_token: "refresh_token".into(),
        }
    }
}

/// A list of tokens: one per line, or `USER_ID TOKEN`; lines that begin with `#` are skipped.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokens {
    /// The file that holds the list, relative to the profile.
    pub file: Option<PathBuf>,
    /// The variable that holds the list.
    pub variable: Option<String>,
}

/// A command that prints a token.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// Program and arguments; `{label}` stands for the user's name. Prints `TOKEN` or `USER_ID TOKEN`.
    pub run: Vec<String>,
}

impl Default for Users {
    fn default() -> Self {
        Self::Register(Register::default())
    }
}

/// Who a user is to the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// `None` where nothing tells it.
    pub(crate) user_id: Option<String>,
    pub(crate) access_token: String,
    pub(crate) refresh_token: Option<String>,
}

/// The listed users while one test has them.
#[derive(Debug)]
pub(crate) struct Lease {
    free: Vec<Identity>,
    _lock: File,
}

impl Users {
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::Register(register) => {
                ensure!(
                    register.path.starts_with('/'),
                    "`users.path` is {:?}: begin it with /",
                    register.path
                );
                for (field, value) in [
                    ("email", &register.email),
                    ("password", &register.password),
                    ("access_token", &register.access_token),
                ] {
                    ensure!(!value.trim().is_empty(), "`users.{field}` is blank: name the field");
                }
                Ok(())
            }
            Self::Tokens(tokens) => {
                ensure!(
                    tokens.file.is_some() != tokens.variable.is_some(),
                    "`users` by tokens needs either `file` or `variable`"
                );
                Ok(())
            }
            Self::Command(command) => {
                ensure!(!command.run.is_empty(), "`users.run` is empty: name the program");
                Ok(())
            }
        }
    }

    /// Claims that what it names besides the target is there.
    pub(super) fn look(&self) -> Result<()> {
        match self {
            Self::Tokens(tokens) => tokens.read().map(drop),
            Self::Register(_) | Self::Command(_) => Ok(()),
        }
    }

    pub(super) fn resolve(&mut self, folder: &Path) {
        if let Self::Tokens(Tokens { file: Some(file), .. }) = self {
            *file = beside(folder, file);
        }
    }

    /// Whether a user is registered exactly as the contract says.
    pub(crate) fn is_contracts_own(&self) -> bool {
        matches!(self, Self::Register(register) if register.constant.is_empty()
            && register.path == "/auth/register"
            && [&register.email, &register.password, &register.name] == ["email", "password", "name"]
            && [&register.access_token, &register.user_id, &register.refresh_token]
                == ["access_token", "user_id", "refresh_token"])
    }
}

impl Register {
    /// The body of the call.
    pub(crate) fn body(&self, email: &str, password: &str, name: &str) -> Value {
        let mut body: Map<String, Value> = self.constant.clone().into_iter().collect();
        body.insert(self.email.clone(), json!(email));
        body.insert(self.password.clone(), json!(password));
        if !self.name.is_empty() {
            body.insert(self.name.clone(), json!(name));
        }
        Value::Object(body)
    }

    /// Who the answer says that the user is.
    pub(crate) fn identity(&self, answer: &Value) -> Result<Identity> {
        let text = |path: &str| find(answer, path).map(|found| found.as_str().map_or(found.to_string(), str::to_owned));
        let access_token = text(&self.access_token).with_context(|| {
            format!(
                "`users.access_token` is {:?}, and the answer has nothing there",
                self.access_token
            )
        })?;
        let user_id = match self.user_id.as_str() {
            "" => subject(&access_token),
            path => Some(
                text(path).with_context(|| format!("`users.user_id` is {path:?}, and the answer has nothing there"))?,
            ),
        };
        let refresh_token = Some(self.refresh_token.as_str()).filter(|path| !path.is_empty());
        Ok(Identity {
            user_id,
            refresh_token: refresh_token.and_then(text),
            access_token,
        })
    }
}

impl Tokens {
    /// The list and what to call it.
    fn read(&self) -> Result<(String, String)> {
        match (&self.file, &self.variable) {
            (Some(file), _) => {
                let text = std::fs::read_to_string(file);
                let text = text.with_context(|| format!("reading the tokens of `users.file` in {}", file.display()))?;
                Ok((text, file.display().to_string()))
            }
            (None, Some(variable)) => {
                let text = std::env::var(variable);
                let text = text.with_context(|| format!("reading the tokens of `users.variable` in ${variable}"))?;
                Ok((text, variable.clone()))
            }
            (None, None) => bail!("`users` by tokens needs either `file` or `variable`"),
        }
    }

    /// Waits until no other test has the listed users, and takes them all.
    pub(crate) async fn lease(&self) -> Result<Lease> {
        let (text, name) = self.read()?;
        let lines = text.lines().map(str::trim);
        let mut free: Vec<Identity> = lines
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(Identity::of_line)
            .collect();
        free.reverse();
        let digest = <sha2::Sha256 as sha2::Digest>::digest(name.as_bytes());
        let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let path = std::env::temp_dir().join(format!("kingsguard-users-{digest}.lock"));
        let lock = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        let deadline = tokio::time::Instant::now() + LEASE_DEADLINE;
        while !lock
            .try_lock_exclusive()
            .with_context(|| format!("locking {}", path.display()))?
        {
            ensure!(
                tokio::time::Instant::now() < deadline,
                "another test had the listed users for {} s",
                LEASE_DEADLINE.as_secs()
            );
            // A lock of a file has no way to tell that it is free.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Lease { free, _lock: lock })
    }
}

impl Lease {
    /// A user that this test has not had yet; `None` where the list holds no more.
    pub(crate) fn take(&mut self) -> Option<Identity> {
        self.free.pop()
    }
}

impl Command {
    /// Runs the command for a user of this name.
    pub(crate) async fn identity(&self, label: &str) -> Result<Identity> {
        let words: Vec<String> = self.run.iter().map(|word| word.replace("{label}", label)).collect();
        let shown = words.join(" ");
        let printed = crate::provider::printed_by(&words, COMMAND_DEADLINE).await?;
        let line = printed.lines().map(str::trim).find(|line| !line.is_empty());
        Ok(Identity::of_line(
            line.with_context(|| format!("`{shown}` printed nothing"))?,
        ))
    }
}

impl Identity {
    /// `TOKEN` or `USER_ID TOKEN`.
    fn of_line(line: &str) -> Self {
        let (user_id, token) = match line.split_once(char::is_whitespace) {
            Some((user_id, token)) => (Some(user_id.to_owned()), token.trim()),
            None => (subject(line), line),
        };
        Self {
            user_id,
            access_token: token.to_owned(),
            refresh_token: None,
        }
    }
}

/// What stands at a path of names separated by dots.
fn find<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.')
        .try_fold(value, |value, name| value.get(name))
        .filter(|found| !found.is_null())
}

/// The `sub` of a JWT. It is not verified: the target does that.
fn subject(token: &str) -> Option<String> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    claims.get("sub")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn jwt(sub: &str) -> String {
        format!("e30.{}.x", URL_SAFE_NO_PAD.encode(json!({ "sub": sub }).to_string()))
    }

    #[test]
    fn an_answer_is_read_where_the_profile_says() {
        let register = Register {
            access_token: "data.token".into(),
            user_id: "data.user.id".into(),
            refresh_token: String::new(),
            ..Register::default()
        };
        let answer = json!({ "data": { "token": "t", "user": { "id": 7 } } });
        let expected = Identity {
            user_id: Some("7".into()),
            access_token: "t".into(),
            refresh_token: None,
        };
        assert_eq!(register.identity(&answer).expect("all is there"), expected);
        let error = register.identity(&json!({ "token": "t" })).expect_err("nothing there");
        assert!(
            error.to_string().contains("`users.access_token` is \"data.token\""),
            "{error}"
        );
    }

    #[test]
    fn a_line_is_a_token_with_or_without_its_user() {
        let token = jwt("user_1");
        assert_eq!(Identity::of_line(&token).user_id.as_deref(), Some("user_1"));
        let named = Identity::of_line("user_2  opaque");
        assert_eq!(
            (named.user_id.as_deref(), named.access_token.as_str()),
            (Some("user_2"), "opaque")
        );
        assert_eq!(Identity::of_line("opaque").user_id, None);
    }

    #[tokio::test]
    async fn a_command_prints_the_token_of_a_user() {
        let run = |words: &[&str]| Command {
            run: words.iter().map(|word| (*word).to_owned()).collect(),
        };
        let made = run(&["echo", "user_{label} opaque"])
            .identity("ada")
            .await
            .expect("printed");
        assert_eq!(made.user_id.as_deref(), Some("user_ada"));
        let error = run(&["false"]).identity("ada").await.expect_err("ended badly");
        assert!(error.to_string().contains("`false` ended with"), "{error}");
    }

    #[tokio::test]
    async fn listed_users_are_one_tests_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("tokens");
        std::fs::write(&file, "# two\nuser_1 a\n\nuser_2 b\n").expect("written");
        let tokens = Tokens {
            file: Some(file),
            variable: None,
        };
        let mut lease = tokens.lease().await.expect("free");
        let ids: Vec<_> = std::iter::from_fn(|| lease.take())
            .filter_map(|one| one.user_id)
            .collect();
        assert_eq!(ids, ["user_1", "user_2"]);
        let other = tokio::time::timeout(Duration::from_millis(100), tokens.lease()).await;
        assert!(other.is_err(), "another test waits");
        drop(lease);
        assert!(tokens.lease().await.is_ok(), "and goes on afterwards");
    }
}
