//! `GET /api/chat/stream`: the events of one thread as Server-Sent Events (contract §11), byte for byte those of the
//! WebSocket.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use futures_util::{Stream, stream};
use http::{HeaderMap, header};
use kingsguard_protocol::client::ResumePoint;
use kingsguard_protocol::control::{ThreadPosition, ThreadSwitched};
use kingsguard_protocol::{ControlFrame, Epoch, ErrorCode, ThreadId, Timestamp};
use serde::Deserialize;

use super::{ClientAddress, query};
use crate::app::App;
use crate::auth::{Identity, carrier};
use crate::bridge::{FollowFrom, Outbox, OutboxReader, Outgoing};
use crate::error::ApiError;
use crate::limiter::Place;
use crate::telemetry;
use crate::threads::could_be_id;

pub(super) async fn follow(
    State(app): State<Arc<App>>,
    address: ClientAddress,
    request: Request,
) -> Result<Response, ApiError> {
    app.drain.refuse_new_work()?;
    app.auth.judge_origin(request.headers())?;
    let carried = carrier::credential(request.headers(), request.uri())?;
    let credential = carried
        .ok_or_else(|| ApiError::new(ErrorCode::AuthRequired))?
        .credential;
    let identity = app.auth.judge(&credential).await?;
    let thread_id = query::text(request.uri().query(), "thread_id")
        .ok_or_else(|| ApiError::validation("/thread_id", "the id of a thread"))?;
    if !could_be_id(&thread_id) {
        return Err(ApiError::new(ErrorCode::ThreadNotFound));
    }
    let thread_id = ThreadId::from(thread_id);
    let resume = last_event_id(request.headers());
    app.threads.get(&identity.user_id, &thread_id).await?;
    // A stream is held like a connection and takes its place among them.
    let place = app.limiter.place(&identity.user_id, address.0).await?;
    // Spent when nothing can be refused any more (AUTH-4).
    let identity = app.auth.spend(&credential).await?;

    let bounded = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let (outbox, reader) = Outbox::new(
        bounded(app.config.queue_frames_max),
        bounded(app.config.queue_bytes_max),
    );
    let from = resume.clone().map_or(FollowFrom::Live, FollowFrom::Resume);
    let following = app
        .bridge
        .follow(&identity.user_id, &[(thread_id.clone(), from)], &outbox)
        .await?;
    let Some(position) = following.positions().first().cloned() else {
        return Err(ApiError::internal("a followed thread has no position"));
    };
    following.release();
    let follower = Follower {
        epoch: position.epoch.clone(),
        greeting: Some(greeting(position, resume.is_some())),
        reader,
        waiting: Vec::new(),
        heartbeat: app.config.heartbeat_interval,
        guard: Guard { app, thread_id, outbox },
        identity,
        _place: place,
        is_over: false,
    };
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // Asks proxies of the nginx kind not to gather events before they pass them on.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(frames(follower))).into_response())
}

/// Where the client was. What cannot be read counts as a place in an unknown epoch, so that the client is told.
fn last_event_id(headers: &HeaderMap) -> Option<ResumePoint> {
    let text = String::from_utf8_lossy(headers.get("last-event-id")?.as_bytes());
    let read = text.rsplit_once(':').and_then(|(epoch, after)| {
        Some(ResumePoint {
            epoch: Epoch::from(epoch),
            after: after.parse().ok()?,
        })
    });
    Some(read.unwrap_or(ResumePoint {
        epoch: Epoch::from(""),
        after: 0,
    }))
}

/// What comes before the events: that the resume was refused, or a comment, so that the client sees that it is followed.
fn greeting(position: ThreadPosition, has_resumed: bool) -> String {
    if !has_resumed || position.recovered {
        return ": following\n\n".to_owned();
    }
    let switched = ControlFrame::ThreadSwitched(ThreadSwitched {
        position,
        correlation_id: None,
        timestamp: Timestamp::now(),
    });
    control_event(&switched)
}

fn control_event(frame: &ControlFrame) -> String {
    match serde_json::to_string(frame) {
        Ok(data) => format!("event: {}\ndata: {data}\n\n", frame.frame_type()),
        Err(error) => {
            tracing::error!(reason = %error, "control frame cannot be written");
            String::new()
        }
    }
}

/// Ends that the bridge brings events to a stream whose client is gone, on every path.
struct Guard {
    app: Arc<App>,
    thread_id: ThreadId,
    outbox: Outbox,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.app.bridge.unfollow([&self.thread_id], &self.outbox);
    }
}

struct Follower {
    epoch: Epoch,
    greeting: Option<String>,
    reader: OutboxReader,
    waiting: Vec<Outgoing>,
    heartbeat: Duration,
    guard: Guard,
    identity: Identity,
    _place: Place,
    is_over: bool,
}

fn frames(follower: Follower) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold(follower, async |mut follower| {
        let text = follower.next().await?;
        Some((Ok(Bytes::from(text)), follower))
    })
}

impl Follower {
    async fn next(&mut self) -> Option<String> {
        if let Some(greeting) = self.greeting.take() {
            return Some(greeting);
        }
        if self.is_over {
            return None;
        }
        let app = Arc::clone(&self.guard.app);
        let expires_in = (self.identity.expires_at.as_datetime() - Timestamp::now().as_datetime()).to_std();
        tokio::select! {
            filled = self.reader.next_batch(&mut self.waiting) => match filled {
                Ok(()) => Some(self.write_waiting()),
                Err(overflow) => {
                    telemetry::dropped("slow_consumer", 1);
                    Some(self.end_with(ApiError::new(ErrorCode::SlowConsumer).caused_by(overflow)))
                }
            },
            () = tokio::time::sleep(self.heartbeat) => Some(": still here\n\n".to_owned()),
            () = tokio::time::sleep(expires_in.unwrap_or_default()) => {
                Some(self.end_with(ApiError::new(ErrorCode::AuthTokenExpired)))
            }
            () = app.auth.until_revoked(&self.identity.family_id) => {
                Some(self.end_with(ApiError::new(ErrorCode::AuthTokenRevoked)))
            }
            () = app.drain.ended() => Some(self.end_with(ApiError::new(ErrorCode::ServiceDraining))),
        }
    }

    fn end_with(&mut self, error: ApiError) -> String {
        self.is_over = true;
        control_event(&error.into_control(None))
    }

    fn write_waiting(&mut self) -> String {
        let mut text = String::new();
        for outgoing in self.waiting.drain(..) {
            match outgoing {
                Outgoing::Text(frame) => write_event(&mut text, &self.epoch, &frame),
                Outgoing::Close(..) => {
                    self.is_over = true;
                    break;
                }
            }
        }
        text
    }
}

#[derive(Deserialize)]
struct Named<'f> {
    #[serde(rename = "type", borrow)]
    event_type: std::borrow::Cow<'f, str>,
    seq: u64,
}

fn write_event(text: &mut String, epoch: &Epoch, frame: &str) {
    if let Ok(Named { event_type, seq }) = serde_json::from_str(frame) {
        text.push_str(&format!("id: {epoch}:{seq}\nevent: {event_type}\n"));
    }
    // Frames are written without line breaks, so that one `data` line holds them whole.
    text.push_str("data: ");
    text.push_str(frame);
    text.push_str("\n\n");
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn resume(value: &str) -> Option<ResumePoint> {
        let mut headers = HeaderMap::new();
        headers.insert("last-event-id", value.parse().expect("a header value"));
        last_event_id(&headers)
    }

    #[test]
    fn an_id_names_epoch_and_place() {
        let point = resume("epoch_a:7").expect("present");
        assert_eq!((point.epoch.as_str(), point.after), ("epoch_a", 7));
        assert_eq!(last_event_id(&HeaderMap::new()), None);
    }

    #[test]
    fn what_cannot_be_read_is_a_place_in_an_unknown_epoch() {
        for bad in ["", "x", "epoch_a:", "epoch_a:-1", ":", "epoch_a:1x"] {
            assert_eq!(resume(bad).expect("present").after, 0, "{bad:?}");
            assert_eq!(resume(bad).expect("present").epoch.as_str(), "", "{bad:?}");
        }
    }

    #[test]
    fn an_event_keeps_its_own_bytes() {
        let frame = r#"{"type":"agent_started",  "seq":3,"x":1.50}"#;
        let mut text = String::new();
        write_event(&mut text, &Epoch::from("epoch_a"), frame);
        assert_eq!(text, format!("id: epoch_a:3\nevent: agent_started\ndata: {frame}\n\n"));
    }
}
