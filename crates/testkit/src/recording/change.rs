//! The single change that makes a bad recording of the corpus good, done to the file's lines.

use anyhow::{Context as _, Result, bail, ensure};
use kingsguard_report::recording::Change;
use serde_json::Value;

/// The file's text after the change.
///
/// # Errors
/// The change does not fit the text: a line or a field is not there, or it changes nothing.
pub fn apply(change: &Change, text: &str) -> Result<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    match change {
        Change::Remove { line } => {
            lines.remove(index(*line, lines.len())?);
        }
        Change::Add { line, value } => lines.insert(index(*line, lines.len() + 1)?, value.to_string()),
        Change::Move { line, to } => {
            let moved = lines.remove(index(*line, lines.len())?);
            lines.insert(index(*to, lines.len() + 1)?, moved);
        }
        Change::Set { line, pointer, value } => edit(&mut lines, *line, pointer, Some(value))?,
        Change::Unset { line, pointer } => edit(&mut lines, *line, pointer, None)?,
    }
    let changed = lines.join("\n") + "\n";
    ensure!(changed != text, "it changes nothing");
    Ok(changed)
}

/// A line's place; the first line is the recording's own.
fn index(line: usize, lines: usize) -> Result<usize> {
    ensure!((2..=lines).contains(&line), "line {line} is not among 2 to {lines}");
    Ok(line - 1)
}

fn edit(lines: &mut [String], line: usize, pointer: &str, value: Option<&Value>) -> Result<()> {
    let line = &mut lines[index(line, lines.len())?];
    let mut json: Value = serde_json::from_str(line).context("reading the line")?;
    match pointer.strip_prefix("/frame") {
        None => set(&mut json, pointer, value)?,
        Some(inner) => {
            let text = json.pointer("/entry/bytes/text").and_then(Value::as_str);
            let mut frame: Value =
                serde_json::from_str(text.context("the frame is no text")?).context("reading the frame")?;
            set(&mut frame, inner, value)?;
            json["entry"]["bytes"]["text"] = frame.to_string().into();
        }
    }
    *line = json.to_string();
    Ok(())
}

fn set(json: &mut Value, pointer: &str, value: Option<&Value>) -> Result<()> {
    let (parent, field) = pointer.rsplit_once('/').context("a pointer begins with a slash")?;
    let parent = json
        .pointer_mut(parent)
        .with_context(|| format!("there is no {parent}"))?;
    match (parent, value) {
        (Value::Object(object), Some(value)) => {
            object.insert(field.to_owned(), value.clone());
        }
        (Value::Object(object), None) => {
            object.remove(field).with_context(|| format!("there is no {pointer}"))?;
        }
        (Value::Array(items), Some(value)) => {
            let item = field.parse().ok().and_then(|index: usize| items.get_mut(index));
            *item.with_context(|| format!("there is no {pointer}"))? = value.clone();
        }
        (Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_), _) => {
            bail!("{pointer} leads into nothing that has fields");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::json;

    use super::*;

    kingsguard_report::covers!("KIT-6");

    const TEXT: &str =
        "{\"line\":\"recording\"}\n{\"a\":{\"b\":1}}\n{\"entry\":{\"bytes\":{\"text\":\"{\\\"seq\\\":2}\"}}}\n";

    #[test]
    fn lines_and_fields_change_as_told() {
        let lines = |change| apply(&change, TEXT).map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
        let unset = lines(Change::Unset {
            line: 2,
            pointer: "/a/b".into(),
        })
        .expect("it fits");
        assert_eq!(unset[1], r#"{"a":{}}"#);
        let set = lines(Change::Set {
            line: 3,
            pointer: "/frame/seq".into(),
            value: json!(3),
        })
        .expect("it fits");
        assert_eq!(set[2], r#"{"entry":{"bytes":{"text":"{\"seq\":3}"}}}"#);
        assert_eq!(lines(Change::Remove { line: 2 }).expect("it fits").len(), 2);
        let moved = lines(Change::Move { line: 3, to: 2 }).expect("it fits");
        assert_eq!(moved[2], r#"{"a":{"b":1}}"#);
        let added = lines(Change::Add {
            line: 4,
            value: json!(7),
        })
        .expect("it fits");
        assert_eq!(added[3], "7");
    }

    #[test]
    fn a_change_that_does_not_fit_is_told() {
        for change in [
            Change::Remove { line: 1 },
            Change::Remove { line: 4 },
            Change::Set {
                line: 2,
                pointer: "/a/b".into(),
                value: json!(1),
            },
            Change::Unset {
                line: 2,
                pointer: "/a/c".into(),
            },
            Change::Set {
                line: 2,
                pointer: "/frame/x".into(),
                value: json!(1),
            },
        ] {
            assert!(apply(&change, TEXT).is_err(), "{change:?}");
        }
    }
}
