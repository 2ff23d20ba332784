//! Where this machine gets its Debian packages from: images are made from the same place.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::exit::{Exit, Stop};

/// A place of packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Such as `bookworm`.
    pub release: String,
    pub mirror: String,
    pub proxy: Option<String>,
}

pub fn of_this_machine() -> Result<Source> {
    let release = fs::read_to_string("/etc/os-release")
        .ok()
        .and_then(|text| debian_release(&text));
    let Some(release) = release else {
        return Err(Stop::new(
            Exit::Services,
            "stand-in images are made from Debian packages, and this is not a Debian system",
            "name images: KINGSGUARD_POSTGRES_IMAGE, KINGSGUARD_REDIS_IMAGE, KINGSGUARD_SERVER_IMAGE",
        )
        .into());
    };
    let mut texts = vec![fs::read_to_string("/etc/apt/sources.list").unwrap_or_default()];
    let entries = fs::read_dir(Path::new("/etc/apt/sources.list.d"))
        .into_iter()
        .flatten()
        .flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    texts.extend(paths.iter().filter_map(|path| fs::read_to_string(path).ok()));
    let Some(mirror) = texts.iter().find_map(|text| mirror_of(text, &release)) else {
        return Err(Stop::new(
            Exit::Services,
            format!("no package source for {release} is configured"),
            "add one to /etc/apt/sources.list.d",
        )
        .into());
    };
    Ok(Source {
        release,
        mirror,
        proxy: proxy(),
    })
}

fn debian_release(os_release: &str) -> Option<String> {
    let field = |name: &str| {
        let line = os_release
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
        Some(line.trim_matches('"').to_owned())
    };
    field("ID")
        .filter(|id| id == "debian")
        .and_then(|_| field("VERSION_CODENAME"))
}

/// The first address for this release, in either form that apt reads.
fn mirror_of(text: &str, release: &str) -> Option<String> {
    let one_line = text.lines().find_map(|line| {
        let words: Vec<&str> = line
            .split_whitespace()
            .filter(|word| !word.starts_with('[') && !word.ends_with(']'))
            .collect();
        match words.as_slice() {
            ["deb", mirror, suite, ..] if *suite == release => Some((*mirror).to_owned()),
            _ => None,
        }
    });
    one_line.or_else(|| {
        text.split("\n\n").find_map(|stanza| {
            let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name));
            let suites = field("Suites:")?;
            let fits = suites.split_whitespace().any(|suite| suite == release);
            fits.then(|| field("URIs:")?.split_whitespace().next().map(str::to_owned))?
        })
    })
}

fn proxy() -> Option<String> {
    let output = Command::new("apt-config")
        .args(["shell", "PROXY", "Acquire::http::Proxy"])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let proxy = text.trim().strip_prefix("PROXY='")?.trim_end_matches('\'').to_owned();
    (!proxy.is_empty()).then_some(proxy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn both_forms_of_apt_sources_are_read() {
        let stanzas = "Types: deb\nURIs: http://a.example/other\nSuites: nodistro\n\nTypes: deb\n# note\nURIs: http://m.example/debian\nSuites: bookworm bookworm-updates\n";
        let lines =
            "# deb http://old.example bookworm main\ndeb [signed-by=/x] http://m.example/debian bookworm main\n";
        for text in [stanzas, lines] {
            assert_eq!(mirror_of(text, "bookworm"), Some("http://m.example/debian".to_owned()));
            assert_eq!(mirror_of(text, "trixie"), None);
        }
    }

    #[test]
    fn only_debian_has_a_debian_release() {
        assert_eq!(
            debian_release("ID=debian\nVERSION_CODENAME=bookworm\n"),
            Some("bookworm".to_owned())
        );
        assert_eq!(debian_release("ID=ubuntu\nVERSION_CODENAME=noble\n"), None);
    }
}
