//! The page of a suite run: one file that needs nothing else, for people. It is made of the summary, the sabotage matrix and
//! the timelines that failed tests left; it holds no script, and a browser is told to load nothing.
//!
//! Everything is text to maud, which escapes it. Timelines are pictures, in which nothing can run.

mod charts;
mod clauses;
mod comparison;
mod failures;
mod figures;
mod sabotages;
mod test_list;
mod text;
mod timeline;
mod top;

use std::path::Path;

use kingsguard_report::Summary;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::sabotage::matrix::Matrix;
use crate::workspace::Workspace;

pub const FILE: &str = "index.html";

const STYLE: &str = include_str!("html/style.css");

/// Nothing is loaded from anywhere, and nothing runs.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// What a page is made of.
#[derive(Debug)]
pub struct Page<'a> {
    workspace: &'a Workspace,
    /// Where the page lies: links go from here.
    folder: &'a Path,
    summary: Option<&'a Summary>,
    matrix: Option<&'a Matrix>,
}

impl<'a> Page<'a> {
    pub fn new(
        workspace: &'a Workspace,
        folder: &'a Path,
        summary: Option<&'a Summary>,
        matrix: Option<&'a Matrix>,
    ) -> Self {
        Self {
            workspace,
            folder,
            summary,
            matrix,
        }
    }

    pub fn render(&self) -> String {
        let title = self.summary.map_or_else(
            || "Kingsguard · sabotage".to_owned(),
            |summary| format!("{} · Kingsguard {}", summary.verdict.word(), summary.suite_run),
        );
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content=(POLICY);
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    main {
                        @if let Some(summary) = self.summary { (self.of_run(summary)) }
                        @else { header.top { p.brand { "Kingsguard" } h1 { "Sabotage" } } }
                        @if let Some(matrix) = self.matrix { (sabotages::section(matrix, self.summary)) }
                        @if let Some(summary) = self.summary { (test_list::section(summary)) }
                    }
                }
            }
        };
        page.into_string()
    }

    fn of_run(&self, summary: &Summary) -> Markup {
        html! {
            (top::header(summary, self.matrix))
            (failures::section(self, summary))
            (clauses::section(summary))
            (top::categories(summary))
            (figures::section(summary))
            (test_list::slowest(summary))
            (comparison::section(summary))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::suite_run;
    use kingsguard_report::{ClauseVerdict, Failure, Outcome, Verdict, Violation};
    use pretty_assertions::assert_eq;

    kingsguard_report::covers!("RUN-7");

    fn page(summary: &Summary, folder: &Path) -> String {
        let workspace = Workspace {
            root: folder.to_owned(),
            target: folder.join("target"),
        };
        Page::new(&workspace, folder, Some(summary), None).render()
    }

    fn failed() -> Summary {
        let mut summary = suite_run("run", Verdict::Failed);
        summary.failures.push(Failure {
            test: "kingsguard-tests::e2e wire::one".to_owned(),
            category: "e2e".to_owned(),
            message: "found <script>alert('x')</script> & \"y\"".to_owned(),
            evidence: String::new(),
            repeat: "cargo xtask test e2e --seed 7".to_owned(),
        });
        summary.violations.push(Violation {
            clause: "SEQ-1".to_owned(),
            level: kingsguard_report::Level::Must,
            test: "kingsguard-tests::e2e wire::one".to_owned(),
            message: "a hole between 3 and 5".to_owned(),
            evidence: String::new(),
        });
        summary
    }

    #[test]
    fn what_tests_said_is_text_and_never_markup() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut summary = failed();
        summary.suite_run = "<img src=x>".to_owned();
        summary.clauses[0].reasons = vec!["\" onmouseover=\"x".to_owned()];
        let page = page(&summary, folder.path());
        for raw in ["<script", "<img src=x", "\" onmouseover=\"x"] {
            assert!(!page.contains(raw), "{raw} stands in the page");
        }
        assert!(page.contains("&lt;script&gt;alert"));
    }

    #[test]
    fn a_page_loads_nothing_from_anywhere() {
        let folder = tempfile::tempdir().expect("a folder");
        let page = page(&failed(), folder.path());
        for sign in ["src=\"http", "href=\"http", "url(", "@import", "src=\"//"] {
            assert!(!page.contains(sign), "{sign} stands in the page");
        }
    }

    #[test]
    fn every_word_of_every_verdict_stands_in_the_page() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut summary = failed();
        for (clause, verdict) in summary.clauses.iter_mut().zip(ClauseVerdict::ALL) {
            clause.verdict = verdict;
        }
        summary.categories[0].reason = Some("needs a stack of its own".to_owned());
        summary.contradictions.push("JUnit disagrees".to_owned());
        let page = page(&summary, folder.path());
        let words = ClauseVerdict::ALL.map(ClauseVerdict::word);
        let more = [
            Verdict::Failed.word(),
            Outcome::Invalid.word(),
            "a hole between 3 and 5",
            "cargo xtask test e2e --seed 7",
            "needs a stack of its own",
            "JUnit disagrees",
        ];
        for word in words.into_iter().chain(more) {
            assert!(page.contains(word), "`{word}` is not in the page");
        }
    }

    #[test]
    fn every_clause_of_the_contract_has_its_cell() {
        let folder = tempfile::tempdir().expect("a folder");
        let summary = suite_run("run", Verdict::Passed);
        let page = page(&summary, folder.path());
        let missing: Vec<&str> = summary
            .clauses
            .iter()
            .map(|clause| clause.clause.as_str())
            .filter(|id| !page.contains(&format!("popovertarget=\"clause-{id}\"")))
            .collect();
        assert_eq!(missing, [""; 0]);
    }

    #[test]
    fn a_failed_test_shows_its_timeline_where_it_left_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let evidence = folder.path().join("evidence");
        std::fs::create_dir_all(&evidence).expect("makeable");
        let mut summary = failed();
        summary.failures[0].evidence = evidence.display().to_string();
        assert!(!page(&summary, folder.path()).contains("data:image/svg+xml"));
        std::fs::write(evidence.join("timeline.svg"), "<svg><script/></svg>").expect("writable");
        let page = page(&summary, folder.path());
        assert!(page.contains("src=\"data:image/svg+xml;base64,PHN2Zz48c2NyaXB0Lz48L3N2Zz4=\""));
        assert!(page.contains("evidence/timeline.svg"), "a link to the picture itself");
    }
}
