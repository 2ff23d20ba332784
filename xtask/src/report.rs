//! The files of a finished suite run: `summary.json`, `junit.xml` and the page, in a folder under `target/reports`.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context as _, Result};
use kingsguard_report::Summary;

use crate::exit::{Exit, Stop};
use crate::history::History;
use crate::html::Page;
use crate::sabotage::matrix::{self, Matrix};
use crate::workspace::Workspace;
use crate::{baseline, html, junit};

/// Writes all of them.
pub fn write(workspace: &Workspace, folder: &Path, summary: &Summary, junit: &mut quick_junit::Report) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let text = serde_json::to_string_pretty(summary).context("writing the summary")?;
    fs::write(folder.join("summary.json"), text + "\n").context("writing summary.json")?;
    junit::conclude(junit, summary);
    let file = File::create(folder.join("junit.xml")).context("creating junit.xml")?;
    junit.serialize(file).context("writing junit.xml")?;
    carry_sabotage(workspace, folder)?;
    write_page(workspace, folder)
}

/// The comparison with the baseline that was asked for, or else with the last passed run of the same selection.
pub fn compare(workspace: &Workspace, summary: &mut Summary, asked: Option<Summary>, history: &History) {
    let baseline = asked.map_or_else(|| baseline::last_passed(workspace, summary, history), Some);
    summary.comparison = baseline.map(|before| baseline::compare(&before, summary));
}

/// What is left to do for a run under `target/reports`: it becomes the newest one, and history.
pub fn publish(workspace: &Workspace, summary: &Summary, history: &mut History) -> Result<()> {
    link_latest(workspace, &summary.suite_run)?;
    if let Err(error) = history.add(summary) {
        eprintln!("remark: this run is not in the history: {error:#}");
    }
    Ok(())
}

/// `latest` holds the newest sabotage matrix, too; it names its own revision and time.
fn carry_sabotage(workspace: &Workspace, folder: &Path) -> Result<()> {
    let newest = workspace.reports().join("latest").join(matrix::FILE);
    let own = folder.join(matrix::FILE);
    if newest.exists() && !own.exists() {
        fs::copy(&newest, &own).with_context(|| format!("copying {}", newest.display()))?;
    }
    Ok(())
}

/// Makes the page of the reports in a folder: of a suite run, of sabotages, or of both.
pub fn write_page(workspace: &Workspace, folder: &Path) -> Result<()> {
    let has_summary = folder.join("summary.json").exists();
    let summary = has_summary.then(|| baseline::read(folder)).transpose()?;
    let matrix = Matrix::read(folder).unwrap_or_else(|error| {
        // It was made by another build; the run's own page does not depend on it.
        eprintln!("remark: the page shows no sabotages: {error:#}");
        None
    });
    let page = Page::new(workspace, folder, summary.as_ref(), matrix.as_ref());
    let path = folder.join(html::FILE);
    fs::write(&path, page.render()).with_context(|| format!("writing {}", path.display()))
}

/// `cargo xtask report html`: makes the page again.
pub fn again(workspace: &Workspace, run: Option<&Path>) -> Result<Exit> {
    let folder = run.map_or_else(|| workspace.reports().join("latest"), Path::to_path_buf);
    if !folder.join("summary.json").exists() && !folder.join(matrix::FILE).exists() {
        let why = format!("{} holds no summary.json", workspace.shown(&folder));
        return Err(Stop::usage(why, "cargo xtask history lists the runs of this tree").into());
    }
    write_page(workspace, &folder)?;
    println!("{}", workspace.shown(&folder.join(html::FILE)));
    Ok(Exit::Passed)
}

/// `target/reports/latest` points to the newest run.
pub fn link_latest(workspace: &Workspace, name: &str) -> Result<()> {
    let link = workspace.reports().join("latest");
    let fresh = workspace.reports().join(format!(".latest-{name}"));
    std::os::unix::fs::symlink(name, &fresh).context("linking the newest report")?;
    fs::rename(&fresh, &link).context("linking the newest report")
}
