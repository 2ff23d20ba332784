//! The kit's own client against stand-ins.

use std::sync::Arc;

use pretty_assertions::assert_eq;
use serde_json::json;

use super::*;
use crate::capture::Capture;
use crate::chat::Chat;
use crate::connect::ConnectOptions;
use crate::recording::{EndingKind, UserFacts};
use crate::session::Session;
use crate::validate::judge;

kingsguard_report::covers!("KIT-6");

fn question_and_answer() -> Recording {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/recordings/version_1/question_and_answer.jsonl"
    );
    crate::recording::stored::Stored::read_file(file.as_ref())
        .expect("the corpus holds it")
        .recording
}

/// A client of a stand-in, and what it sees.
struct Client {
    capture: Capture,
    session: Session,
    user: usize,
    _stand_in: StandIn,
}

impl Client {
    async fn of(recording: Recording, speed: f64) -> Self {
        let stand_in = StandIn::listen(recording.clone(), 0, speed)
            .await
            .expect("loopback has a free port");
        let capture = Capture::default();
        let known = recording.facts.users.first().cloned();
        let user = capture.add_user(known.unwrap_or_else(UserFacts::default));
        Self {
            session: Session::new(
                &format!("http://{}", stand_in.address()),
                capture.clone(),
                Arc::default(),
            ),
            capture,
            user,
            _stand_in: stand_in,
        }
    }

    async fn connect(&self) -> Chat {
        let options = ConnectOptions::default().with_protocol("jwt.another");
        let link = self.session.upgrade(Some(self.user), options).await;
        let mut chat = Chat::new(self.session.clone(), link.expect("the recording was upgraded"));
        chat.handshake().await;
        chat
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_with_a_stand_in_is_judged_green() {
    let client = Client::of(question_and_answer(), 4.0).await;
    let mut chat = client.connect().await;
    let run = chat.ask("How many calls failed?").await;
    assert_eq!(run.events().len(), 21);
    assert_eq!(chat.close().await, Some(1000));
    let seen = client.capture.recording("against a stand-in");
    let judgement = judge(&seen);
    assert_eq!(judgement.violations, []);
    assert_eq!(judgement.frames_judged, 26);
    assert_eq!(seen.connections[0].selected_protocol.as_deref(), Some("jwt.another"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_recording_begins_again_after_its_last_connection() {
    let client = Client::of(question_and_answer(), 100.0).await;
    for _ in 0..2 {
        let mut chat = client.connect().await;
        chat.ask("How many calls failed?").await;
        chat.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_recording_holds_no_answer_to_ends_with_a_close_that_says_so() {
    let client = Client::of(question_and_answer(), 100.0).await;
    let mut chat = client.connect().await;
    chat.send_json(&json!({ "type": "create_thread" })).await;
    assert_eq!(chat.expect_closed().await, Some(4_000));
    let seen = client.capture.recording("t");
    let close = seen.connections[0]
        .entries
        .iter()
        .rev()
        .find(|entry| entry.close_code() == Some(4_000));
    let said = close.map(|entry| String::from_utf8_lossy(&entry.bytes[2..]).into_owned());
    assert_eq!(said.as_deref(), Some("create_thread came, user_message was next"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_and_a_cut_are_repeated() {
    let refused = Connection {
        status: Some(429),
        ..Connection::default()
    };
    let mut cut = question_and_answer().connections.remove(0);
    cut.entries.truncate(5);
    cut.ending = cut.ending.map(|ending| crate::recording::Ending {
        how: EndingKind::CutByBackend,
        ..ending
    });
    let recording = Recording {
        connections: vec![refused, cut],
        ..question_and_answer()
    };
    let client = Client::of(recording, 100.0).await;
    let first = client.session.upgrade(None, ConnectOptions::default()).await;
    assert_eq!(first.err().map(|refused| refused.status), Some(429));
    let mut chat = client.connect().await;
    chat.say("How many calls failed?").await;
    assert_eq!(chat.expect_closed().await, None);
}

#[tokio::test]
async fn a_speed_that_is_none_is_refused() {
    for speed in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(
            StandIn::listen(question_and_answer(), 0, speed).await.is_err(),
            "{speed}"
        );
    }
}
