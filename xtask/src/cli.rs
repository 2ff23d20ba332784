//! The words that the runner understands.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The runner: selects categories, runs them on real services, gives one verdict.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 110, after_help = after_help())]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run categories or selections, with what they depend on first
    #[command(after_help = after_help())]
    Test(Box<TestArgs>),
    /// Show all categories and selections
    List {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// What this machine has and lacks, and how to get it
    Doctor {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Postgres and Redis, to keep between runs
    Services {
        #[command(subcommand)]
        action: ServicesAction,
    },
    /// Services and a backend for a person: prints the addresses and a ready token, stays until Ctrl-C
    Serve(ServeArgs),
    /// Git hooks of this repository
    Hooks {
        #[command(subcommand)]
        action: HooksAction,
    },
    /// Make stand-ins for the container images from Debian packages, where no image registry can be reached
    Images {
        /// Make them again even when they are there
        #[arg(long)]
        force: bool,
    },
    /// The suite against backends that are wrong on purpose: each must be caught, by the clause that it breaks
    Sabotage(SabotageArgs),
    /// Earlier runs: how they ended, which tests fail now and then, which became slow
    History(HistoryArgs),
    /// Reports of finished runs
    Report {
        #[command(subcommand)]
        action: ReportAction,
    },
    /// Judge stored recordings again, offline; draw them; offer one as a stand-in target
    Replay(ReplayArgs),
    /// May this be deployed? GO, NO-GO or UNKNOWN, with reasons and the signs on which to take it back
    Gate(GateArgs),
    /// Light checks at an interval against a running system; the answer as Prometheus metrics and JSON
    Watch(WatchArgs),
    /// Let the suite judge an example backend of another language, as it is and with one event left out
    Example {
        #[arg(value_enum)]
        name: ExampleName,
        /// Install what is missing (Debian packages), saying what
        #[arg(long)]
        provision: bool,
    },
    /// Checks that need no test run
    Tidy {
        /// Write the generated parts instead of comparing them
        #[arg(long)]
        write: bool,
    },
    /// Write the published schemas to docs/schema
    Schema {
        /// Compare instead of writing
        #[arg(long)]
        check: bool,
    },
    /// Exactly what CI runs after its bootstrap
    Ci,
}

#[derive(Debug, Args)]
pub struct TestArgs {
    /// Categories or selections; see below
    #[arg(value_name = "CATEGORY|SELECTION")]
    pub names: Vec<String>,
    /// The old spelling of the same
    #[arg(long = "category", alias = "categories", num_args = 1.., hide = true)]
    pub category: Vec<String>,
    /// Leave out what the named ones depend on
    #[arg(long, alias = "no-dependencies", alias = "skip-deps")]
    pub no_deps: bool,
    /// Only tests whose path contains this, or a filterset of nextest such as 'test(/resume/) & binary(e2e)'
    #[arg(long, value_name = "TEXT|FILTERSET")]
    pub pattern: Option<String>,
    /// Stop at the first failure
    #[arg(long, alias = "fast-fail")]
    pub fail_fast: bool,
    /// The K-th of N parts, by a hash of each test's name
    #[arg(long, value_name = "K/N", value_parser = shard)]
    pub shard: Option<String>,
    /// Run everything so often, each time with the next seed
    #[arg(long, value_name = "TIMES", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeat: Option<u32>,
    /// Source of all randomness; a random one by default, and always printed
    #[arg(long)]
    pub seed: Option<u64>,
    /// Seeds of chaos, counted up from --seed; each is one test
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub seeds: Option<u64>,
    /// Only these nemeses in chaos; all by default
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    pub nemesis: Vec<String>,
    /// Nodes of the backend in chaos; 2 by default
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub nodes: Option<u8>,
    /// Tests at the same time; as many as processors by default
    #[arg(long, alias = "workers", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub jobs: Option<u32>,
    /// Where Postgres and Redis come from
    #[arg(long, value_enum, default_value_t = Services::Auto)]
    pub services: Services,
    /// Judge this backend instead of our own: only tests that need nothing but an address run
    #[arg(long, value_name = "URL")]
    pub target: Option<String>,
    /// What that backend is like, where it is not as the contract says; see docs/your-backend.md
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,
    /// Settings from environments/NAME.env
    #[arg(long, value_name = "NAME")]
    pub env: Option<String>,
    /// Say that --env production is meant
    #[arg(long, alias = "allow-prod")]
    pub yes_production: bool,
    /// Install what is missing (Debian packages, cargo-nextest), saying what
    #[arg(long)]
    pub provision: bool,
    /// Seconds that the run may take without building, instead of the table's budgets
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub budget: Option<u64>,
    /// Compare with this run: its name, its folder, or a summary.json; by default the last one that passed with the same names
    #[arg(long, value_name = "RUN|PATH")]
    pub baseline: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Services {
    /// Containers where an engine and the images are there, else processes
    Auto,
    /// Postgres, Redis and the backend in containers
    Containers,
    /// Throw-away servers from binaries of this machine
    Processes,
    /// Addresses in KINGSGUARD_DATABASE_URL and KINGSGUARD_REDIS_URL
    External,
}

impl Services {
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Containers => "containers",
            Self::Processes => "processes",
            Self::External => "external",
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum ServicesAction {
    /// Start them; they stay until `down`
    Up {
        /// Where they come from
        #[arg(long, value_enum, default_value_t = Services::Auto)]
        services: Services,
    },
    /// What runs, and where
    Status,
    /// What they wrote
    Logs,
    /// Stop and remove them
    Down,
}

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Port of the backend; a free one by default
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// One line with http_url, ws_url, token, user_id
    #[arg(long)]
    pub json: bool,
    /// Where Postgres and Redis come from
    #[arg(long, value_enum, default_value_t = Services::Auto)]
    pub services: Services,
}

/// Backends in examples/.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExampleName {
    /// examples/python-backend, which keeps the contract
    Python,
    /// examples/original-kind, which never heard of it
    Original,
}

#[derive(Debug, Subcommand)]
pub enum HooksAction {
    /// Run format, lint and tidy before each commit
    Install,
    /// What the hook runs
    Run,
}

fn shard(text: &str) -> Result<String, String> {
    let (part, of) = text.split_once('/').ok_or("expected K/N, such as 1/3")?;
    match (part.parse::<u32>(), of.parse::<u32>()) {
        (Ok(part), Ok(of)) if part >= 1 && part <= of => Ok(text.to_owned()),
        _ => Err("expected K/N with 1 ≤ K ≤ N, such as 1/3".to_owned()),
    }
}

fn after_help() -> String {
    format!("{}\n{}", crate::list::categories_text(), crate::list::exits_text())
}

/// What `cargo xtask sabotage` is told.
#[derive(Debug, clap::Args)]
pub struct SabotageArgs {
    /// Only sabotages of these clauses, or with these ids
    #[arg(long, num_args = 1.., value_name = "ID")]
    pub clause: Vec<String>,
    /// List them and run nothing
    #[arg(long)]
    pub list: bool,
    /// So many at once
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
}

/// What `cargo xtask history` is told.
#[derive(Debug, clap::Args)]
pub struct HistoryArgs {
    /// Run by run, the tests whose name contains this
    #[arg(long, value_name = "NAME")]
    pub test: Option<String>,
    /// So many of the newest runs
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum ReportAction {
    /// Make one report of all shards of a run, with one verdict; a missing shard makes it invalid
    Merge {
        /// Folders that hold the shards' summary.json and junit.xml
        #[arg(value_name = "RUN_DIR", required = true)]
        runs: Vec<PathBuf>,
        /// Where the report goes; a run's folder of its own under target/reports by default
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Make the page of a finished run again, such as of one that was fetched from elsewhere
    Html {
        /// Folder that holds its summary.json; the newest run's by default
        #[arg(value_name = "RUN_DIR")]
        run: Option<PathBuf>,
    },
}

/// What `cargo xtask replay` is told.
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    /// Recordings, such as a failed test's recording.jsonl
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Draw each one, as HTML or SVG by the name's end; beside the file where no name is given
    #[arg(long, value_name = "OUT.html|OUT.svg")]
    pub timeline: Option<Option<PathBuf>>,
    /// Offer the recording as a stand-in target on loopback until Ctrl-C, and judge nothing
    #[arg(long, conflicts_with = "timeline")]
    pub serve: bool,
    /// Port of the stand-in; a free one by default
    #[arg(long, default_value_t = 0, requires = "serve")]
    pub port: u16,
    /// How many times faster than recorded the stand-in answers
    #[arg(long, value_name = "TIMES", default_value_t = 1.0, requires = "serve")]
    pub speed: f64,
}

/// Which backend a question is about.
#[derive(Debug, Args)]
pub struct Subject {
    /// A running backend instead of our own
    #[arg(long, value_name = "URL")]
    pub target: Option<String>,
    /// How that backend is to be talked to, where it is not ours: a file as docs/your-backend.md shows it
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,
    /// Settings from environments/NAME.env
    #[arg(long, value_name = "NAME")]
    pub env: Option<String>,
    /// Say that --env production is meant
    #[arg(long)]
    pub yes_production: bool,
    /// Where Postgres and Redis come from
    #[arg(long, value_enum, default_value_t = Services::Auto)]
    pub services: Services,
}

impl Subject {
    /// What `cargo xtask test SELECTION` would be told.
    pub fn test(&self, selection: &str) -> TestArgs {
        let parsed = Cli::try_parse_from(["cargo xtask", "test", selection]);
        let Ok(Cli {
            command: Command::Test(args),
        }) = parsed
        else {
            unreachable!("a test of a selection is well-formed")
        };
        TestArgs {
            target: self.target.clone(),
            profile: self.profile.clone(),
            env: self.env.clone(),
            yes_production: self.yes_production,
            services: self.services,
            ..*args
        }
    }
}

/// What `cargo xtask gate` is told.
#[derive(Debug, Args)]
pub struct GateArgs {
    #[command(flatten)]
    pub subject: Subject,
    /// A suite run of the same release that judged what this one cannot: its folder or summary.json
    #[arg(long, value_name = "RUN")]
    pub with: Vec<PathBuf>,
}

/// What `cargo xtask watch` is told.
#[derive(Debug, Args)]
pub struct WatchArgs {
    #[command(flatten)]
    pub subject: Subject,
    /// Seconds from the beginning of a check to that of the next one
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub every: u64,
    /// Where metrics and status are served
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9464")]
    pub listen: String,
    /// End after so many checks, with the last answer
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub rounds: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    kingsguard_report::covers!("RUN-4");

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_shard_is_a_part_of_a_whole() {
        for (text, fine) in [
            ("1/1", true),
            ("3/3", true),
            ("0/3", false),
            ("4/3", false),
            ("1", false),
            ("a/b", false),
        ] {
            assert_eq!(shard(text).is_ok(), fine, "{text}");
        }
    }
}
