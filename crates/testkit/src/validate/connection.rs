//! CON and AUTH-6: the WebSocket itself, its heartbeat, and how the backend ends it.

use kingsguard_protocol::CloseCode;

use super::Judgement;
use super::reading::{ConnectionReading, Lateness, Place, Reading};
use crate::recording::{EndingKind, FrameKind};

/// How long an answer that the protocol itself demands may take before the backend is said to owe it. The contract has no
/// bound for it.
const PROTOCOL_ANSWER_US: u64 = 5_000_000;

pub(super) fn judge(reading: &Reading<'_>, judgement: &mut Judgement) {
    for (index, connection) in reading.connections.iter().enumerate() {
        let place = Place {
            connection: index,
            frame: connection.frames.len().saturating_sub(1),
        };
        if let Some(EndingKind::Breach { reason }) = connection.connection.ending.as_ref().map(|ending| &ending.how) {
            judgement.blame("CON-1", "frames as RFC 6455 has them", reason.clone(), [place]);
        }
        if connection.connection.upgraded_us.is_some() {
            judge_pongs(connection, judgement);
            judge_pings(reading, connection, judgement);
            judge_binary(connection, judgement);
            judge_close(connection, place, judgement);
        }
    }
}

fn closed_with(connection: &ConnectionReading<'_>) -> Option<Option<u16>> {
    match connection.connection.ending.as_ref().map(|ending| &ending.how) {
        Some(EndingKind::ClosedByBackend { code }) => Some(*code),
        _ => None,
    }
}

/// CON-2: each ping is answered by a pong with its payload; of several, the newest one is enough (RFC 6455 §5.5.3).
fn judge_pongs(connection: &ConnectionReading<'_>, judgement: &mut Judgement) {
    for (index, ping) in connection.frames.iter().enumerate() {
        if ping.is_received() || ping.entry.kind != FrameKind::Ping {
            continue;
        }
        let later = &connection.frames[index + 1..];
        let answered = later.iter().any(|frame| {
            frame.is_received()
                && frame.entry.kind == FrameKind::Pong
                && (frame.entry.bytes == ping.entry.bytes
                    || later.iter().any(|other| {
                        !other.is_received()
                            && other.entry.kind == FrameKind::Ping
                            && other.entry.bytes == frame.entry.bytes
                    }))
        });
        if answered {
            continue;
        }
        if connection.until_us.saturating_sub(ping.at_us()) > PROTOCOL_ANSWER_US {
            judgement.blame("CON-2", "a pong with the ping's payload", "none came", [ping.place]);
        } else {
            judgement.cannot_judge("CON-2", "the connection ended before a pong was due");
        }
    }
}

/// CON-2: the backend's own pings, at the interval that it states.
fn judge_pings(reading: &Reading<'_>, connection: &ConnectionReading<'_>, judgement: &mut Judgement) {
    let Some(greeting) = connection
        .texts()
        .find(|frame| frame.frame_type() == "connection_established")
    else {
        return;
    };
    let Some(interval_us) = greeting
        .u64("heartbeat_interval_ms")
        .map(|interval| interval.saturating_mul(1_000))
    else {
        return;
    };
    let mut last_us = greeting.at_us();
    let pings = connection
        .received()
        .filter(|frame| frame.entry.kind == FrameKind::Ping);
    let moments: Vec<(u64, Place)> = pings
        .map(|frame| (frame.at_us(), frame.place))
        .chain([(connection.until_us, greeting.place)])
        .collect();
    for (at_us, place) in moments {
        // A ping that is late by a whole interval was left out.
        match reading.lateness(last_us, at_us, interval_us.saturating_mul(2)) {
            Lateness::InTime => {}
            Lateness::Unclear(why) => judgement.cannot_judge("CON-2", why),
            Lateness::Late => {
                let came = format!("none came for {} ms", (at_us - last_us) / 1_000);
                let expected = format!("a ping every {} ms", interval_us / 1_000);
                judgement.blame("CON-2", expected, came, [place]);
            }
        }
        last_us = at_us;
    }
}

/// CON-3: binary data is closed with 1003.
fn judge_binary(connection: &ConnectionReading<'_>, judgement: &mut Judgement) {
    let Some(binary) = connection.sent().find(|frame| frame.entry.kind == FrameKind::Binary) else {
        return;
    };
    match closed_with(connection) {
        Some(Some(1003)) => {}
        Some(code) => {
            judgement.blame(
                "CON-3",
                "close 1003 for binary data",
                format!("close {code:?} came"),
                [binary.place],
            );
        }
        None if connection.until_us.saturating_sub(binary.at_us()) > PROTOCOL_ANSWER_US => {
            judgement.blame(
                "CON-3",
                "close 1003 for binary data",
                "no close frame came",
                [binary.place],
            );
        }
        None => judgement.cannot_judge("CON-3", "the connection ended before its close frame was due"),
    }
}

fn judge_close(connection: &ConnectionReading<'_>, place: Place, judgement: &mut Judgement) {
    let Some(code) = closed_with(connection) else { return };
    let Some(code) = code else { return };
    if CloseCode::try_from(code).is_err() {
        judgement.blame("CON-1", "a close code of the contract", format!("{code} came"), [place]);
    }
    let said = |wanted: &[&str]| {
        connection
            .texts()
            .any(|frame| frame.str("error_code").is_some_and(|code| wanted.contains(&code)))
    };
    if code == CloseCode::AuthenticationEnded.as_u16() && !said(&["AUTH_TOKEN_EXPIRED", "AUTH_TOKEN_REVOKED"]) {
        let expected = "`error` AUTH_TOKEN_EXPIRED or AUTH_TOKEN_REVOKED before close 4401";
        judgement.blame("AUTH-6", expected, "it did not come", [place]);
    }
    let limited = connection
        .texts()
        .filter(|frame| frame.str("error_code") == Some("RATE_LIMITED"))
        .count();
    if code == CloseCode::RateLimit.as_u16() && limited < 2 {
        let came = format!("{limited} came");
        judgement.blame("ERR-1", "repeated RATE_LIMITED before close 4429", came, [place]);
    }
    let shutdown = connection.texts().find(|frame| frame.frame_type() == "server_shutdown");
    let expected = shutdown.and_then(|frame| match frame.str("reason")? {
        "stop" => Some(CloseCode::GoingAway),
        "restart" => Some(CloseCode::Restart),
        _ => None,
    });
    if let (Some(expected), Some(shutdown)) = (expected, shutdown) {
        let other = [CloseCode::GoingAway, CloseCode::Restart]
            .into_iter()
            .find(|code| *code != expected);
        if other.is_some_and(|other| other.as_u16() == code) {
            let came = format!("close {code} came");
            judgement.blame(
                "CON-4",
                format!("close {} after this reason", expected.as_u16()),
                came,
                [shutdown.place, place],
            );
        }
    }
}
