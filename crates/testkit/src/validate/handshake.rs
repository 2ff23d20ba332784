//! HSK and AUTH-3: the order of a connection's first frames, what they say, and which sub-protocol was chosen.

use kingsguard_protocol::client::ClientType;

use super::Judgement;
use super::reading::{ConnectionReading, Frame, Lateness, Place, Reading};
use crate::recording::EndingKind;

/// HSK-1: both first frames come within this time of the upgrade.
const GREETING_WITHIN_US: u64 = 1_000_000;

/// What begins a sub-protocol that carries a token (AUTH-2).
const CARRIERS: [&str; 4] = ["jwt.", "jwt-auth.", "bearer.", "staging-auth."];

pub(super) fn judge(reading: &Reading<'_>, judgement: &mut Judgement) {
    for (index, connection) in reading.connections.iter().enumerate() {
        judge_protocol(connection, index, judgement);
        if let (Some(upgraded_us), None) = (connection.connection.upgraded_us, &reading.lacks.handshake) {
            judge_greeting(reading, connection, index, upgraded_us, judgement);
            judge_acknowledgement(connection, judgement);
            judge_order(connection, judgement);
            judge_deadline(reading, connection, index, upgraded_us, judgement);
        }
    }
}

/// AUTH-3.
fn judge_protocol(connection: &ConnectionReading<'_>, index: usize, judgement: &mut Judgement) {
    let Some(selected) = &connection.connection.selected_protocol else {
        return;
    };
    let offered = &connection.connection.offered_protocols;
    let carrier = offered
        .iter()
        .find(|offer| CARRIERS.iter().any(|prefix| offer.starts_with(prefix)));
    let came = if !offered.contains(selected) {
        "the backend chose a sub-protocol that was not offered"
    } else if carrier.is_some_and(|carrier| carrier != selected) {
        "the backend chose an offered sub-protocol that did not carry the token"
    } else {
        return;
    };
    judgement.blame(
        "AUTH-3",
        "the sub-protocol that carried the token, or none",
        came,
        [Place {
            connection: index,
            frame: 0,
        }],
    );
}

/// HSK-1: which frames come first, and when.
fn judge_greeting(
    reading: &Reading<'_>,
    connection: &ConnectionReading<'_>,
    index: usize,
    upgraded_us: u64,
    judgement: &mut Judgement,
) {
    let mut texts = connection.texts();
    for expected in ["connection_established", "handshake_response"] {
        match texts.next() {
            Some(frame) if frame.frame_type() == expected => {
                match reading.lateness(upgraded_us, frame.at_us(), GREETING_WITHIN_US) {
                    Lateness::InTime => {}
                    Lateness::Unclear(why) => judgement.cannot_judge("HSK-1", why),
                    Lateness::Late => {
                        let came = format!("it took {} ms", (frame.at_us() - upgraded_us) / 1_000);
                        let expected = format!("`{expected}` within 1 s of the upgrade");
                        judgement.blame("HSK-1", expected, came, [frame.place]);
                    }
                }
            }
            Some(frame) => {
                let came = format!("`{}` came", frame.frame_type());
                judgement.blame("HSK-1", format!("`{expected}` in its place"), came, [frame.place]);
                return;
            }
            None => {
                let place = Place {
                    connection: index,
                    frame: 0,
                };
                match reading.lateness(upgraded_us, connection.until_us, GREETING_WITHIN_US) {
                    Lateness::InTime => {
                        judgement.cannot_judge("HSK-1", format!("the connection ended before `{expected}` was due"));
                    }
                    Lateness::Unclear(why) => judgement.cannot_judge("HSK-1", why),
                    Lateness::Late => {
                        let expected = format!("`{expected}` within 1 s of the upgrade");
                        judgement.blame("HSK-1", expected, "it did not come", [place]);
                    }
                }
                return;
            }
        }
    }
}

/// Frames that may stand between an acknowledgement and its answer without being at fault: they were under way.
fn may_come_between(frame: &Frame<'_>, sent_before: &[&str]) -> bool {
    match frame.str("correlation_id") {
        Some(cause) if sent_before.contains(&cause) => true,
        _ => match frame.frame_type() {
            "server_shutdown" | "broadcast" | "typing_started" | "typing_stopped" => true,
            // It answers something that has no id, or nothing at all; errors.rs judges which.
            "error" => {
                let code = frame.str("error_code").unwrap_or_default();
                frame.str("correlation_id").is_none() && !matches!(code, "THREAD_NOT_FOUND" | "VALIDATION_ERROR")
            }
            "pong" | "heartbeat_ack" | "auth_completed" => true,
            _ => false,
        },
    }
}

/// HSK-2: the very next frame after the first acknowledgement, and what it says.
fn judge_acknowledgement(connection: &ConnectionReading<'_>, judgement: &mut Judgement) {
    let mut sent_before = Vec::new();
    let mut acknowledged: Option<&Frame<'_>> = None;
    let mut offered = None;
    for frame in &connection.frames {
        if !frame.is_received() {
            if frame.frame_type() == "handshake_acknowledged" && acknowledged.is_none() {
                acknowledged = Some(frame);
            } else if acknowledged.is_none() {
                sent_before.extend(frame.str("message_id"));
            }
            continue;
        }
        if frame.frame_type() == "handshake_response" {
            offered = frame.str("thread_id");
        }
        let Some(request) = acknowledged else { continue };
        if frame.json.is_none() || may_come_between(frame, &sent_before) {
            continue;
        }
        match frame.frame_type() {
            "handshake_complete" => {
                judge_complete(request, frame, offered, judgement);
                return;
            }
            // Refused: the client may acknowledge again.
            "error" => acknowledged = None,
            other => {
                let clause = if frame.is_event() { "HSK-3" } else { "HSK-2" };
                let came = format!("`{other}` came");
                let expected = "`handshake_complete` as the next frame after the acknowledgement";
                judgement.blame(clause, expected, came, [request.place, frame.place]);
                return;
            }
        }
    }
}

fn judge_complete(request: &Frame<'_>, answer: &Frame<'_>, offered: Option<&str>, judgement: &mut Judgement) {
    let positions = answer.positions();
    let resumed = request.resume_points();
    let chosen = request
        .sent_field("thread_id")
        .and_then(serde_json::Value::as_str)
        .or(offered);
    for thread in chosen.into_iter().chain(resumed.iter().map(|(thread, _, _)| *thread)) {
        if !positions.iter().any(|position| position.thread == thread) {
            let came = format!("{thread} is missing");
            judgement.blame(
                "HSK-2",
                "the position of every acknowledged thread",
                came,
                [request.place, answer.place],
            );
        }
    }
    for position in &positions {
        let is_sound = position.oldest_seq >= 1 && position.oldest_seq <= position.last_seq + 1;
        let empty_is_told = position.last_seq > 0 || position.oldest_seq == 1;
        if !is_sound || !empty_is_told {
            let came = format!("oldest_seq {} and last_seq {}", position.oldest_seq, position.last_seq);
            judgement.blame(
                "HSK-2",
                "oldest_seq 1 and last_seq 0 of an empty log, in order otherwise",
                came,
                [answer.place],
            );
        }
    }
}

/// HSK-3: nothing of a log before `handshake_complete`, and no work before it.
fn judge_order(connection: &ConnectionReading<'_>, judgement: &mut Judgement) {
    let mut too_early: Vec<(&str, Place)> = Vec::new();
    let mut acknowledged = false;
    let mut complete = false;
    for frame in &connection.frames {
        if !frame.is_received() {
            acknowledged |= frame.frame_type() == "handshake_acknowledged";
            let needs_handshake = ClientType::from_name(frame.frame_type()).is_some_and(needs_handshake);
            if !acknowledged && needs_handshake {
                too_early.extend(frame.str("message_id").map(|id| (id, frame.place)));
            }
            continue;
        }
        if frame.frame_type() == "handshake_complete" {
            complete = true;
        }
        if !complete && !acknowledged && frame.is_event() {
            let came = format!("`{}` came", frame.frame_type());
            judgement.blame("HSK-3", "no event before `handshake_complete`", came, [frame.place]);
        }
        let cause = frame.str("correlation_id").unwrap_or_default();
        if let (Some((_, place)), false) = (
            too_early.iter().find(|(id, _)| *id == cause),
            frame.frame_type() == "error" || frame.is_event(),
        ) {
            let came = format!("`{}` came", frame.frame_type());
            judgement.blame(
                "HSK-3",
                "HANDSHAKE_REQUIRED for a message before the handshake",
                came,
                [*place, frame.place],
            );
        }
    }
}

fn needs_handshake(kind: ClientType) -> bool {
    !matches!(
        kind,
        ClientType::HandshakeAcknowledged
            | ClientType::Ping
            | ClientType::Pong
            | ClientType::Heartbeat
            | ClientType::HeartbeatAck
            | ClientType::Auth
            | ClientType::Disconnect
            | ClientType::Batch
    )
}

/// HSK-4.
fn judge_deadline(
    reading: &Reading<'_>,
    connection: &ConnectionReading<'_>,
    index: usize,
    upgraded_us: u64,
    judgement: &mut Judgement,
) {
    /// The deadline is a timer of the backend's; half a second later it has surely passed here as well.
    const NOTICE_US: u64 = 500_000;
    let deadline_us = reading.recording.facts.handshake_deadline_ms * 1_000;
    let place = Place {
        connection: index,
        frame: 0,
    };
    let acknowledged = connection
        .sent()
        .any(|frame| frame.frame_type() == "handshake_acknowledged");
    let complete = connection
        .texts()
        .any(|frame| frame.frame_type() == "handshake_complete");
    let closed = match connection.connection.ending.as_ref().map(|ending| &ending.how) {
        Some(EndingKind::ClosedByBackend { code }) => *code,
        _ => None,
    };
    let open_us = connection.until_us.saturating_sub(upgraded_us);
    if closed == Some(4408) && complete {
        judgement.blame(
            "HSK-4",
            "no 4408 after the handshake",
            "the backend closed with it",
            [place],
        );
    } else if closed == Some(4408) && open_us + NOTICE_US < deadline_us {
        let came = format!("the backend closed after {} ms", open_us / 1_000);
        judgement.blame(
            "HSK-4",
            format!("{} ms for the acknowledgement", deadline_us / 1_000),
            came,
            [place],
        );
    } else if !acknowledged {
        match reading.lateness(upgraded_us, connection.until_us, deadline_us + NOTICE_US) {
            Lateness::InTime => {}
            Lateness::Unclear(why) => judgement.cannot_judge("HSK-4", why),
            Lateness::Late => {
                let came = format!("the connection was open for {} ms", open_us / 1_000);
                let expected = format!("close 4408 after {} ms without acknowledgement", deadline_us / 1_000);
                judgement.blame("HSK-4", expected, came, [place]);
            }
        }
    }
}
