//! Every file of Rust is part of a crate: one that no `mod` names is compiled by nobody, and its tests are gone in silence.

use std::path::{Path, PathBuf};

use super::Faults;
use super::rust_source::RustSource;

/// Files that begin a crate, wherever they lie.
const ROOTS: [&str; 3] = ["main.rs", "lib.rs", "build.rs"];

pub fn check(sources: &[RustSource], faults: &mut Faults) {
    for source in sources.iter().filter(|source| !is_root(&source.path)) {
        let Some(name) = source.path.file_stem().and_then(|stem| stem.to_str()) else {
            continue;
        };
        let parents = parents(&source.path);
        let named = sources
            .iter()
            .filter(|other| parents.contains(&other.path))
            .any(|parent| names(&parent.code, name));
        if !named {
            let place = source.path.display();
            faults.push(format!("{place}: no `mod {name};` names it, so nobody compiles it"));
        }
    }
}

/// Whether Cargo itself finds the file: a crate's root, a binary of its own, an integration test.
fn is_root(path: &Path) -> bool {
    let folder = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    let is_named_as_one = path
        .file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| ROOTS.contains(&name));
    let of_a_crate = path.starts_with("crates") && path.components().count() == 4;
    is_named_as_one || folder == Some("bin") || (of_a_crate && folder == Some("tests"))
}

/// The files that may name a file: that of its folder, or the root beside it.
fn parents(path: &Path) -> Vec<PathBuf> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let beside = ROOTS.iter().map(|root| folder.join(root));
    beside.chain([folder.with_extension("rs")]).collect()
}

fn names(code: &str, name: &str) -> bool {
    let naming = format!("mod {name};");
    code.lines().any(|line| line.trim_end().ends_with(&naming))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn orphans(files: &[(&str, &str)]) -> usize {
        let sources: Vec<RustSource> = files
            .iter()
            .map(|(path, text)| RustSource::new(Path::new(path), (*text).to_owned()))
            .collect();
        let mut faults = Faults::new();
        check(&sources, &mut faults);
        faults.len()
    }

    #[test]
    fn a_file_that_no_mod_names_is_a_fault() {
        let named = [
            ("tests/e2e/main.rs", "mod wire;"),
            ("tests/e2e/wire.rs", "pub mod isolation;"),
            ("tests/e2e/wire/isolation.rs", ""),
            ("crates/x/src/bin/tool.rs", ""),
            ("crates/x/tests/kit.rs", ""),
        ];
        assert_eq!(orphans(&named), 0);
        let unnamed = [
            ("tests/e2e/main.rs", "mod wire;"),
            ("tests/e2e/wire.rs", "// mod isolation;"),
            ("tests/e2e/wire/isolation.rs", ""),
        ];
        assert_eq!(orphans(&unnamed), 1);
    }
}
