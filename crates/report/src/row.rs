//! The rows of what the product must do: what `covers!` checks at compile time, and what the ledger lists beside the clauses
//! of the contract.

/// One thing that the product must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its id, such as `RUN-6`; kept for good.
    pub id: &'static str,
    /// What it is, for people.
    pub sentence: &'static str,
}

impl Row {
    /// The row with this id.
    ///
    /// # Panics
    /// When there is none; in a constant, where [`covers!`](crate::covers) calls it, that is a compile error.
    #[must_use]
    pub const fn named(id: &str) -> Self {
        let mut index = 0;
        while index < ROWS.len() {
            if same(ROWS[index].id, id) {
                return ROWS[index];
            }
            index += 1;
        }
        panic!("no row of what the product must do has this id")
    }
}

/// `==` of texts, which is not yet allowed in constants.
#[must_use]
pub const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut index = 0;
    while index < a.len() {
        if a[index] != b[index] {
            return false;
        }
        index += 1;
    }
    true
}

/// Says which rows the tests of a file show: `covers!("RUN-6");`, once, in the module that holds the tests or in one test. A
/// row that does not exist does not compile.
///
/// ```
/// kingsguard_report::covers!("RUN-6", "RUN-3");
/// ```
///
/// ```compile_fail
/// kingsguard_report::covers!("RUN-99");
/// ```
#[macro_export]
macro_rules! covers {
    ($($id:literal),+ $(,)?) => {
        $(const _: $crate::row::Row = $crate::row::Row::named($id);)+
    };
}

const fn row(id: &'static str, sentence: &'static str) -> Row {
    Row { id, sentence }
}

/// Every row.
pub const ROWS: &[Row] = &[
    row(
        "RUN-1",
        "`cargo xtask test` runs categories by name from one table, with what they depend on first",
    ),
    row("RUN-2", "six categories and the named selections over them"),
    row(
        "RUN-3",
        "priorities order the run; what depends on a failure is not run, because",
    ),
    row(
        "RUN-4",
        "pattern, fail-fast, shard, repeat, seed, jobs, services, target, environment",
    ),
    row(
        "RUN-5",
        "starts the stack, waits by state, removes exactly what it started, sweeps leftovers",
    ),
    row(
        "RUN-6",
        "verdict from structured results; each way to have shown nothing is an error with its exit code",
    ),
    row(
        "RUN-7",
        "reports: console, JUnit, JSON, HTML; history, flaky and slowest tests, baseline",
    ),
    row("RUN-8", "live progress, plain where there is no terminal"),
    row(
        "RUN-9",
        "`cargo nextest run` works by itself; shards of several machines make one report",
    ),
    row("RUN-10", "`doctor`, and `services up|status|logs|down`"),
    row("RUN-11", "a pre-commit hook that answers in seconds"),
    row(
        "RUN-12",
        "`tidy`: every test asserts, none sleeps, none vanishes, the ledger is true",
    ),
    row("RUN-13", "`gate` and `watch`: may this be deployed?"),
    row(
        "KIT-1",
        "TestContext: isolated users, target, capture, faults; evidence and the command that repeats",
    ),
    row(
        "KIT-2",
        "simulated user: register, login, connect, send, ask, drop, reconnect, resume",
    ),
    row("KIT-3", "capture at the receiving socket only, raw and append-only"),
    row(
        "KIT-4",
        "validators for every clause that a capture can show, at the end of every test",
    ),
    row("KIT-5", "timing analysis: intended start, gaps, percentiles, anomalies"),
    row("KIT-6", "recordings: judged again offline, drawn, served as a target"),
    row(
        "KIT-7",
        "service providers: containers, processes, external; a database per test",
    ),
    row(
        "KIT-8",
        "fault proxy for TCP and WebSocket frames, with proof that each fault happened",
    ),
    row(
        "KIT-9",
        "load plans of an open model; saturation of the generator is an invalid run",
    ),
    row("KIT-10", "resource monitor of the target"),
    row("KIT-11", "the kit is tested itself"),
    row(
        "EVT",
        "the five events: content, order, timing over real sockets, in every trouble",
    ),
    row(
        "VAL",
        "registry, dispatcher and bridge are wired for every agent and cannot be built unwired",
    ),
    row(
        "BRG-1",
        "thread resolution: every event reaches the thread of its run, hostile ids included",
    ),
    row(
        "BRG-2",
        "life cycle of the bridge: start, degraded, recovery, drain, restart",
    ),
    row(
        "BRG-3",
        "concurrency and order: many threads, FIFO in each, exact counters, explored schedules",
    ),
    row(
        "BRG-4",
        "chaos on the link: drops, latency, corruption, reorder; everything, exactly once",
    ),
    row(
        "BRG-5",
        "isolation and chat start: many users, credentials, byzantine clients",
    ),
    row("BRG-6", "performance of the bridge: latency percentiles and throughput"),
    row("CONN", "connect, route every message type, every error code, reconnect"),
    row(
        "RES",
        "breakers, retries without storms, back-off in virtual time, fallback",
    ),
    row("MEM", "memory and resources over time"),
    row("REFRESH", "page refresh in a real browser"),
    row("DOCK", "containers: health, crash, limits, rolling update"),
    row("INFRA", "kit and fixtures: providers, isolation, clean-up"),
    row("JRN", "user journeys from sign-up to result"),
    row("FLOW", "message flow through every layer, persistence, rate limits"),
    row(
        "PIPE",
        "agent pipeline: supervisor, agents, tools, results, billing, compensation",
    ),
    row("GOLD", "golden path: quality and completeness against computed truth"),
    row("STRESS", "load: many users, bursts, slow readers, overload sheds"),
    row("SOAK", "endurance"),
    row(
        "PROOF-1",
        "a catalogue of sabotages, each caught by the clause it breaks",
    ),
    row("PROOF-2", "a correct backend is never blamed"),
    row(
        "PROOF-3",
        "no verdict from absence: what could not be judged is counted as not judged",
    ),
    row(
        "SUB-1",
        "the reference backend implements the contract; several nodes form one service",
    ),
    row(
        "SUB-2",
        "agents compute the answer from users' records, equal to an independent computation",
    ),
    row(
        "SUB-3",
        "agents, workflows by sufficiency, tools, plans, billing, compensation",
    ),
    row("SUB-4", "an OpenAI-compatible model or the built-in planner"),
    row("SUB-5", "a chat page served by the backend"),
    row(
        "ORIG-1",
        "every claim of the replaced suite and the tests that judge it here",
    ),
    row("ORIG-2", "the replaced runner's options and ours"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_and_stands_once() {
        for (index, row) in ROWS.iter().enumerate() {
            assert_eq!(Row::named(row.id), *row);
            assert!(
                ROWS[index + 1..].iter().all(|other| other.id != row.id),
                "{} stands twice",
                row.id
            );
        }
    }
}
