//! The published JSON Schemas under `docs/schema/`, made from the types of `kingsguard-protocol`,
//! `kingsguard-report` and of the sabotage matrix.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

/// Where the schemas stand, from the workspace's root.
const FOLDER: &str = "docs/schema";

/// Writes every schema and removes what is no longer one; with `check` compares only, and fails where a file differs,
/// is missing or is one too many.
pub fn run(check: bool) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the runner's package has no folder above it")?;
    let folder = root.join(FOLDER);
    let wanted = wanted()?;
    let present = present(&folder)?;

    let changed: Vec<&String> = wanted
        .iter()
        .filter(|(name, text)| present.get(*name) != Some(*text))
        .map(|(name, _)| name)
        .collect();
    let surplus: Vec<&String> = present.keys().filter(|name| !wanted.contains_key(*name)).collect();
    if check {
        if changed.is_empty() && surplus.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = changed.into_iter().chain(surplus).map(String::as_str).collect();
        bail!(
            "{FOLDER} is not what the types say: {}; run `cargo xtask schema` and commit it",
            names.join(", ")
        );
    }
    fs::create_dir_all(&folder).with_context(|| format!("creating {FOLDER}"))?;
    for name in changed {
        fs::write(folder.join(name), &wanted[name]).with_context(|| format!("writing {FOLDER}/{name}"))?;
    }
    for name in surplus {
        fs::remove_file(folder.join(name)).with_context(|| format!("removing {FOLDER}/{name}"))?;
    }
    Ok(())
}

/// Each file's name and text.
fn wanted() -> Result<BTreeMap<String, String>> {
    let protocol = kingsguard_protocol::schema::schemas()
        .into_iter()
        .map(|named| (named.name, named.schema));
    let report = [
        ("recording", written::<kingsguard_report::recording::Line>()),
        ("gate", written::<kingsguard_report::gate::Gate>()),
        ("sabotage", written::<crate::sabotage::matrix::Matrix>()),
        ("summary", written::<kingsguard_report::Summary>()),
        ("test_record", written::<kingsguard_report::TestRecord>()),
    ];
    protocol
        .chain(report)
        .map(|(name, schema)| {
            let text = serde_json::to_string_pretty(&schema).with_context(|| format!("writing the schema {name}"))?;
            Ok((format!("{name}.json"), text + "\n"))
        })
        .collect()
}

/// The schema of a file as it is written.
fn written<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    settings.into_generator().into_root_schema_for::<T>()
}

fn present(folder: &Path) -> Result<BTreeMap<String, String>> {
    if !folder.exists() {
        return Ok(BTreeMap::new());
    }
    let mut present = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| format!("listing {FOLDER}"))? {
        let entry = entry.with_context(|| format!("listing {FOLDER}"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".json") {
            let text = fs::read_to_string(entry.path()).with_context(|| format!("reading {FOLDER}/{name}"))?;
            present.insert(name, text);
        }
    }
    Ok(present)
}
