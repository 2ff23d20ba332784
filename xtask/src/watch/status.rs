//! What the watch knows, as Prometheus metrics and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use kingsguard_report::gate::{Answer, Gate};
use kingsguard_report::{ClauseSummary, ClauseVerdict, Figure};
use serde_json::json;

/// What one check found.
#[derive(Debug, Clone)]
pub struct Check {
    pub gate: Gate,
    pub clauses: Vec<ClauseSummary>,
    pub figures: Vec<Figure>,
    /// Without building.
    pub duration_ms: u64,
}

/// All checks so far.
#[derive(Debug)]
pub struct Status {
    every: Duration,
    last: Option<Check>,
    /// By answer, as in [`Answer::ALL`].
    answers: [u64; 3],
}

impl Status {
    pub fn new(every: Duration) -> Self {
        Self {
            every,
            last: None,
            answers: [0; 3],
        }
    }

    pub fn add(&mut self, check: Check) {
        for (count, answer) in self.answers.iter_mut().zip(Answer::ALL) {
            *count += u64::from(answer == check.gate.answer);
        }
        self.last = Some(check);
    }

    pub fn checks(&self) -> u64 {
        self.answers.iter().sum()
    }

    /// The answer now; before the first check nobody knows.
    fn answer(&self) -> Answer {
        self.last.as_ref().map_or(Answer::Unknown, |check| check.gate.answer)
    }

    /// `{answer, every_s, checks: {GO, NO-GO, UNKNOWN}, last: the gate's answer or null}`.
    pub fn json(&self) -> String {
        let checks: serde_json::Map<String, serde_json::Value> = Answer::ALL
            .iter()
            .zip(self.answers)
            .map(|(answer, count)| (answer.word().to_owned(), count.into()))
            .collect();
        let status = json!({
            "answer": self.answer(),
            "every_s": self.every.as_secs(),
            "checks": checks,
            "last": self.last.as_ref().map(|check| &check.gate),
        });
        format!("{status:#}\n")
    }

    /// The exposition format of Prometheus, version 0.0.4.
    pub fn metrics(&self) -> String {
        let mut text = String::new();
        let mut metric = |name: &str, kind: &str, help: &str, samples: &[(String, f64)]| {
            let _infallible = writeln!(
                text,
                "# HELP kingsguard_watch_{name} {help}\n# TYPE kingsguard_watch_{name} {kind}"
            );
            for (labels, value) in samples {
                let _infallible = writeln!(text, "kingsguard_watch_{name}{labels} {value}");
            }
        };
        let now = self.answer();
        let by_answer = |value: &dyn Fn(usize, Answer) -> f64| -> Vec<(String, f64)> {
            let answers = Answer::ALL.iter().enumerate();
            answers
                .map(|(place, answer)| (format!("{{answer=\"{answer}\"}}"), value(place, *answer)))
                .collect()
        };
        metric(
            "answer",
            "gauge",
            "1 for the answer of the last check, 0 for the others; UNKNOWN before the first one.",
            &by_answer(&|_, answer| f64::from(u8::from(answer == now))),
        );
        metric(
            "checks_total",
            "counter",
            "Checks by their answer.",
            &by_answer(&|place, _| self.answers[place] as f64),
        );
        let Some(last) = &self.last else { return text };
        let clauses: Vec<(String, f64)> = last
            .clauses
            .iter()
            .flat_map(|clause| {
                VERDICTS.iter().map(move |(verdict, word)| {
                    let labels = format!("{{clause=\"{}\",verdict=\"{word}\"}}", clause.clause);
                    (labels, f64::from(u8::from(clause.verdict == *verdict)))
                })
            })
            .collect();
        metric(
            "clause",
            "gauge",
            "1 for what the last check found of a clause of the contract, 0 for the others.",
            &clauses,
        );
        let figures: Vec<(String, f64)> = last
            .figures
            .iter()
            .map(|figure| {
                (
                    format!("{{id=\"{}\",unit=\"{}\"}}", figure.id, figure.unit),
                    figure.value,
                )
            })
            .collect();
        metric(
            "figure",
            "gauge",
            "What the last check measured, in its unit.",
            &figures,
        );
        let seconds = last.duration_ms as f64 / 1e3;
        metric(
            "check_duration_seconds",
            "gauge",
            "What the last check took.",
            &[(String::new(), seconds)],
        );
        let began = last.gate.asked.timestamp() as f64;
        metric(
            "last_check_timestamp_seconds",
            "gauge",
            "When the last check began.",
            &[(String::new(), began)],
        );
        text
    }
}

/// What a check can find of a clause that it is about.
const VERDICTS: [(ClauseVerdict, &str); 4] = [
    (ClauseVerdict::Passed, "passed"),
    (ClauseVerdict::Failed, "failed"),
    (ClauseVerdict::Warned, "warned"),
    (ClauseVerdict::NotJudged, "not_judged"),
];

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use kingsguard_report::Level;
    use kingsguard_report::gate::{GATE_VERSION, MustCounts};
    use pretty_assertions::assert_eq;

    use super::*;

    fn check(answer: Answer, verdict: ClauseVerdict) -> Check {
        Check {
            gate: Gate {
                version: GATE_VERSION,
                answer,
                reasons: Vec::new(),
                must: MustCounts::default(),
                rollback: Vec::new(),
                target: "http://127.0.0.1:1".to_owned(),
                revision: "abc".to_owned(),
                suite_runs: vec!["run".to_owned()],
                asked: DateTime::from_timestamp(1_700_000_000, 0).expect("it is in range"),
            },
            clauses: vec![ClauseSummary {
                clause: "SEQ-1".to_owned(),
                level: Level::Must,
                verdict,
                passed: 0,
                failed: 0,
                not_judged: 0,
                reasons: Vec::new(),
            }],
            figures: Vec::new(),
            duration_ms: 2_500,
        }
    }

    #[test]
    fn before_the_first_check_nobody_knows() {
        let status = Status::new(Duration::from_secs(60));
        let metrics = status.metrics();
        assert!(
            metrics.contains("kingsguard_watch_answer{answer=\"UNKNOWN\"} 1\n"),
            "{metrics}"
        );
        assert!(!metrics.contains("last_check"), "{metrics}");
        let json: serde_json::Value = serde_json::from_str(&status.json()).expect("it is JSON");
        assert_eq!(json["answer"], "UNKNOWN");
        assert_eq!(json["last"], serde_json::Value::Null);
    }

    #[test]
    fn the_last_check_is_told_and_all_are_counted() {
        let mut status = Status::new(Duration::from_secs(60));
        status.add(check(Answer::Go, ClauseVerdict::Passed));
        status.add(check(Answer::NoGo, ClauseVerdict::Failed));
        let metrics = status.metrics();
        for line in [
            "# TYPE kingsguard_watch_answer gauge",
            "kingsguard_watch_answer{answer=\"GO\"} 0",
            "kingsguard_watch_answer{answer=\"NO-GO\"} 1",
            "kingsguard_watch_checks_total{answer=\"GO\"} 1",
            "kingsguard_watch_checks_total{answer=\"NO-GO\"} 1",
            "kingsguard_watch_clause{clause=\"SEQ-1\",verdict=\"failed\"} 1",
            "kingsguard_watch_clause{clause=\"SEQ-1\",verdict=\"passed\"} 0",
            "kingsguard_watch_check_duration_seconds 2.5",
            "kingsguard_watch_last_check_timestamp_seconds 1700000000",
        ] {
            assert!(
                metrics.lines().any(|told| told == line),
                "{line} is missing in\n{metrics}"
            );
        }
        let json: serde_json::Value = serde_json::from_str(&status.json()).expect("it is JSON");
        assert_eq!(json["checks"], json!({"GO": 1, "NO-GO": 1, "UNKNOWN": 0}));
        assert_eq!(json["last"]["answer"], "NO-GO");
    }
}
