//! The corpus of recordings: each gets the verdict that it must get, and each bad one becomes good by its single change; here and
//! by the program that replays, which has no service and nothing of this process's environment.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kingsguard_testkit::provider::replay_binary;
use kingsguard_testkit::recording::change;
use kingsguard_testkit::recording::stored::Stored;
use kingsguard_testkit::replay::{Replay, Verdict};
use pretty_assertions::assert_eq;

kingsguard_testkit::covers!("KIT-6");

/// The least number of recordings that each folder holds: they cannot vanish.
const FOLDERS: [(&str, usize); 3] = [("good", 6), ("bad", 20), ("version_1", 1)];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/recordings")
        .join(name)
}

fn files(name: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder(name)).expect("the folder is there");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("the folder is readable").path())
        .collect();
    files.sort();
    files
}

fn read(file: &Path) -> Result<Replay, String> {
    Stored::read_file(file)
        .map(Replay::of)
        .map_err(|error| error.to_string())
}

fn replay_of(text: &str) -> Result<Replay, String> {
    Stored::read_from(text.as_bytes())
        .map(Replay::of)
        .map_err(|error| error.to_string())
}

/// What is wrong with a good recording's place in the corpus.
fn fault_of_good(file: &Path) -> Result<(), String> {
    let replay = read(file)?;
    let expect = replay.stored().expect.as_ref().ok_or("it has no expectation")?;
    if !expect.clauses.is_empty() || expect.change.is_some() {
        return Err("a good recording expects nothing broken and no change".to_owned());
    }
    match replay.judgement().broken() {
        broken if !broken.is_empty() => Err(format!("{broken:?} are broken")),
        _ if replay.verdict != Verdict::Passes => Err(format!("its verdict is {}", replay.verdict)),
        _ => Ok(()),
    }
}

/// What is wrong with a bad recording's place in the corpus.
fn fault_of_bad(file: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let replay = replay_of(&text)?;
    let expect = replay.stored().expect.as_ref().ok_or("it has no expectation")?;
    let expected: BTreeSet<&str> = expect.clauses.iter().map(String::as_str).collect();
    let broken = replay.judgement().broken();
    if expected.is_empty() || broken != expected {
        return Err(format!("{broken:?} are broken, {expected:?} were expected"));
    }
    let change = expect
        .change
        .as_ref()
        .ok_or("it does not name the change that makes it good")?;
    let changed = change::apply(change, &text).map_err(|error| format!("its change is stale: {error:#}"))?;
    let mended = replay_of(&changed)?;
    match mended.judgement().broken() {
        broken if !broken.is_empty() => Err(format!("after its change {broken:?} are broken")),
        _ if replay.verdict != Verdict::StillFailed => Err(format!("its verdict is {}", replay.verdict)),
        _ if mended.verdict != Verdict::Fixed => Err(format!("after its change the verdict is {}", mended.verdict)),
        _ => Ok(()),
    }
}

fn faults(name: &str, fault: impl Fn(&Path) -> Result<(), String>) -> Vec<String> {
    let told = |file: PathBuf| fault(&file).err().map(|why| format!("{}: {why}", file.display()));
    files(name).into_iter().filter_map(told).collect()
}

#[test]
fn every_good_recording_of_the_corpus_passes() {
    assert_eq!(faults("good", fault_of_good), Vec::<String>::new());
}

#[test]
fn every_bad_recording_of_the_corpus_breaks_its_clauses_and_its_change_makes_it_good() {
    assert_eq!(faults("bad", fault_of_bad), Vec::<String>::new());
}

#[test]
fn recordings_of_version_1_are_still_read() {
    for file in files("version_1") {
        let replay = read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert_eq!((replay.stored().version, replay.verdict), (1, Verdict::Passes));
        assert!(replay.to_string().contains("AUTH-8  not judged"), "{replay}");
    }
}

#[test]
fn the_corpus_holds_what_it_held_and_nothing_else() {
    for (name, least) in FOLDERS {
        let files = files(name);
        assert!(
            files.len() >= least,
            "{name} holds {} recordings, at least {least} were there",
            files.len()
        );
        assert!(
            files
                .iter()
                .all(|file| file.extension().is_some_and(|end| end == "jsonl")),
            "{files:?}"
        );
    }
    let bad = files("bad");
    let clauses = bad.iter().filter_map(|file| read(file).ok()?.stored().expect.clone());
    let families: BTreeSet<String> = clauses
        .flat_map(|expect| expect.clauses)
        .filter_map(|clause| Some(clause.split_once('-')?.0.to_owned()))
        .collect();
    let missing: Vec<&str> = ["CON", "AUTH", "HSK", "EVT", "ORD", "SEQ", "ISO", "TIM", "SEC", "ERR"]
        .into_iter()
        .filter(|family| !families.contains(*family))
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
}

/// Runs the program as another machine without services would: with an empty environment.
fn replay(arguments: &[&Path]) -> Output {
    let binary = replay_binary().unwrap_or_else(|error| panic!("{error:#}"));
    let output = Command::new(binary).args(arguments).env_clear().output();
    output.expect("the program starts")
}

#[test]
fn a_failed_recording_gets_the_same_verdict_where_no_service_is() {
    for file in files("bad") {
        let here = read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let there = replay(&[&file]);
        assert_eq!(String::from_utf8_lossy(&there.stdout), here.to_string());
        assert_eq!(there.status.code(), Some(1));
        for violation in &here.judgement().violations {
            let said = here.to_string();
            assert!(said.starts_with("STILL FAILED: "), "{said}");
            assert!(
                said.contains(violation.clause.sentence) && said.contains(violation.clause.id),
                "{said}"
            );
        }
    }
}

#[test]
fn a_good_recording_ends_with_0_and_what_is_none_with_2() {
    let good = files("good");
    let arguments: Vec<&Path> = good.iter().map(PathBuf::as_path).collect();
    assert_eq!(replay(&arguments).status.code(), Some(0));
    let none = replay(&[Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))]);
    assert_eq!(none.status.code(), Some(2));
    let said = String::from_utf8_lossy(&none.stderr).into_owned();
    assert!(
        said.contains("Cargo.toml cannot be replayed: line 1 is no line of a recording"),
        "{said}"
    );
}
