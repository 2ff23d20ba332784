//! `cargo xtask tidy`: what can be judged by reading the tree.

use std::fs;

use anyhow::{Context as _, Result};

use crate::exit::Exit;
use crate::readme::{Part, with_parts};
use crate::workspace::Workspace;

pub fn run(workspace: &Workspace, write: bool) -> Result<Exit> {
    let mut faults = Vec::new();
    check_readme(workspace, write, &mut faults)?;
    for fault in &faults {
        println!("tidy: {fault}");
    }
    if faults.is_empty() {
        println!("tidy: nothing to say");
        return Ok(Exit::Passed);
    }
    println!("  next: cargo xtask tidy --write makes the generated parts anew");
    Ok(Exit::Failed)
}

fn check_readme(workspace: &Workspace, write: bool, faults: &mut Vec<String>) -> Result<()> {
    let path = workspace.root.join("README.md");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let fresh = with_parts(
        &text,
        &[Part {
            name: "categories",
            text: crate::list::markdown(),
        }],
    )?;
    if fresh != text {
        if write {
            fs::write(&path, fresh).with_context(|| format!("writing {}", path.display()))?;
        } else {
            faults.push("README.md: the category table differs from xtask/src/category.rs".to_owned());
        }
    }
    Ok(())
}
