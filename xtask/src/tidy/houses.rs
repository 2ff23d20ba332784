//! Who may know whom: between packages by their manifests, inside packages by the words in their code.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::Faults;
use super::rust_source::RustSource;
use crate::workspace::Workspace;

/// A package and those of ours that it must not use, not even in its tests.
const STRANGERS: &[(&str, &[&str])] = &[
    (
        "crates/protocol",
        &[
            "kingsguard-report",
            "kingsguard-server",
            "kingsguard-testkit",
            "kingsguard-tests",
            "xtask",
        ],
    ),
    (
        "crates/report",
        &[
            "kingsguard-protocol",
            "kingsguard-server",
            "kingsguard-testkit",
            "kingsguard-tests",
            "xtask",
        ],
    ),
    (
        "crates/server",
        &["kingsguard-testkit", "kingsguard-tests", "kingsguard-report", "xtask"],
    ),
    ("tests", &["kingsguard-server", "xtask"]),
    (
        "xtask",
        &["kingsguard-server", "kingsguard-testkit", "kingsguard-tests"],
    ),
];

/// Words that a part of the tree must not use.
struct Wall {
    /// Files whose path begins so…
    inside: &'static str,
    /// …except these.
    but: &'static [&'static str],
    words: &'static [&'static str],
    why: &'static str,
}

const WALLS: &[Wall] = &[
    Wall {
        inside: "crates/protocol/src",
        but: &[],
        words: &["std::fs", "std::net", "std::process", "tokio::"],
        why: "the words on the wire do no I/O",
    },
    Wall {
        inside: "crates/report/src",
        but: &[],
        words: &["std::fs", "std::net", "std::process", "tokio::"],
        why: "result data does no I/O",
    },
    Wall {
        inside: "crates/server/src/session",
        but: &[],
        words: &["axum", "sqlx", "redis", "tokio::net", "tungstenite"],
        why: "the state machine of a connection is pure",
    },
    Wall {
        inside: "crates/server/src",
        but: &["crates/server/src/connection"],
        words: &["WebSocketStream"],
        why: "only `connection` knows the WebSocket type",
    },
    Wall {
        inside: "crates/server/src",
        but: &["crates/server/src/store"],
        words: &["sqlx::query", "sqlx::raw_sql", "QueryBuilder"],
        why: "only `store` writes SQL",
    },
    Wall {
        inside: "crates/server/src",
        // `error` is the one place that turns errors of others into ours.
        but: &["crates/server/src/broker", "crates/server/src/error"],
        words: &["redis::"],
        why: "only `broker` speaks to Redis",
    },
    Wall {
        inside: "crates/server/src",
        but: &["crates/server/src/config"],
        words: &["env::var"],
        why: "only `config` reads the environment",
    },
    Wall {
        inside: "crates/testkit/src/validate",
        but: &[],
        words: &["tokio::", "std::fs", "reqwest", "std::process"],
        why: "validators are pure functions from a recording to violations",
    },
    Wall {
        inside: "crates/testkit/src",
        but: &["crates/testkit/src/deployment"],
        words: &["kingsguard_server"],
        why: "only `deployment` names the server",
    },
    Wall {
        inside: "crates/testkit/src",
        but: &["crates/testkit/src/provider", "crates/testkit/src/bin"],
        words: &["testcontainers::"],
        why: "only `provider` starts a container",
    },
    Wall {
        inside: "crates/testkit/src",
        // The supervisor starts itself, as the process that outlives `up`.
        but: &[
            "crates/testkit/src/provider",
            "crates/testkit/src/supervisor",
            "crates/testkit/src/bin",
        ],
        words: &["Command::new"],
        why: "only `provider` starts a process",
    },
    Wall {
        inside: "tests",
        but: &[],
        words: &["kingsguard_server"],
        why: "suites see the wire, not the server",
    },
];

pub fn check(workspace: &Workspace, sources: &[RustSource], faults: &mut Faults) -> Result<()> {
    for (folder, strangers) in STRANGERS {
        let path = Path::new(folder).join("Cargo.toml");
        let text =
            fs::read_to_string(workspace.root.join(&path)).with_context(|| format!("reading {}", path.display()))?;
        for stranger in known_strangers(&text, strangers).with_context(|| format!("reading {}", path.display()))? {
            faults.push(format!("{}: must not use {stranger}", path.display()));
        }
    }
    for source in sources {
        faults.extend(breaches(source));
    }
    Ok(())
}

fn known_strangers(manifest: &str, strangers: &[&'static str]) -> Result<Vec<&'static str>> {
    let manifest: toml::Table = toml::from_str(manifest)?;
    let uses = |name: &str| {
        let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
        tables
            .iter()
            .any(|table| manifest.get(*table).is_some_and(|table| table.get(name).is_some()))
    };
    Ok(strangers.iter().copied().filter(|name| uses(name)).collect())
}

fn breaches(source: &RustSource) -> Vec<String> {
    let path = source.path.to_string_lossy();
    let mut found = Vec::new();
    for wall in WALLS.iter().filter(|wall| path.starts_with(wall.inside)) {
        if wall.but.iter().any(|free| path.starts_with(free)) {
            continue;
        }
        for (number, line) in source.code.lines().enumerate() {
            for word in wall.words.iter().filter(|word| line.contains(**word)) {
                found.push(format!("{path}:{}: `{word}`: {}", number + 1, wall.why));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_dependency_on_a_stranger_is_found_in_every_table() {
        let manifest = "[dependencies]\na.workspace = true\n[dev-dependencies]\nkingsguard-server = { path = \"x\" }\n";
        assert_eq!(
            known_strangers(manifest, &["kingsguard-server", "xtask"]).expect("toml"),
            ["kingsguard-server"]
        );
    }

    #[test]
    fn a_word_counts_where_it_is_code_and_behind_a_wall() {
        let found = |path: &str, text: &str| breaches(&RustSource::new(Path::new(path), text.to_owned())).len();
        assert_eq!(found("crates/server/src/session/state.rs", "use sqlx::Row;"), 1);
        assert_eq!(
            found("crates/server/src/session.rs", "// like sqlx does\nlet a = \"sqlx\";"),
            0
        );
        assert_eq!(found("crates/server/src/http/users.rs", "sqlx::query(x)"), 1);
        assert_eq!(found("crates/server/src/store/users.rs", "sqlx::query(x)"), 0);
    }
}
