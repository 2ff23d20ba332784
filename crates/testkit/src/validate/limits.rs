//! LIM-1: the limits are stated, not below the contract's, and none is enforced before it is reached.

use std::collections::BTreeMap;

use kingsguard_protocol::client::ClientType;

use super::Judgement;
use super::reading::Reading;

/// What the contract demands at least, by field.
const LEAST: [(&str, u64); 11] = [
    ("message_bytes_max", 5 * 1024 * 1024),
    ("content_chars_max", 8_000),
    ("connections_per_user_max", 10),
    ("connections_per_address_max", 1),
    ("messages_per_minute_max", 60),
    ("messages_burst_max", 20),
    ("frames_per_second_max", 100),
    ("threads_per_user_max", 1),
    ("queue_frames_max", 1),
    ("queue_bytes_max", 1),
    ("logins_per_minute_max", 1),
];

pub(super) fn judge(reading: &Reading<'_>, judgement: &mut Judgement) {
    for connection in &reading.connections {
        for frame in connection
            .texts()
            .filter(|frame| frame.frame_type() == "connection_established")
        {
            let limits = frame.json.as_ref().and_then(|json| json.get("limits"));
            for (field, least) in LEAST {
                let stated = limits
                    .and_then(|limits| limits.get(field))
                    .and_then(serde_json::Value::as_u64);
                let setting = format!("KINGSGUARD_{}", field.to_uppercase());
                let least = if reading.recording.facts.settings.contains(&setting) {
                    0
                } else {
                    least
                };
                if stated.is_none_or(|stated| stated < least) {
                    let came = stated.map_or_else(|| "it is not stated".to_owned(), |stated| format!("it is {stated}"));
                    judgement.blame(
                        "LIM-1",
                        format!("`limits.{field}` of at least {least}"),
                        came,
                        [frame.place],
                    );
                }
            }
        }
    }
    judge_early_refusals(reading, judgement);
}

/// RATE_LIMITED for a run-starting message while the user, in the whole test, has not sent more of them than his burst.
fn judge_early_refusals(reading: &Reading<'_>, judgement: &mut Judgement) {
    let mut bursts: BTreeMap<usize, u64> = BTreeMap::new();
    let mut starting: BTreeMap<usize, Vec<(u64, &str)>> = BTreeMap::new();
    for connection in &reading.connections {
        let Some(user) = connection.connection.user else {
            continue;
        };
        for frame in connection
            .texts()
            .filter(|frame| frame.frame_type() == "connection_established")
        {
            let burst = frame
                .json
                .as_ref()
                .and_then(|json| json.pointer("/limits/messages_burst_max")?.as_u64());
            bursts.extend(burst.map(|burst| (user, burst)));
        }
        for frame in connection.sent() {
            let kind = ClientType::from_name(frame.frame_type());
            if matches!(
                kind,
                Some(ClientType::UserMessage | ClientType::StartAgent | ClientType::ExampleMessage)
            ) {
                starting
                    .entry(user)
                    .or_default()
                    .push((frame.at_us(), frame.str("message_id").unwrap_or_default()));
            }
        }
    }
    for connection in &reading.connections {
        let Some(user) = connection.connection.user else {
            continue;
        };
        let (Some(burst), Some(sent)) = (bursts.get(&user), starting.get(&user)) else {
            continue;
        };
        for frame in connection
            .texts()
            .filter(|frame| frame.str("error_code") == Some("RATE_LIMITED"))
        {
            let cause = frame.str("correlation_id").unwrap_or_default();
            let is_starting = sent.iter().any(|(_, id)| !id.is_empty() && *id == cause);
            let before = sent.iter().filter(|(at_us, _)| *at_us <= frame.at_us()).count() as u64;
            if is_starting && before <= *burst {
                let came = format!("one is refused after {before}");
                judgement.blame("LIM-1", format!("{burst} messages at once"), came, [frame.place]);
            }
        }
    }
}
