//! `cargo xtask tidy`: what can be judged by reading the tree, in seconds and without a build.

mod houses;
mod inventory;
mod ledger;
mod original;
mod orphans;
mod profiles;
mod rust_source;
mod sabotages;
mod test_bodies;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::exit::Exit;
use crate::readme::{Part, with_parts};
use crate::workspace::Workspace;

pub use inventory::Inventory;
pub use ledger::{Covered, annotations};
use rust_source::RustSource;

/// A longer file is asking to be two.
const LINES_MAX: usize = 700;

/// What must never be committed. Written in halves, so that this file is not its own first fault.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("FIX", "ME"), "finish it or write an issue"),
    (concat!("to", "do!("), "finish it"),
    (concat!("unimpl", "emented!("), "finish it"),
    (concat!("/ro", "ot/"), "an address of one machine"),
    (concat!("/ho", "me/"), "an address of one machine"),
    (concat!("/wo", "rk/"), "an address of one machine"),
];

/// Something that is not as it should be, and where.
pub type Faults = Vec<String>;

pub fn run(workspace: &Workspace, write: bool) -> Result<Exit> {
    let began = Instant::now();
    let sources = rust_sources(workspace)?;
    let mut faults = Faults::new();
    check_readme(workspace, write, &mut faults)?;
    profiles::check(workspace, &mut faults)?;
    houses::check(workspace, &sources, &mut faults)?;
    inventory::check(workspace, &sources, write, &mut faults)?;
    let covered = ledger::check(workspace, &sources, write, &mut faults)?;
    original::check(workspace, &sources, &covered, write, &mut faults)?;
    test_bodies::check(&sources, &mut faults);
    orphans::check(&sources, &mut faults);
    for source in &sources {
        check_text(source, &mut faults);
    }
    for fault in &faults {
        println!("tidy: {fault}");
    }
    let tests: usize = sources.iter().map(|source| source.tests().len()).sum();
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "tidy: {} files, {tests} tests, {} faults, {seconds:.1} s",
        sources.len(),
        faults.len()
    );
    if faults.is_empty() {
        return Ok(Exit::Passed);
    }
    println!("  next: generated parts are made anew by cargo xtask tidy --write");
    Ok(Exit::Failed)
}

fn check_readme(workspace: &Workspace, write: bool, faults: &mut Faults) -> Result<()> {
    let path = workspace.root.join("README.md");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let fresh = with_parts(
        &text,
        &[
            Part {
                name: "categories",
                text: crate::list::markdown(),
            },
            Part {
                name: "exit codes",
                text: crate::list::exits_markdown(),
            },
        ],
    )?;
    if fresh == text {
        return Ok(());
    }
    if write {
        return fs::write(&path, fresh).with_context(|| format!("writing {}", path.display()));
    }
    faults.push("README.md: a generated table differs from xtask/src/category.rs or exit.rs".to_owned());
    Ok(())
}

/// Keeps a generated document as it should be: writes it, or tells that it differs from what it is made of.
fn keep(
    workspace: &Workspace,
    document: &str,
    fresh: &str,
    made_of: &str,
    write: bool,
    faults: &mut Faults,
) -> Result<()> {
    let path = workspace.root.join(document);
    if fs::read_to_string(&path).is_ok_and(|text| text == fresh) {
        return Ok(());
    }
    if write {
        return fs::write(&path, fresh).with_context(|| format!("writing {document}"));
    }
    faults.push(format!("{document} differs from {made_of}"));
    Ok(())
}

fn check_text(source: &RustSource, faults: &mut Faults) {
    let lines = source.text.lines().count();
    if lines > LINES_MAX {
        faults.push(format!(
            "{}: {lines} lines; more than {LINES_MAX} ask to be two files",
            source.path.display()
        ));
    }
    for (number, line) in source.text.lines().enumerate() {
        for (word, why) in FORBIDDEN {
            if line.contains(word) {
                faults.push(format!("{}:{}: `{word}`: {why}", source.path.display(), number + 1));
            }
        }
    }
}

/// Every Rust file of the workspace, with its path from the root.
fn rust_sources(workspace: &Workspace) -> Result<Vec<RustSource>> {
    let mut paths = Vec::new();
    for folder in ["crates", "tests", "xtask"] {
        walk(&workspace.root.join(folder), &mut paths)?;
    }
    paths.sort();
    let sources = paths.into_iter().map(|path| {
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(RustSource::new(
            path.strip_prefix(&workspace.root).unwrap_or(&path),
            text,
        ))
    });
    sources.collect()
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, paths)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    kingsguard_report::covers!("RUN-12");

    #[test]
    fn a_generated_document_is_written_or_found_to_differ() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let workspace = Workspace {
            root: folder.path().to_owned(),
            target: folder.path().join("target"),
        };
        let kept = |fresh: &str, write: bool| {
            let mut faults = Faults::new();
            keep(&workspace, "page.md", fresh, "its source", write, &mut faults).expect("the folder is ours");
            faults
        };
        assert_eq!(kept("old", false), ["page.md differs from its source"]);
        assert_eq!(kept("old", true), Faults::new());
        assert_eq!(kept("old", false), Faults::new());
        assert_eq!(kept("new", false), ["page.md differs from its source"]);
    }
}
