//! The end of a suite run: verdict, summary, reports, history.

use anyhow::Result;
use kingsguard_report::Summary;
use kingsguard_report::summary::SUMMARY_VERSION;

use super::{SuiteRun, not_run};
use crate::exit::Exit;
use crate::tally::{self, milliseconds};
use crate::verdict::{Answer, judge};
use crate::{console, machine, report, revision, signals, tidy};

impl SuiteRun<'_> {
    pub(super) fn conclude(mut self) -> Result<Exit> {
        self.facts.executed = self.tally.executed();
        self.facts.failed = self.tally.failed();
        self.facts.invalid = self.tally.invalid();
        if signals::seen() > 0 {
            self.facts.interrupted = true;
        }
        self.refuse_empty_wish();
        let answer = judge(&self.facts);
        let mut summary = self.summary(&answer);
        not_run::explain(&mut summary, &tidy::annotations(self.workspace)?);
        report::compare(self.workspace, &mut summary, self.baseline.take(), &self.history);
        report::write(self.workspace, &self.folder, &summary, &mut self.junit)?;
        report::publish(self.workspace, &summary, &mut self.history)?;
        console::print(self.workspace, &summary, &self.folder);
        Ok(answer.exit)
    }

    fn summary(&self, answer: &Answer) -> Summary {
        let tests = self.tally.tests();
        Summary {
            version: SUMMARY_VERSION,
            verdict: answer.verdict,
            exit_code: answer.exit.code(),
            reason: answer.reason.clone(),
            contradictions: self.facts.contradictions.clone(),
            over_budget: self.facts.over_budget.clone(),
            suite_run: self.name.clone(),
            selection: self.plan.asked.clone(),
            pattern: self.args.pattern.clone(),
            shard: self.args.shard.clone(),
            merged_from: Vec::new(),
            repeat: self.args.repeat.unwrap_or(self.plan.repeat),
            machine: machine::this(),
            revision: revision::of(self.workspace),
            seed: self.seed,
            provider: self.provider.clone(),
            target: self.environment.target.clone().unwrap_or_else(|| "own".to_owned()),
            environment: self.args.env.clone(),
            started: self.started,
            duration_ms: milliseconds(self.clock.elapsed()),
            build_ms: milliseconds(self.build_time),
            categories: self.tally.categories(),
            clauses: self.tally.clauses(),
            violations: self.tally.sorted_violations(),
            figures: self.tally.figures.clone(),
            failures: self.tally.failures.clone(),
            flaky: tally::flaky(&tests),
            slowest: tally::slowest(&tests),
            tests,
            comparison: None,
        }
    }

    /// A category that was asked for by its name must have executed something, whatever its dependencies did.
    fn refuse_empty_wish(&mut self) {
        if self.args.shard.is_some() || self.facts.failed > 0 || self.facts.services_missing.is_some() {
            return;
        }
        let empty: Vec<&String> = self
            .plan
            .asked
            .iter()
            .filter(|name| crate::category::category(name).is_some())
            .collect();
        let empty: Vec<&str> = empty
            .into_iter()
            .map(String::as_str)
            .filter(|name| self.tally.executed_of(name) == 0)
            .collect();
        if !empty.is_empty() {
            eprintln!("no test of {} was executed", empty.join(", "));
            self.facts.executed = 0;
        }
    }
}
