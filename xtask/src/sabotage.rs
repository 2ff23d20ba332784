//! `cargo xtask sabotage`: the suite against backends that are wrong on purpose (PROOF-1). Each sabotage of the catalogue must
//! be caught, by a test that names the clause it breaks, and must really have happened.

pub mod catalogue;
pub mod matrix;

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use chrono::Utc;
use kingsguard_report::{TestOutcome, TestRecord};

use self::catalogue::{Catalogue, Means, Sabotage, TestName};
use self::matrix::{Matrix, Row};
use crate::category::{Build, SUITES};
use crate::cli::{SabotageArgs, Services};
use crate::exit::{Exit, Stop};
use crate::nextest::{build_command, sabotaged_build_command};
use crate::stack::{self, Stack};
use crate::tally::milliseconds;
use crate::workspace::Workspace;
use crate::{html, report, revision};

/// Sabotages that run at once, unless `--jobs` says otherwise; most of a test is waiting.
const JOBS: usize = 3;

pub fn run(workspace: &Workspace, args: &SabotageArgs) -> Result<Exit> {
    let catalogue = Catalogue::read(workspace)?;
    let chosen = choose(&catalogue, args)?;
    if args.list {
        for sabotage in &chosen {
            println!("{:<8} {:<36} {}", sabotage.clause, sabotage.id, sabotage.sentence);
        }
        return Ok(Exit::Passed);
    }
    let (started, began) = (Utc::now(), Instant::now());
    build(workspace, &chosen)?;
    stack::sweep(workspace, Build::Debug)?;
    let stack = Stack::up(workspace, Build::Debug, Services::Auto)?;
    let bench = Bench::prepare(workspace, &stack)?;
    let rows = bench.run_all(&chosen, args.jobs.unwrap_or(JOBS))?;
    stack.down()?;
    let matrix = Matrix {
        revision: revision::of(workspace),
        started,
        duration_ms: milliseconds(began.elapsed()),
        sabotages: rows,
    };
    let path = write(workspace, &matrix)?;
    print(&matrix, &path, workspace, began);
    Ok(if matrix.sabotages.iter().all(Row::is_proof) {
        Exit::Passed
    } else {
        Exit::Failed
    })
}

fn choose<'c>(catalogue: &'c Catalogue, args: &SabotageArgs) -> Result<Vec<&'c Sabotage>> {
    let all = &catalogue.sabotage;
    for clause in &args.clause {
        if !all
            .iter()
            .any(|sabotage| sabotage.clause == *clause || sabotage.id == *clause)
        {
            return Err(Stop::new(
                Exit::Nothing,
                format!("no sabotage breaks `{clause}`, and none is called so"),
                "cargo xtask sabotage --list shows all",
            )
            .into());
        }
    }
    let is_chosen = |sabotage: &&Sabotage| {
        args.clause.is_empty()
            || args
                .clause
                .iter()
                .any(|one| *one == sabotage.clause || *one == sabotage.id)
    };
    Ok(all.iter().filter(is_chosen).collect())
}

fn build(workspace: &Workspace, chosen: &[&Sabotage]) -> Result<()> {
    let planted = chosen
        .iter()
        .any(|sabotage| matches!(sabotage.means(), Ok(Means::Planted(_))));
    let mut commands = vec![build_command(workspace, Build::Debug)];
    commands.extend(planted.then(|| sabotaged_build_command(workspace)));
    for mut command in commands {
        let status = command.status().context("starting cargo build")?;
        ensure!(status.success(), "building the suites ended with {status}");
    }
    Ok(())
}

/// What all sabotages are run with.
struct Bench<'w> {
    workspace: &'w Workspace,
    stack: &'w Stack,
    folder: PathBuf,
    /// What nextest knows of the built binaries, so that it asks cargo nothing.
    binaries: PathBuf,
    packages: PathBuf,
}

impl<'w> Bench<'w> {
    fn prepare(workspace: &'w Workspace, stack: &'w Stack) -> Result<Self> {
        let folder = workspace.target.join("sabotage");
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("emptying {}", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let keep = |name: &str, arguments: &[&str]| -> Result<PathBuf> {
            let output = workspace.cargo().args(arguments).stderr(Stdio::inherit()).output();
            let output = output.with_context(|| format!("starting cargo {}", arguments.join(" ")))?;
            ensure!(
                output.status.success(),
                "cargo {} ended with {}",
                arguments.join(" "),
                output.status
            );
            let path = folder.join(name);
            fs::write(&path, output.stdout).with_context(|| format!("writing {}", path.display()))?;
            Ok(path)
        };
        let binaries = [
            "nextest",
            "list",
            "--workspace",
            "--list-type",
            "binaries-only",
            "--message-format",
            "json",
        ];
        let said = workspace
            .cargo()
            .arg("-vV")
            .output()
            .context("asking cargo for its host")?
            .stdout;
        let said = String::from_utf8_lossy(&said);
        let host = said.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host.context("cargo -vV names no host")?.to_owned();
        // Of this platform only: others would be fetched first.
        let packages = [
            "metadata",
            "--format-version",
            "1",
            "--offline",
            "--filter-platform",
            &host,
        ];
        Ok(Self {
            workspace,
            stack,
            binaries: keep("binaries.json", &binaries)?,
            packages: keep("packages.json", &packages)?,
            folder,
        })
    }

    fn run_all(&self, chosen: &[&Sabotage], jobs: usize) -> Result<Vec<Row>> {
        let waiting: Mutex<VecDeque<(usize, &Sabotage)>> = Mutex::new(chosen.iter().copied().enumerate().collect());
        let done = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..jobs.max(1) {
                scope.spawn(|| {
                    loop {
                        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                        let Some((place, sabotage)) = next else { return };
                        let began = Instant::now();
                        let row = self.run_one(sabotage);
                        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                        done.push((place, row));
                        let verdict = done
                            .last()
                            .and_then(|(_, row)| row.as_ref().ok())
                            .map_or("ERROR", Row::verdict);
                        eprintln!(
                            "{:>3}/{} {:<8} {:<40} {verdict} ({:.1} s)",
                            done.len(),
                            chosen.len(),
                            sabotage.clause,
                            sabotage.id,
                            began.elapsed().as_secs_f64()
                        );
                    }
                });
            }
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(place, _)| *place);
        done.into_iter().map(|(_, row)| row).collect()
    }

    fn run_one(&self, sabotage: &Sabotage) -> Result<Row> {
        let records = self.folder.join(&sabotage.id);
        fs::create_dir_all(&records).with_context(|| format!("making {}", records.display()))?;
        let mut row = Row {
            id: sabotage.id.clone(),
            clause: sabotage.clause.clone(),
            sentence: sabotage.sentence.clone(),
            caught: false,
            named: false,
            happened: 0,
            by: Vec::new(),
        };
        match sabotage.means()? {
            Means::Rules(rules) => {
                self.nextest(&sabotage.tests, &records, Some(rules.to_string()))?;
                for record in read(&records)? {
                    row.happened += record.sabotage_happened.unwrap_or(0);
                    if record.outcome == TestOutcome::Failed {
                        row.caught = true;
                        row.named |= record.blames(&sabotage.clause);
                        row.by.push(format!("{}::{}", record.category, record.test));
                    }
                }
            }
            // The test itself claims that the suite fails on the fault and names its clause.
            Means::Planted(test) => {
                let held = self.nextest(std::slice::from_ref(test), &records, None)?;
                (row.caught, row.named, row.happened) = (held, held, 1);
                row.by.push(test.to_string());
            }
        }
        Ok(row)
    }

    /// Whether all tests held.
    fn nextest(&self, tests: &[TestName], records: &Path, rules: Option<String>) -> Result<bool> {
        let filter: Vec<String> = tests
            .iter()
            .map(|test| {
                format!(
                    "(binary_id(={SUITES}::{}) & test(/^{}(::|$)/))",
                    test.category, test.path
                )
            })
            .collect();
        let mut command = self.workspace.cargo();
        command.args([
            "nextest",
            "run",
            "--no-fail-fast",
            "--failure-output",
            "never",
            "--show-progress",
            "none",
        ]);
        command.args([
            "--status-level",
            "none",
            "--final-status-level",
            "none",
            "--no-input-handler",
        ]);
        command.arg("--binaries-metadata").arg(&self.binaries);
        command.arg("--cargo-metadata").arg(&self.packages);
        command.args(["-E", &filter.join(" + ")]);
        command.env("KINGSGUARD_STACK", &self.stack.file);
        command.env("KINGSGUARD_RECORDS_DIR", records);
        command.envs(rules.map(|rules| ("KINGSGUARD_SABOTAGE_RULES", rules)));
        let output = command.stdin(Stdio::null()).output().context("starting nextest")?;
        match output.status.code() {
            Some(0) => Ok(true),
            Some(100) => Ok(false),
            _ => bail!(
                "nextest ended with {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            ),
        }
    }
}

fn read(records: &Path) -> Result<Vec<TestRecord>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(records).with_context(|| format!("listing {}", records.display()))? {
        let path = entry?.path();
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        found.push(serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))?);
    }
    Ok(found)
}

/// Beside the newest suite run, to which `latest` points; in a folder of its own where none was made yet.
fn write(workspace: &Workspace, matrix: &Matrix) -> Result<PathBuf> {
    let mut folder = workspace.reports().join("latest");
    if !folder.exists() {
        folder = workspace.reports().join("sabotage");
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        report::link_latest(workspace, "sabotage")?;
    }
    let path = folder.join(matrix::FILE);
    let text = serde_json::to_string_pretty(matrix)?;
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    report::write_page(workspace, &folder)?;
    Ok(path)
}

fn print(matrix: &Matrix, path: &Path, workspace: &Workspace, began: Instant) {
    println!(
        "\n{:<8} {:<40} {:<24} {:>8}  by",
        "clause", "sabotage", "verdict", "happened"
    );
    for row in &matrix.sabotages {
        let (clause, id, verdict) = (&row.clause, &row.id, row.verdict());
        println!(
            "{clause:<8} {id:<40} {verdict:<24} {:>8}  {}",
            row.happened,
            row.by.join(", ")
        );
    }
    let proved = matrix.sabotages.iter().filter(|row| row.is_proof()).count();
    println!("\nreport {}", workspace.shown(path));
    println!("page   {}", workspace.shown(&path.with_file_name(html::FILE)));
    println!(
        "{proved} of {} sabotages caught by the clause they break, {:.0} s",
        matrix.sabotages.len(),
        began.elapsed().as_secs_f64()
    );
}
