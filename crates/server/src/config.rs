//! Configuration: the only place that reads the environment.
//!
//! Every setting is one row of the table in [`settings`](self): variable, unit, default, limits and a sentence that says
//! what it does. From these rows come the [`Config`] struct, the check at start (which names every wrong setting at
//! once), `kingsguard-server settings` and the table in the README.

mod kind;
mod settings;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

pub use settings::Config;

/// What the names of all settings begin with.
pub const PREFIX: &str = "KINGSGUARD_";

/// Variables under the same prefix that belong to the test runner; a server that a test starts may see them.
const SUITE_VARIABLES: &[&str] = &[
    "KINGSGUARD_ENV",
    "KINGSGUARD_EVIDENCE_DIR",
    "KINGSGUARD_RECORDS_DIR",
    #[cfg(feature = "sabotage")]
    SABOTAGE,
    "KINGSGUARD_SEED",
    "KINGSGUARD_SERVICES",
    "KINGSGUARD_STACK",
    "KINGSGUARD_SUITE_RUN",
    "KINGSGUARD_TARGET",
];

/// Which fault the sabotaged server plants. No setting: an ordinary server does not know the variable.
#[cfg(feature = "sabotage")]
const SABOTAGE: &str = "KINGSGUARD_SABOTAGE";

/// One setting, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SettingDoc {
    /// The environment variable.
    pub variable: &'static str,
    /// What its number counts, or what kind of text it is.
    pub unit: &'static str,
    /// Its value where the variable is not set; `None` where it has none.
    pub default: Option<String>,
    /// Which values are accepted.
    pub limits: String,
    /// Whether the server does not start without it.
    pub required: bool,
    /// Whether its value is never shown.
    pub secret: bool,
    /// What it does.
    pub description: &'static str,
}

/// One setting that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The environment variable.
    pub variable: String,
    /// What is wrong with it; a secret's value is not quoted.
    pub reason: String,
}

/// Every setting that is wrong.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    /// In the order of the table.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        write!(f, "{count} setting{} cannot be used", if count == 1 { "" } else { "s" })?;
        for problem in &self.problems {
            write!(f, "\n  {}: {}", problem.variable, problem.reason)?;
        }
        Ok(())
    }
}

/// A configuration and what should be said about it.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Sentences for the log: unknown variables, settings that are allowed but unwise.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads the environment.
    ///
    /// # Errors
    /// Names every setting that is missing, malformed or out of its limits.
    pub fn from_env() -> Result<Loaded, ConfigError> {
        let mut variables = BTreeMap::new();
        let mut problems = Vec::new();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
                continue;
            };
            match value.into_string() {
                Ok(value) => drop(variables.insert(name.to_owned(), value)),
                Err(_) => problems.push(Problem {
                    variable: name.to_owned(),
                    reason: "is not UTF-8".to_owned(),
                }),
            }
        }
        match (Self::from_variables(variables), problems.is_empty()) {
            (loaded, true) => loaded,
            (Ok(_), false) => Err(ConfigError { problems }),
            (Err(error), false) => {
                problems.extend(error.problems);
                Err(ConfigError { problems })
            }
        }
    }

    /// The fault that the environment asks for; empty where it asks for none.
    #[cfg(feature = "sabotage")]
    #[must_use]
    pub fn sabotage_from_env() -> String {
        std::env::var(SABOTAGE).unwrap_or_default()
    }

    /// Reads variables that are given. Empty values count as not set, so that a compose file may pass them through.
    ///
    /// # Errors
    /// As [`Config::from_env`].
    pub fn from_variables<N: Into<String>, V: Into<String>>(
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Loaded, ConfigError> {
        let mut variables: BTreeMap<String, String> = variables
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let mut problems = Vec::new();
        let config = Self::take(&mut variables, &mut problems);
        let unknown = variables
            .into_keys()
            .filter(|name| name.starts_with(PREFIX) && !SUITE_VARIABLES.contains(&name.as_str()));
        let mut warnings: Vec<String> = unknown
            .map(|name| format!("{name} is no setting of this server"))
            .collect();
        match config {
            Some(config) => {
                config.judge_together(&mut problems, &mut warnings);
                if problems.is_empty() {
                    Ok(Loaded { config, warnings })
                } else {
                    Err(ConfigError { problems })
                }
            }
            None => Err(ConfigError { problems }),
        }
    }

    /// What no setting can be judged for alone.
    fn judge_together(&self, problems: &mut Vec<Problem>, warnings: &mut Vec<String>) {
        let mut wrong = |variable: &str, reason: String| {
            problems.push(Problem {
                variable: variable.to_owned(),
                reason,
            });
        };
        if self.argon2_memory_kib < 8 * self.argon2_lanes {
            wrong(
                "KINGSGUARD_ARGON2_MEMORY_KIB",
                format!("must be at least 8 KiB for each of the {} lanes", self.argon2_lanes),
            );
        }
        if self.refresh_token_ttl < self.access_token_ttl {
            wrong(
                "KINGSGUARD_REFRESH_TOKEN_TTL_MS",
                "must not be shorter than KINGSGUARD_ACCESS_TOKEN_TTL_MS".to_owned(),
            );
        }
        if self.queue_bytes_max < self.message_bytes_max {
            wrong(
                "KINGSGUARD_QUEUE_BYTES_MAX",
                "must not be below KINGSGUARD_MESSAGE_BYTES_MAX, or one answer could close a connection".to_owned(),
            );
        }
        if self.model_url.is_some() != self.model_name.is_some() {
            wrong(
                "KINGSGUARD_MODEL_URL",
                "and KINGSGUARD_MODEL_NAME must be set together, or neither for the built-in planner".to_owned(),
            );
        }
        if self
            .model_fallback
            .as_deref()
            .is_some_and(|fallback| fallback != "planner")
        {
            wrong(
                "KINGSGUARD_MODEL_FALLBACK",
                "must be `planner`, or absent to let runs fail with their model".to_owned(),
            );
        }
        if self.access_token_ttl < ACCESS_TOKEN_TTL_PROMISED {
            warnings.push(format!(
                "KINGSGUARD_ACCESS_TOKEN_TTL_MS is {} ms: the contract promises access tokens of 15 min or more",
                self.access_token_ttl.as_millis()
            ));
        }
        if self.dev_login {
            warnings.push(
                "KINGSGUARD_DEV_LOGIN is on: anyone who reaches this server can log in as anyone, without a password"
                    .to_owned(),
            );
        }
        if self.allowed_origins.is_empty() {
            warnings.push("KINGSGUARD_ALLOWED_ORIGINS is empty: pages of every origin may connect".to_owned());
        }
    }
}

/// Contract §11: access tokens live 15 min or more.
const ACCESS_TOKEN_TTL_PROMISED: std::time::Duration = std::time::Duration::from_secs(15 * 60);

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    const SECRET: (&str, &str) = ("KINGSGUARD_JWT_SECRET", "0123456789abcdef0123456789abcdef");
    const DATABASE: (&str, &str) = ("KINGSGUARD_DATABASE_URL", "postgres://kingsguard@127.0.0.1/kingsguard");
    const REDIS: (&str, &str) = ("KINGSGUARD_REDIS_URL", "redis://127.0.0.1/");

    #[test]
    fn required_settings_alone_make_a_configuration() {
        let loaded = Config::from_variables([SECRET, DATABASE, REDIS]).expect("nothing else is required");
        assert_eq!(loaded.config.message_bytes_max, 5 * 1024 * 1024);
        assert_eq!(loaded.config.limits().messages_burst_max, 20);
        assert!(!loaded.config.dev_login);
    }

    #[test]
    fn every_wrong_setting_is_named_at_once() {
        let error = Config::from_variables([
            ("KINGSGUARD_JWT_SECRET", "short"),
            ("KINGSGUARD_LISTEN", "nowhere"),
            ("KINGSGUARD_RUN_DEADLINE_MS", "-1"),
            ("KINGSGUARD_DEV_LOGIN", "perhaps"),
            DATABASE,
        ])
        .expect_err("four settings are wrong and one is missing");
        let mut named: Vec<&str> = error.problems.iter().map(|problem| problem.variable.as_str()).collect();
        named.sort_unstable();
        assert_eq!(
            named,
            [
                "KINGSGUARD_DEV_LOGIN",
                "KINGSGUARD_JWT_SECRET",
                "KINGSGUARD_LISTEN",
                "KINGSGUARD_REDIS_URL",
                "KINGSGUARD_RUN_DEADLINE_MS"
            ]
        );
        assert!(
            !error.to_string().contains("short"),
            "a secret's value is never quoted: {error}"
        );
    }

    #[test]
    fn settings_that_contradict_each_other_are_named() {
        let error = Config::from_variables([SECRET, DATABASE, REDIS, ("KINGSGUARD_MODEL_NAME", "gpt")])
            .expect_err("a model needs a URL");
        assert_eq!(error.problems.len(), 1);
        assert_eq!(error.problems[0].variable, "KINGSGUARD_MODEL_URL");
    }

    #[test]
    fn unknown_variables_are_named_and_those_of_the_test_runner_are_not() {
        let loaded = Config::from_variables([
            SECRET,
            DATABASE,
            REDIS,
            ("KINGSGUARD_ALLOWED_ORIGINS", "https://chat.example"),
            ("KINGSGUARD_RUN_DEADLIN_MS", "1"),
            ("KINGSGUARD_SEED", "7"),
        ])
        .expect("an unknown variable is a warning");
        assert_eq!(
            loaded.warnings,
            ["KINGSGUARD_RUN_DEADLIN_MS is no setting of this server"]
        );
    }

    #[test]
    fn dangerous_settings_are_said_loudly() {
        let loaded = Config::from_variables([
            SECRET,
            DATABASE,
            REDIS,
            ("KINGSGUARD_DEV_LOGIN", "true"),
            ("KINGSGUARD_ACCESS_TOKEN_TTL_MS", "1000"),
        ])
        .expect("both are allowed");
        for variable in ["KINGSGUARD_DEV_LOGIN", "KINGSGUARD_ACCESS_TOKEN_TTL_MS"] {
            assert!(
                loaded.warnings.iter().any(|warning| warning.starts_with(variable)),
                "{variable}"
            );
        }
    }

    #[test]
    fn every_default_is_within_its_own_limits() {
        let mut variables: Vec<(String, String)> = Config::reference()
            .into_iter()
            .filter_map(|setting| Some((setting.variable.to_owned(), setting.default?)))
            .collect();
        variables.extend([SECRET, DATABASE, REDIS].map(|(name, value)| (name.to_owned(), value.to_owned())));
        Config::from_variables(variables).expect("a default is a value that could be set");
    }

    #[test]
    fn every_setting_is_documented_and_named_once() {
        let reference = Config::reference();
        let mut names: Vec<&str> = reference.iter().map(|setting| setting.variable).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), reference.len());
        for setting in reference {
            assert!(setting.variable.starts_with(PREFIX), "{}", setting.variable);
            assert!(setting.description.trim().ends_with('.'), "{}", setting.variable);
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let loaded = Config::from_variables([SECRET, DATABASE, REDIS]).expect("complete");
        assert!(!format!("{:?}", loaded.config).contains(SECRET.1));
    }
}
