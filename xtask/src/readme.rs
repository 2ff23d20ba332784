//! Generated parts of the README stand between two markers and are compared by `tidy`.

use anyhow::{Context as _, Result, bail};

/// A part: its name in the markers and what belongs there.
#[derive(Debug)]
pub struct Part {
    pub name: &'static str,
    pub text: String,
}

/// The text with all parts as they should be.
pub fn with_parts(readme: &str, parts: &[Part]) -> Result<String> {
    parts
        .iter()
        .try_fold(readme.to_owned(), |text, part| replace(&text, part))
}

fn replace(text: &str, part: &Part) -> Result<String> {
    let (begin, end) = (
        format!("<!-- {}: generated -->", part.name),
        format!("<!-- {}: end -->", part.name),
    );
    let (before, rest) = text
        .split_once(&begin)
        .with_context(|| format!("the README has no line {begin}"))?;
    let Some((_, after)) = rest.split_once(&end) else {
        bail!("the README has no line {end}");
    };
    Ok(format!("{before}{begin}\n\n{}\n\n{end}{after}", part.text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn what_stands_between_the_markers_is_replaced_and_nothing_else() {
        let part = Part {
            name: "x",
            text: "new\n".to_owned(),
        };
        let readme = "a\n<!-- x: generated -->\nold\n<!-- x: end -->\nb\n";
        let expected = "a\n<!-- x: generated -->\n\nnew\n\n<!-- x: end -->\nb\n";
        assert_eq!(with_parts(readme, &[part]).expect("it has the markers"), expected);
    }

    #[test]
    fn a_readme_without_its_markers_is_an_error() {
        assert!(
            with_parts(
                "a",
                &[Part {
                    name: "x",
                    text: String::new()
                }]
            )
            .is_err()
        );
    }
}
