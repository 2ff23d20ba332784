//! The timeline of a failed test's connections, as a picture: in an `img` no script of it can run and nothing is loaded.

use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kingsguard_report::Failure;
use maud::{Markup, html};

use super::Page;

/// What a failed test leaves in its evidence.
const FILE: &str = "timeline.svg";

/// Larger pictures are linked and not shown, so that a page of many failures opens.
const TIMELINE_BYTES_MAX: u64 = 1 << 20;

/// Pictures that lie open; the others open when they are pressed.
pub fn timeline(page: &Page<'_>, failure: &Failure) -> Markup {
    if failure.evidence.is_empty() {
        return html! {};
    }
    let path = page.workspace.root.join(&failure.evidence).join(FILE);
    let Ok(size) = path.metadata().map(|metadata| metadata.len()) else {
        return html! {};
    };
    let picture = (size <= TIMELINE_BYTES_MAX)
        .then(|| std::fs::read(&path).ok())
        .flatten();
    html! {
        details.timeline open {
            summary { "Timeline" }
            p { (page.link(&path.display().to_string())) }
            @match picture {
                Some(bytes) => div.picture tabindex="0" {
                    img alt="what each connection sent and received, in time"
                        src=(format!("data:image/svg+xml;base64,{}", STANDARD.encode(bytes)));
                },
                None => p.dim { "It is too large to stand in this page." },
            }
        }
    }
}

impl Page<'_> {
    /// A path that can be followed where the page lies in the tree in which it was made.
    pub fn link(&self, path: &str) -> Markup {
        let whole = self.workspace.root.join(path);
        let shown = self.workspace.shown(&whole);
        match (whole.exists(), relative(&real(self.folder), &real(&whole))) {
            (true, Some(href)) => html! { a href=(href) { code { (shown) } } },
            (false, _) | (true, None) => html! { code { (shown) } },
        }
    }
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// From a folder to a path beside or below one of its parents; none where they share only the root.
fn relative(from: &Path, to: &Path) -> Option<String> {
    let (from, to): (Vec<Component<'_>>, Vec<Component<'_>>) = (from.components().collect(), to.components().collect());
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    if shared < 2 {
        return None;
    }
    let up = from[shared..].iter().map(|_| "..".to_owned());
    let down = to[shared..]
        .iter()
        .map(|part| encoded(&part.as_os_str().to_string_lossy()));
    Some(up.chain(down).collect::<Vec<_>>().join("/"))
}

/// A part of a path as it may stand in an address.
fn encoded(part: &str) -> String {
    let mut text = String::new();
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_link_goes_from_the_page_to_the_evidence_and_cannot_be_a_script() {
        let of = |from: &str, to: &str| relative(Path::new(from), Path::new(to));
        let link = of("/w/target/reports/r", "/w/target/evidence/r/a test");
        assert_eq!(link.as_deref(), Some("../../evidence/r/a%20test"));
        assert_eq!(of("/w/target", "/elsewhere/x"), None);
        assert_eq!(of("/w/a", "/w/a/javascript:x").as_deref(), Some("javascript%3Ax"));
    }
}
