//! What is left of a test: nothing where it held, everything that explains it where it did not, and always its record.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use kingsguard_protocol::Timestamp;
use kingsguard_report::recording::Found;
use kingsguard_report::{Figure, Level, NotJudged, RecordedViolation, TestOutcome, TestRecord};

use crate::case::Case;
use crate::context::BodyFailure;
use crate::deployment::Deployment;
use crate::provider::processes::dump_database;
use crate::recording::Recording;
use crate::recording::credentials::Credentials;
use crate::recording::excerpt;
use crate::recording::stored::Stored;
use crate::timeline;
use crate::validate::{self, Judgement, Violation};

/// The recording in a test's folder.
const RECORDING: &str = "recording.jsonl";

/// Its picture.
const TIMELINE: &str = "timeline.svg";

/// A test keeps its evidence though it held, where this is set: so recordings of good runs are made.
const KEEP_VARIABLE: &str = "KINGSGUARD_KEEP_EVIDENCE";

/// More violations are in the record; a failure message tells so many.
const VIOLATIONS_TOLD: usize = 20;

/// Where a test's logs go while it runs, and what explains it afterwards.
#[derive(Debug)]
pub(crate) struct Evidence {
    folder: PathBuf,
    keep: Keep,
}

/// What a failed test leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Everything that explains it, and its record.
    Evidence,
    /// Its record: somebody counts who notices that the backend was made wrong.
    Record,
    /// Nothing but the record of a proof that held: it failed on purpose.
    Nothing,
}

/// What came of a test.
#[derive(Debug)]
pub(crate) struct Finding<'a> {
    pub(crate) case: &'a Case,
    pub(crate) seed: u64,
    pub(crate) started: Timestamp,
    pub(crate) duration: Duration,
    pub(crate) body_failure: Option<BodyFailure>,
    pub(crate) recording: &'a Recording,
    pub(crate) judgement: Judgement,
    pub(crate) checks: u64,
    pub(crate) never_happened: Vec<String>,
    /// What broke a clause and stands in no frame.
    pub(crate) beyond_frames: Vec<String>,
    pub(crate) sabotage_happened: Option<u64>,
    pub(crate) figures: Vec<Figure>,
}

impl Finding<'_> {
    /// What a replay compares with.
    fn found(&self) -> Found {
        let credentials = Credentials::of(&self.recording.facts);
        let from_frames = validate::judge(self.recording);
        let mut violations: Vec<RecordedViolation> = from_frames.violations.iter().map(Violation::record).collect();
        for violation in &mut violations {
            for text in [&mut violation.message, &mut violation.expected, &mut violation.came] {
                *text = credentials.hide(text);
            }
        }
        let claims = self.body_failure.iter().map(ToString::to_string);
        let claims = claims
            .chain(self.beyond_frames.iter().cloned())
            .chain(self.never_happened.iter().cloned());
        Found {
            clauses: self.case.clauses.iter().map(|clause| clause.id.to_owned()).collect(),
            violations,
            not_judged: self.judgement.recorded_not_judged(self.case.clauses),
            claims: claims.map(|claim| credentials.hide(&claim)).collect(),
            repeat: self.case.repeat_command(self.seed),
        }
    }
}

/// A violation with the frames at both ends of the broken rule.
fn explained(violation: &Violation, recording: &Recording) -> String {
    let mut text = violation.to_string();
    for line in excerpt::short(recording, &excerpt::ends(recording, &violation.frames)) {
        write!(text, "\n    {line}").expect("memory takes it");
    }
    text
}

impl Evidence {
    pub(crate) fn prepare(case: &Case, seed: u64, keep: Keep) -> Self {
        let unique = format!("{}.{}", case.file_stem(), std::process::id());
        eprintln!("seed {seed}; repeat: {}", case.repeat_command(seed));
        Self {
            folder: evidence_folder().join(unique),
            keep,
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Judges, cleans up or keeps, writes the record; says why the test failed, if it did.
    pub(crate) async fn conclude(&self, mut finding: Finding<'_>, deployment: Option<Deployment>) -> Option<String> {
        let mut troubles = Vec::new();
        let mut deployment = deployment;
        if let Some(deployment) = &mut deployment {
            if let Err(error) = deployment.end().await {
                troubles.push(format!("ending the backend: {error:#}"));
            }
            self.look_for_secrets_in_logs(&mut finding);
        }
        let must = finding.judgement.recorded(Level::Must);
        let not_judged = match &finding.body_failure {
            Some(BodyFailure::NotJudged(why)) => Some(why.clone()),
            Some(BodyFailure::Failed(_) | BodyFailure::Invalid(_)) | None => None,
        };
        let failure = finding.body_failure.iter().filter(|_| not_judged.is_none());
        let mut reasons: Vec<String> = failure.map(ToString::to_string).collect();
        let gating = finding
            .judgement
            .violations
            .iter()
            .filter(|one| one.level == Level::Must);
        reasons.extend(
            gating
                .take(VIOLATIONS_TOLD)
                .map(|one| explained(one, finding.recording)),
        );
        reasons.extend(finding.never_happened.iter().cloned());
        if finding.judgement.frames_judged == 0 && finding.checks == 0 && not_judged.is_none() {
            reasons.push("the test judged nothing: no frame was captured and no claim was checked".to_owned());
        }
        let explains = !reasons.is_empty() && self.keep == Keep::Evidence;
        let kept = if !explains && std::env::var_os(KEEP_VARIABLE).is_none() {
            self.clean_up(deployment, &mut troubles).await;
            None
        } else {
            match self.keep(&finding, deployment).await {
                Ok(()) => {}
                Err(error) => troubles.push(format!("keeping evidence: {error:#}")),
            }
            Some(self.folder.display().to_string())
        };
        reasons.extend(troubles);
        for warning in finding
            .judgement
            .violations
            .iter()
            .filter(|one| one.level == Level::Should)
        {
            eprintln!("warning: {warning}");
        }
        let mut record = TestRecord {
            test: finding.case.test.clone(),
            category: finding.case.category.clone(),
            clauses: finding.case.clauses.iter().map(|clause| clause.id.to_owned()).collect(),
            outcome: match &finding.body_failure {
                None if reasons.is_empty() => TestOutcome::Passed,
                Some(BodyFailure::NotJudged(_)) if reasons.is_empty() => TestOutcome::NotJudged,
                // What broke beside it is a finding all the same.
                Some(BodyFailure::Invalid(_)) if reasons.len() == 1 => TestOutcome::Invalid,
                None | Some(_) => TestOutcome::Failed,
            },
            message: reasons
                .first()
                .map(|reason| reason.lines().next().unwrap_or_default().to_owned()),
            violations: must,
            warned: finding.judgement.recorded(Level::Should),
            not_judged: Vec::new(),
            figures: finding.figures.clone(),
            frames_judged: finding.judgement.frames_judged,
            checks: finding.checks,
            evidence: kept.clone(),
            repeat: finding.case.repeat_command(finding.seed),
            sabotage_happened: finding.sabotage_happened,
            seed: finding.seed,
            started: finding.started.to_string(),
            duration_ms: finding.duration.as_millis() as u64,
        };
        record.not_judged = finding.judgement.recorded_not_judged(finding.case.clauses);
        if let (TestOutcome::NotJudged, Some(why)) = (record.outcome, not_judged) {
            eprintln!("NOT JUDGED: {why}");
            record
                .not_judged
                .extend(finding.case.clauses.iter().map(|clause| NotJudged {
                    clause: clause.id.to_owned(),
                    reason: why.clone(),
                    claimed: true,
                }));
            record.message = Some(why);
        }
        if self.keep == Keep::Nothing && !reasons.is_empty() {
            // The proof held because the test failed: what it broke on purpose is no finding about the target.
            record.outcome = TestOutcome::Passed;
            (record.message, record.violations, record.warned) = (None, Vec::new(), Vec::new());
        }
        if let Err(error) = write_record(&record) {
            reasons.push(format!("writing the test's record: {error:#}"));
        }
        if reasons.is_empty() {
            return None;
        }
        let about: Vec<&str> = finding.case.clauses.iter().map(|clause| clause.id).collect();
        let mut text = format!("{} failed; it is about {}\n", finding.case.test, about.join(", "));
        for reason in &reasons {
            writeln!(text, "  {reason}").expect("memory takes it");
        }
        if finding.body_failure.is_some() {
            for clause in finding.case.clauses {
                writeln!(text, "  {} says: {}", clause.id, clause.sentence).expect("memory takes it");
            }
        }
        if let Some(folder) = kept {
            writeln!(text, "  evidence: {folder}").expect("memory takes it");
            writeln!(text, "  replay: cargo xtask replay {folder}/{RECORDING}").expect("memory takes it");
        }
        write!(text, "  repeat: {}", record.repeat).expect("memory takes it");
        Some(Credentials::of(&finding.recording.facts).hide(&text))
    }

    /// AUTH-8: a credential in a log line is as bad as one in a frame.
    fn look_for_secrets_in_logs(&self, finding: &mut Finding<'_>) {
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let Ok(bytes) = std::fs::read(entry.path()) else {
                continue;
            };
            let text = String::from_utf8_lossy(&bytes);
            let leaked = finding
                .recording
                .facts
                .secrets
                .iter()
                .any(|secret| secret.len() >= 8 && text.contains(secret.as_str()));
            if leaked {
                let came = format!("{} holds one", entry.file_name().to_string_lossy());
                finding
                    .judgement
                    .blame("AUTH-8", "no credential in a log line", &came, []);
                finding
                    .beyond_frames
                    .push(format!("AUTH-8: no credential in a log line, but {came}"));
            }
        }
    }

    async fn clean_up(&self, deployment: Option<Deployment>, troubles: &mut Vec<String>) {
        if let Some(deployment) = deployment
            && let Err(error) = deployment.forget().await
        {
            troubles.push(format!("cleaning up: {error:#}"));
        }
        if self.folder.exists()
            && let Err(error) = std::fs::remove_dir_all(&self.folder)
        {
            troubles.push(format!("removing {}: {error}", self.folder.display()));
        }
    }

    async fn keep(&self, finding: &Finding<'_>, deployment: Option<Deployment>) -> Result<()> {
        std::fs::create_dir_all(&self.folder).with_context(|| format!("making {}", self.folder.display()))?;
        let stored = Stored {
            found: Some(finding.found()),
            ..Stored::of(finding.recording.clone())
        };
        let path = self.folder.join(RECORDING);
        let file = std::fs::File::create(&path).with_context(|| format!("making {}", path.display()))?;
        stored
            .write_to(std::io::BufWriter::new(file))
            .context("writing the recording")?;
        let path = self.folder.join(TIMELINE);
        let drawn = timeline::svg(&finding.recording.without_credentials(), &finding.judgement);
        std::fs::write(&path, drawn).with_context(|| format!("writing {}", path.display()))?;
        let mut text = format!(
            "test: {}\nseed: {}\nrepeat: {}\nstarted: {}\n",
            finding.case.test,
            finding.seed,
            finding.case.repeat_command(finding.seed),
            finding.started
        );
        if let Some(deployment) = &deployment {
            writeln!(text, "database and Redis prefix: {}", deployment.name()).expect("memory takes it");
            match dump_database(&deployment.database_url(), &self.folder.join("database.sql")).await {
                Ok(()) => {}
                Err(error) => writeln!(text, "database was not dumped: {error:#}").expect("memory takes it"),
            }
        }
        if let Some(failure) = &finding.body_failure {
            writeln!(text, "\n{failure}").expect("memory takes it");
        }
        for violation in &finding.judgement.violations {
            writeln!(text, "\n{violation}").expect("memory takes it");
        }
        for (clause, reason) in &finding.judgement.not_judged {
            writeln!(text, "\n{clause} not judged: {reason}").expect("memory takes it");
        }
        let text = Credentials::of(&finding.recording.facts).hide(&text);
        std::fs::write(self.folder.join("finding.txt"), text).context("writing the finding")
    }
}

/// `$KINGSGUARD_EVIDENCE_DIR`, or `target/evidence/<suite run>`.
fn evidence_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("KINGSGUARD_EVIDENCE_DIR").filter(|folder| !folder.is_empty()) {
        return PathBuf::from(folder);
    }
    let suite_run = std::env::var("KINGSGUARD_SUITE_RUN")
        .ok()
        .filter(|name| !name.is_empty());
    target_folder()
        .join("evidence")
        .join(suite_run.unwrap_or_else(|| "alone".to_owned()))
}

/// The `target` folder that this test binary lies in, or one in the present folder.
fn target_folder() -> PathBuf {
    std::env::current_exe()
        .ok()
        .and_then(|exe| {
            exe.ancestors()
                .find(|folder| folder.join("CACHEDIR.TAG").is_file())
                .map(Path::to_path_buf)
        })
        .unwrap_or_else(|| PathBuf::from("target"))
}

fn write_record(record: &TestRecord) -> Result<()> {
    let Some(folder) = std::env::var_os("KINGSGUARD_RECORDS_DIR").filter(|folder| !folder.is_empty()) else {
        return Ok(());
    };
    let folder = PathBuf::from(folder);
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let path = folder.join(record.file_name(std::process::id()));
    let text = serde_json::to_string_pretty(record).context("writing JSON")?;
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}
