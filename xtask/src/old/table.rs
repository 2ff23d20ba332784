//! The one table of the replaced runner's words and ours: the runner answers by it, and
//! `docs/coming-from-the-original.md` shows it.

/// A word of the replaced runner.
#[derive(Debug)]
pub struct Old {
    /// All its spellings.
    pub spellings: &'static [&'static str],
    pub value: Value,
    pub answer: Answer,
}

/// Whether the word that follows belongs to an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    None,
    One,
}

/// What becomes of an old word.
#[derive(Debug)]
pub enum Answer {
    /// The command line knows the old spelling itself. How ours is written.
    Same(&'static str),
    /// Ours, word for word.
    Means(&'static [&'static str]),
    /// Nothing to do: it is always so here. Why.
    Always(&'static str),
    /// Not ours; what to type instead.
    Instead(&'static str),
}

/// Options that belong together.
#[derive(Debug)]
pub struct Group {
    pub title: &'static str,
    pub options: &'static [Old],
}

use Answer::{Always, Instead, Means, Same};

const fn old(spellings: &'static [&'static str], value: Value, answer: Answer) -> Old {
    Old {
        spellings,
        value,
        answer,
    }
}

/// An option that stands alone.
const fn flag(spellings: &'static [&'static str], answer: Answer) -> Old {
    old(spellings, Value::None, answer)
}

/// An option with a value.
const fn with_value(spellings: &'static [&'static str], answer: Answer) -> Old {
    old(spellings, Value::One, answer)
}

const ONE_REPORT: &str = "target/reports/latest/summary.json is always written, whole, by docs/schema/summary.json";
const SHARDS: &str = "--shard K/N for each of N machines, then cargo xtask report merge";
const COVERAGE: &str = "cargo llvm-cov nextest";
const NO_BROWSER: &str = "cargo xtask test e2e; no browser is driven yet";
const LAYERS: &str = "cargo xtask test quick, integration, e2e or nightly";
const STAGING: &str = "cargo xtask test … --env staging";

pub const GROUPS: &[Group] = &[
    Group {
        title: "What runs",
        options: &[
            with_value(
                &["--category", "--categories"],
                Same("cargo xtask test CATEGORY…; an unknown name is an error"),
            ),
            with_value(
                &["--service"],
                Instead("name categories: cargo xtask test unit integration"),
            ),
            with_value(
                &["--pattern"],
                Same(
                    "--pattern TEXT, or a filterset of nextest; it holds for every category, asterisks around it are left out",
                ),
            ),
            with_value(&["--file"], Instead("--pattern 'test(/^wire::NAME/)'")),
            with_value(&["--markers", "-m"], Instead("--pattern FILTERSET")),
            with_value(&["--keyword", "-k"], Instead("--pattern TEXT")),
            with_value(&["--exclude-env"], Instead("--pattern 'not test(/NAME/)'")),
            with_value(
                &["--resume-from"],
                Instead("--no-deps with the categories that are left"),
            ),
            flag(&["--no-dependencies", "--skip-deps"], Same("--no-deps")),
            flag(
                &["--no-phase-dependencies"],
                Instead("--no-deps; what depends on a failed category is otherwise not run, and says why"),
            ),
        ],
    },
    Group {
        title: "Where it runs",
        options: &[
            with_value(
                &["--env"],
                Same("--env NAME, a file in environments/; `prod` is read as `production`, `dev` as `test`"),
            ),
            flag(
                &["--allow-prod"],
                Same("--yes-production; without it production is refused"),
            ),
            flag(
                &["--real-llm"],
                Instead("set KINGSGUARD_MODEL_URL for the backend that is judged, and name it by --target URL"),
            ),
            flag(&["--real-services"], Always("services are always real here")),
            flag(&["--staging-e2e"], Instead("cargo xtask test e2e --env staging")),
            flag(&["--prefer-staging"], Instead(STAGING)),
            flag(
                &["--no-services"],
                Instead("cargo xtask test quick, which needs no services"),
            ),
            flag(&["--auto-services"], Means(&["--services", "auto"])),
            with_value(
                &["--service-timeout"],
                Always("services are waited for by their state, within a bound of ours"),
            ),
            flag(
                &["--no-service-cleanup"],
                Instead("cargo xtask services up keeps services between runs"),
            ),
            with_value(
                &["--service-category"],
                Instead("--services auto, containers, processes or external"),
            ),
        ],
    },
    Group {
        title: "Containers",
        options: &[
            flag(&["--no-docker", "--skip-docker"], Means(&["--services", "processes"])),
            flag(&["--docker-bypass"], Instead(STAGING)),
            flag(&["--docker-dedicated"], Means(&["--services", "containers"])),
            flag(
                &["--docker-force-restart"],
                Always("every run starts services of its own"),
            ),
            flag(
                &["--docker-production"],
                Instead("cargo xtask test performance, which judges an optimised build"),
            ),
            flag(
                &["--docker-no-cleanup"],
                Instead("cargo xtask services up keeps services between runs"),
            ),
            flag(&["--docker-stats"], Instead("docker stats")),
            flag(&["--no-alpine"], Always("the images are those that docker/ names")),
            flag(&["--no-rebuild"], Always("only what changed is built")),
            flag(&["--rebuild-all"], Instead("cargo xtask images --force")),
            with_value(
                &["--docker-pull-policy"],
                Always("an image is fetched when it is missing"),
            ),
        ],
    },
    Group {
        title: "How it runs",
        options: &[
            flag(
                &["--parallel"],
                Always("tests always run in parallel here; --jobs says how many"),
            ),
            with_value(&["--workers"], Same("--jobs N")),
            with_value(&["--max-workers"], Instead("--jobs N")),
            flag(&["--fast-fail"], Same("--fail-fast")),
            flag(&["--no-fast-fail"], Always("all tests run unless --fail-fast is given")),
            with_value(&["--maxfail"], Instead("--fail-fast")),
            with_value(
                &["--fail-fast-mode"],
                Instead("--fail-fast; a category whose dependency failed is never run anyway"),
            ),
            with_value(&["--window-size"], Instead(SHARDS)),
            with_value(&["--splitting-strategy"], Instead(SHARDS)),
            flag(&["--disable-auto-split"], Always("a run is split by --shard only")),
            flag(
                &["--failed-first", "--ff"],
                Instead("--pattern TEXT; a run names its failed tests and the command that repeats each"),
            ),
            with_value(
                &["--profile"],
                Same("--profile FILE, which means what a target is like; for times cargo xtask test performance"),
            ),
            flag(
                &["--show-warnings"],
                Always("a warning of the compiler is an error in CI"),
            ),
        ],
    },
    Group {
        title: "Collection and coverage",
        options: &[
            flag(&["--fast-collection"], Instead("cargo nextest list")),
            flag(
                &["--parallel-collection"],
                Always("tests are listed by their binaries, at once"),
            ),
            with_value(
                &["--collection-timeout"],
                Always("tests are listed by their binaries, at once"),
            ),
            flag(&["--coverage", "--cov"], Instead(COVERAGE)),
            flag(
                &["--no-coverage"],
                Always("coverage is measured by cargo llvm-cov nextest only"),
            ),
            with_value(
                &["--min-coverage"],
                Instead("cargo llvm-cov nextest --fail-under-lines 70"),
            ),
        ],
    },
    Group {
        title: "What it says",
        options: &[
            flag(
                &["--verbose"],
                Always("a failure is always told in full, with where its evidence lies"),
            ),
            flag(
                &["--quiet", "-q"],
                Always("a test that passes is one line where there is no terminal, and a bar where there is one"),
            ),
            with_value(
                &["--progress-mode"],
                Always("a bar in a terminal and plain lines elsewhere, by themselves"),
            ),
            flag(&["--json-output"], Always(ONE_REPORT)),
            flag(
                &["--html-output"],
                Always("target/reports/latest/index.html is always written, one page that needs nothing else"),
            ),
            with_value(&["--json-verbosity"], Always(ONE_REPORT)),
            with_value(&["--json-size-limit"], Always(ONE_REPORT)),
            flag(&["--json-auto-truncate"], Always(ONE_REPORT)),
            with_value(&["--json-format"], Always(ONE_REPORT)),
            with_value(&["--json-preserve-fields"], Always(ONE_REPORT)),
            flag(
                &["--list-categories", "--show-category-stats", "--show-layers"],
                Means(&["list"]),
            ),
            flag(&["--orchestration-status"], Instead("cargo xtask services status")),
        ],
    },
    Group {
        title: "Checks without a run",
        options: &[
            flag(&["--validate", "--full-validate"], Instead("cargo xtask tidy")),
            flag(
                &["--no-validate"],
                Always("tests that do not compile do not run: nothing is left to switch off"),
            ),
        ],
    },
    Group {
        title: "Layers",
        options: &[
            flag(
                &["--use-layers", "--master-orchestration"],
                Always("categories are ordered by their dependencies and priorities"),
            ),
            with_value(&["--layers"], Instead(LAYERS)),
            with_value(&["--execution-mode"], Instead(LAYERS)),
            flag(
                &["--background-e2e"],
                Always("categories that nothing separates run at the same time"),
            ),
            with_value(
                &["--max-parallel-layers"],
                Always("categories that nothing separates run at the same time"),
            ),
            flag(
                &["--no-progress-streaming", "--enable-monitoring"],
                Always("progress is told on the console and nowhere else"),
            ),
            with_value(
                &["--websocket-thread-id"],
                Always("progress is told on the console and nowhere else"),
            ),
        ],
    },
    Group {
        title: "Front end",
        options: &[
            flag(&["--lint", "-l"], Instead("cargo clippy --workspace --all-targets")),
            flag(&["--fix"], Instead("cargo clippy --fix")),
            flag(&["--build", "-b"], Instead("cargo build --workspace")),
            flag(
                &["--type-check", "-t"],
                Instead("cargo check --workspace --all-targets"),
            ),
            flag(&["--watch", "-w"], Instead("cargo xtask test quick after each change")),
            flag(&["--update-snapshots", "-u"], Instead("cargo insta review")),
            flag(&["--e2e"], Instead("cargo xtask test e2e")),
            flag(&["--cypress-open", "--cypress-headed"], Instead(NO_BROWSER)),
            with_value(&["--cypress-browser"], Instead(NO_BROWSER)),
            flag(&["--check-deps"], Instead("cargo xtask doctor")),
            flag(&["--install-deps"], Means(&["--provision"])),
        ],
    },
];

/// What an old category is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counterpart {
    /// A category or a selection.
    Is(&'static str),
    /// Nothing yet. Why.
    Missing(&'static str),
}

use Counterpart::{Is, Missing};

const NO_PAGE: &str = "not built yet: there is no page of the backend to test";

/// Categories that are not spelt as ours are.
pub const CATEGORIES: &[(&str, Counterpart)] = &[
    ("smoke", Is("quick")),
    ("startup", Is("integration")),
    ("post_deployment", Is("mission-critical")),
    ("deployment_critical", Is("mission-critical")),
    ("mission_critical", Is("mission-critical")),
    ("critical", Is("mission-critical")),
    ("golden_path", Is("golden-path")),
    ("golden_path_unit", Is("golden-path")),
    ("golden_path_integration", Is("golden-path")),
    ("golden_path_e2e", Is("golden-path")),
    ("golden_path_staging", Is("golden-path")),
    ("security", Is("integration")),
    ("database", Is("integration")),
    ("api", Is("integration")),
    ("websocket", Is("integration")),
    ("agent", Is("e2e")),
    ("agents", Is("e2e")),
    ("e2e_critical", Is("e2e")),
    ("e2e_full", Is("e2e")),
    ("real_e2e", Is("e2e")),
    ("real_services", Is("integration")),
    ("comprehensive", Is("all")),
    ("frontend", Missing(NO_PAGE)),
    ("cypress", Missing(NO_PAGE)),
];

/// Values of `--env` that are not spelt as ours are.
pub const ENVIRONMENTS: &[(&str, &str)] = &[("prod", "production"), ("dev", "test")];

/// The row of an option.
pub fn option(spelling: &str) -> Option<&'static Old> {
    let mut all = GROUPS.iter().flat_map(|group| group.options);
    all.find(|old| old.spellings.contains(&spelling))
}
