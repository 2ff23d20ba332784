//! Recordings by hand: what a backend that keeps the contract would have sent.

use kingsguard_protocol::Timestamp;
use serde_json::{Value, json};

use super::assert_green;
use crate::recording::{Connection, Direction, Ending, EndingKind, Entry, FrameKind, Recording, UserFacts};

pub(super) const ADA: &str = "user_01890a5d-ac96-774b-bcce-b302099a8057";
pub(super) const BOB: &str = "user_01890a5d-ac96-774b-bcce-b302099a8058";
const BEGAN_MS: i64 = 1_700_000_000_000;

/// An id of a kind, the same for the same number.
pub(super) fn id(prefix: &str, number: u64) -> String {
    format!("{prefix}01890a5d-ac96-774b-bcce-{number:012x}")
}

pub(super) fn stamp(at_ms: u64) -> String {
    Timestamp::from_unix_ms(BEGAN_MS + at_ms as i64)
        .expect("in range")
        .to_string()
}

/// Writes a recording frame by frame; time only passes when it is told to.
pub(super) struct Script {
    pub(super) recording: Recording,
    connection: usize,
    pub(super) now_ms: u64,
}

impl Script {
    pub(super) fn new() -> Self {
        let mut recording = Recording {
            test: "by hand".into(),
            ..Recording::default()
        };
        for (label, user_id) in [("ada", ADA), ("bob", BOB)] {
            recording.facts.users.push(UserFacts {
                label: label.into(),
                user_id: Some(user_id.into()),
                email: format!("{label}.0190@example.test"),
                canaries: vec![format!("canaryof{label}")],
            });
        }
        Self {
            recording,
            connection: 0,
            now_ms: 0,
        }
    }

    pub(super) fn connect(&mut self, user: usize) -> &mut Self {
        self.recording.connections.push(Connection {
            user: Some(user),
            offered_protocols: vec!["jwt.T".into()],
            selected_protocol: Some("jwt.T".into()),
            status: Some(101),
            upgraded_us: Some(self.now_ms * 1_000),
            ..Connection::default()
        });
        self.connection = self.recording.connections.len() - 1;
        self
    }

    pub(super) fn on(&mut self, connection: usize) -> &mut Self {
        self.connection = connection;
        self
    }

    pub(super) fn wait(&mut self, ms: u64) -> &mut Self {
        self.now_ms += ms;
        self
    }

    fn append(&mut self, direction: Direction, kind: FrameKind, bytes: Vec<u8>) -> &mut Self {
        let wall = Timestamp::from_unix_ms(BEGAN_MS + self.now_ms as i64)
            .expect("in range")
            .as_datetime();
        let entry = Entry {
            at_us: self.now_ms * 1_000,
            wall,
            direction,
            kind,
            bytes,
        };
        self.recording.connections[self.connection].entries.push(entry);
        self
    }

    pub(super) fn send(&mut self, frame: Value) -> &mut Self {
        self.send_text(&frame.to_string())
    }

    pub(super) fn send_text(&mut self, text: &str) -> &mut Self {
        self.append(Direction::Sent, FrameKind::Text, text.as_bytes().to_vec())
    }

    pub(super) fn send_frame(&mut self, kind: FrameKind, bytes: &[u8]) -> &mut Self {
        self.append(Direction::Sent, kind, bytes.to_vec())
    }

    pub(super) fn receive(&mut self, mut frame: Value) -> &mut Self {
        if let Some(object) = frame.as_object_mut() {
            object.entry("timestamp").or_insert(json!(stamp(self.now_ms)));
        }
        self.append(Direction::Received, FrameKind::Text, frame.to_string().into_bytes())
    }

    pub(super) fn receive_frame(&mut self, kind: FrameKind, bytes: &[u8]) -> &mut Self {
        self.append(Direction::Received, kind, bytes.to_vec())
    }

    /// The same bytes as an event that arrived before.
    pub(super) fn replay(&mut self, from_connection: usize, seq: u64) -> &mut Self {
        let bytes = self.recording.connections[from_connection]
            .entries
            .iter()
            .find(|entry| {
                let json: Value = serde_json::from_slice(&entry.bytes).unwrap_or_default();
                json.get("seq").and_then(Value::as_u64) == Some(seq)
            })
            .expect("the event came before")
            .bytes
            .clone();
        self.append(Direction::Received, FrameKind::Text, bytes)
    }

    pub(super) fn end(&mut self, how: EndingKind) -> &mut Self {
        let at_us = self.now_ms * 1_000;
        if let EndingKind::ClosedByBackend { code: Some(code) } = how {
            self.append(Direction::Received, FrameKind::Close, code.to_be_bytes().to_vec());
        }
        self.recording.connections[self.connection].ending = Some(Ending { at_us, how });
        self
    }

    pub(super) fn done(&mut self) -> Recording {
        self.recording.ended_us = self.now_ms * 1_000;
        self.recording.clone()
    }

    pub(super) fn greet(&mut self, thread: &str) -> &mut Self {
        let number = self.recording.connections.len() as u64 + 900;
        self.receive(json!({
            "type": "connection_established", "connection_id": id("connection_", number), "server_version": "0.1.0",
            "protocol_version": "1", "heartbeat_interval_ms": 30_000,
            "limits": {
                "message_bytes_max": 5_242_880, "content_chars_max": 8_000, "connections_per_user_max": 10,
                "connections_per_address_max": 1_000, "messages_per_minute_max": 60, "messages_burst_max": 20,
                "frames_per_second_max": 100, "threads_per_user_max": 1_000, "queue_frames_max": 4_096,
                "queue_bytes_max": 8_388_608, "logins_per_minute_max": 60
            }
        }))
        .receive(json!({
            "type": "handshake_response", "thread_id": thread, "run_id": id("run_", number), "request_id": "request",
            "session_token": "session", "message": "acknowledge"
        }))
    }

    pub(super) fn handshake(&mut self, thread: &str) -> &mut Self {
        let position = json!({
            "thread_id": thread, "epoch": "epoch_1", "recovered": false, "oldest_seq": 1, "last_seq": 0
        });
        self.greet(thread)
            .send(json!({ "type": "handshake_acknowledged", "message_id": "ack" }))
            .wait(5)
            .receive(json!({ "type": "handshake_complete", "threads": [position], "correlation_id": "ack" }))
    }

    /// The handshake of a connection that goes on after `after` of a log that stands at `last`.
    pub(super) fn resume(&mut self, thread: &str, after: u64, last: u64) -> &mut Self {
        let position = json!({
            "thread_id": thread, "epoch": "epoch_1", "recovered": true, "oldest_seq": 1, "last_seq": last
        });
        self.greet(&id("thread_", 77))
            .send(json!({
                "type": "handshake_acknowledged", "message_id": "again", "thread_id": thread,
                "resume": [{ "thread_id": thread, "epoch": "epoch_1", "after": after }]
            }))
            .wait(5)
            .receive(json!({ "type": "handshake_complete", "threads": [position], "correlation_id": "again" }))
    }

    pub(super) fn event(&mut self, user: &str, run: u64, seq: u64, own: Value) -> &mut Self {
        let thread = if user == ADA { 1 } else { 2 };
        let mut event = json!({
            "event_id": id("event_", thread * 1_000 + seq), "seq": seq, "user_id": user, "thread_id": id("thread_", thread),
            "run_id": id("run_", run), "agent_name": "supervisor", "correlation_id": format!("message {run}")
        });
        let fields = event.as_object_mut().expect("it is an object");
        fields.extend(own.as_object().expect("events are objects").clone());
        self.receive(event)
    }

    /// A whole run of 8 events from `seq` on, caused by a message that is sent first.
    pub(super) fn run(&mut self, user: &str, run: u64, seq: u64) -> &mut Self {
        let thread = id("thread_", if user == ADA { 1 } else { 2 });
        let message = format!("message {run}");
        let execution = id("execution_", run);
        self.send(json!({ "type": "user_message", "message_id": message, "content": "How can I spend less?" }))
            .wait(10)
            .receive(json!({
                "type": "message_received", "message_id": message, "correlation_id": message, "run_id": id("run_", run),
                "thread_id": thread
            }))
            .wait(10)
            .event(user, run, seq, json!({
                "type": "agent_started", "status": "started", "message": "I look at your usage.",
                "context": { "agent_names": ["triage", "data"], "input_chars": 21 }
            }))
            .wait(10)
            .event(user, run, seq + 1, json!({
                "type": "agent_thinking", "reasoning": "Spend by model comes first.", "step_number": 1, "total_steps": 2,
                "progress": 0.1
            }))
            .event(user, run, seq + 2, json!({ "type": "subagent_started", "agent_name": "data", "step_number": 1 }))
            .event(user, run, seq + 3, json!({
                "type": "tool_executing", "execution_id": execution, "tool_name": "spend_by_model",
                "parameters": { "days": 30, "max_tokens": 5, "api_key": "[redacted]" }, "tool_purpose": "to see what costs most"
            }))
            .wait(100)
            .event(user, run, seq + 4, json!({
                "type": "tool_completed", "execution_id": execution, "tool_name": "spend_by_model", "success": true,
                "status": "success", "results": { "models": [{ "model": "a", "cost_microusd": 3 }] }, "duration_ms": 100
            }))
            .event(user, run, seq + 5, json!({
                "type": "subagent_completed", "agent_name": "data", "step_number": 1, "success": true, "duration_ms": 100
            }))
            .event(user, run, seq + 6, json!({ "type": "progress_update", "message": "nearly there", "progress": 0.9 }))
            .event(user, run, seq + 7, json!({
                "type": "agent_completed", "status": "completed", "success": true, "final_response": "Use a cheaper model.",
                "result": { "saving_microusd": 3 }, "summary": "A saving was found.", "duration_ms": 110,
                "usage": { "input_tokens": 10, "output_tokens": 5, "cost_microusd": 1 }
            }))
    }
}

pub(super) fn ada_thread() -> String {
    id("thread_", 1)
}

/// One user, one connection, one run of events 1–8.
pub(super) fn one_run() -> Recording {
    Script::new()
        .connect(0)
        .handshake(&ada_thread())
        .run(ADA, 1, 1)
        .wait(10)
        .done()
}

/// A connection that is cut after event 4, and one that goes on from there.
pub(super) fn resumed_run() -> Recording {
    let mut script = Script::new();
    script.connect(0).handshake(&ada_thread()).run(ADA, 1, 1);
    let cut = &mut script.recording.connections[0];
    let whole = cut.entries.clone();
    let fourth = whole.len() - 4;
    cut.entries.truncate(fourth);
    script.end(EndingKind::CutByTest);
    script.wait(50).connect(0).resume(&ada_thread(), 4, 8);
    let missed: Vec<Entry> = whole[fourth..].to_vec();
    for entry in missed {
        script.receive_frame(FrameKind::Text, &entry.bytes);
    }
    script.wait(10).done()
}

/// Two connections that follow the same thread.
pub(super) fn two_followers() -> Recording {
    let mut script = Script::new();
    script
        .connect(0)
        .handshake(&ada_thread())
        .connect(0)
        .greet(&id("thread_", 78));
    let position = json!({
        "thread_id": ada_thread(), "epoch": "epoch_1", "recovered": false, "oldest_seq": 1, "last_seq": 0
    });
    script
        .send(json!({ "type": "handshake_acknowledged", "message_id": "too", "thread_id": ada_thread() }))
        .receive(json!({ "type": "handshake_complete", "threads": [position], "correlation_id": "too" }))
        .on(0)
        .run(ADA, 1, 1)
        .on(1);
    for seq in 1..=8 {
        script.replay(0, seq);
    }
    script.wait(5_000).done()
}

/// Two users, each with a run of his own.
pub(super) fn two_users() -> Recording {
    let mut script = Script::new();
    script
        .connect(0)
        .handshake(&ada_thread())
        .connect(1)
        .handshake(&id("thread_", 2));
    script.on(0).run(ADA, 1, 1).on(1).run(BOB, 2, 1).wait(10).done()
}

#[test]
fn a_run_that_keeps_the_contract_is_green_and_wholly_judged() {
    let judgement = assert_green(&one_run());
    assert_eq!(judgement.not_judged.len(), 0, "{:?}", judgement.not_judged);
    assert_eq!(judgement.frames_judged, 12);
}

#[test]
fn a_resumed_run_is_green_and_wholly_judged() {
    let judgement = assert_green(&resumed_run());
    assert_eq!(judgement.not_judged.len(), 0, "{:?}", judgement.not_judged);
}

#[test]
fn two_followers_that_see_the_same_are_green() {
    assert_green(&two_followers());
}

#[test]
fn two_users_apart_are_green() {
    assert_green(&two_users());
}

#[test]
fn two_runs_in_a_row_are_green() {
    let recording = Script::new()
        .connect(0)
        .handshake(&ada_thread())
        .run(ADA, 1, 1)
        .wait(10)
        .run(ADA, 2, 9)
        .done();
    assert_green(&recording);
}
