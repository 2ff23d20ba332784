//! ISO-1: nobody receives anything of another user.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use super::Judgement;
use super::reading::Reading;

/// Fields of received frames whose values belong to the user who received them.
const OWN_FIELDS: [&str; 6] = [
    "user_id",
    "thread_id",
    "run_id",
    "event_id",
    "execution_id",
    "connection_id",
];

/// Shorter texts could be anything.
const OWN_BYTES_MIN: usize = 8;

pub(super) fn judge(reading: &Reading<'_>, judgement: &mut Judgement) {
    let users = &reading.recording.facts.users;
    let owners = owners(reading);
    for connection in &reading.connections {
        let Some(user) = connection.connection.user else {
            continue;
        };
        // Words of one's own that are quoted back show nothing.
        let mut said: BTreeSet<&str> = BTreeSet::new();
        let mut said_text = String::new();
        for frame in &connection.frames {
            let text = frame.text();
            if !frame.is_received() {
                said.extend(words(text));
                said_text.push_str(text);
                continue;
            }
            let id = words(text).find_map(|word| {
                let owner = *owners.get(word)?;
                (owner != user && !said.contains(word)).then_some((word, owner))
            });
            let foreign = id.or_else(|| {
                users
                    .iter()
                    .enumerate()
                    .filter(|(owner, _)| *owner != user)
                    .find_map(|(owner, facts)| {
                        let known = facts.canaries.iter().chain([&facts.email]).map(String::as_str);
                        known
                            .filter(|canary| canary.len() >= OWN_BYTES_MIN)
                            .find(|canary| text.contains(canary) && !said_text.contains(canary))
                            .map(|canary| (canary, owner))
                    })
            });
            if let Some((value, owner)) = foreign {
                let label = |index: usize| users.get(index).map_or("nobody", |user| user.label.as_str());
                let came = format!("`{value}` of {} came to {}", label(owner), label(user));
                judgement.blame("ISO-1", "frames of one's own only", came, [frame.place]);
            }
        }
    }
}

/// What ids consist of.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
        .filter(|word| word.len() >= OWN_BYTES_MIN)
}

/// Whose each id is: an account's by registration; any other's by the event that names its user, else by who received
/// it first.
fn owners(reading: &Reading<'_>) -> HashMap<String, usize> {
    let accounts: BTreeMap<&str, usize> = reading
        .recording
        .facts
        .users
        .iter()
        .enumerate()
        .filter_map(|(index, user)| Some((user.user_id.as_deref()?, index)))
        .collect();
    let mut received: Vec<(u64, usize, &Value)> = Vec::new();
    for connection in &reading.connections {
        let Some(user) = connection.connection.user else {
            continue;
        };
        for frame in connection.texts() {
            let Some(json) = &frame.json else { continue };
            let owner = frame
                .str("user_id")
                .and_then(|id| accounts.get(id))
                .copied()
                .unwrap_or(user);
            received.push((frame.at_us(), owner, json));
        }
    }
    received.sort_by_key(|(at_us, _, _)| *at_us);
    let mut owners: HashMap<String, usize> = accounts.iter().map(|(id, index)| ((*id).to_owned(), *index)).collect();
    for (_, owner, json) in received {
        claim(json, owner, &mut owners);
    }
    owners
}

fn claim(json: &Value, owner: usize, owners: &mut HashMap<String, usize>) {
    match json {
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    Value::String(text) if OWN_FIELDS.contains(&key.as_str()) && text.len() >= OWN_BYTES_MIN => {
                        owners.entry(text.clone()).or_insert(owner);
                    }
                    other => claim(other, owner, owners),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| claim(value, owner, owners)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
