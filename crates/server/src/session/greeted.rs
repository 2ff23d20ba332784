//! Greeted: the client has the offer and has not acknowledged it (HSK-1 … HSK-4).

use kingsguard_protocol::client::HandshakeAcknowledged;
use kingsguard_protocol::{ClientBody, ErrorCode, ThreadId};

use super::Facts;
use super::request::Request;
use crate::error::ApiError;

/// A connection that has not acknowledged the handshake. It has no own thread, so nothing can be asked of one.
#[derive(Clone, Copy, Debug)]
pub struct Greeted;

impl Greeted {
    /// What a message asks for.
    ///
    /// # Errors
    /// HANDSHAKE_REQUIRED for everything that needs the handshake first.
    pub fn request(self, body: ClientBody, thread: Option<ThreadId>, facts: &Facts) -> Result<Request, ApiError> {
        match body {
            ClientBody::HandshakeAcknowledged(body) => Ok(acknowledge(body, thread, facts)),
            ClientBody::Ping(_) => Ok(Request::Pong),
            ClientBody::Heartbeat(_) => Ok(Request::HeartbeatAck),
            ClientBody::Pong(_) | ClientBody::HeartbeatAck(_) => Ok(Request::Nothing),
            ClientBody::Auth(auth) => Ok(Request::Authenticate { token: auth.token }),
            ClientBody::Disconnect(_) => Ok(Request::Leave),
            ClientBody::UserMessage(_)
            | ClientBody::StartAgent(_)
            | ClientBody::StopAgent(_)
            | ClientBody::AgentStatusRequest(_)
            | ClientBody::Confirmation(_)
            | ClientBody::CreateThread(_)
            | ClientBody::ListThreads(_)
            | ClientBody::SwitchThread(_)
            | ClientBody::RenameThread(_)
            | ClientBody::DeleteThread(_)
            | ClientBody::GetThreadHistory(_)
            | ClientBody::GetAgentContext(_)
            | ClientBody::TypingStarted(_)
            | ClientBody::TypingStopped(_)
            | ClientBody::Broadcast(_)
            | ClientBody::ExampleMessage(_)
            | ClientBody::GetQualityMetrics(_)
            | ClientBody::ValidateContent(_)
            | ClientBody::GetUsage(_)
            | ClientBody::Batch(_) => Err(ErrorCode::HandshakeRequired.into()),
        }
    }
}

/// An acknowledgement without `thread_id` means the offered thread, the first and any later one (HSK-2).
pub(super) fn acknowledge(body: HandshakeAcknowledged, thread: Option<ThreadId>, facts: &Facts) -> Request {
    Request::Acknowledge {
        own: thread.unwrap_or_else(|| facts.offered.clone()),
        resume: body.resume,
    }
}
