//! Open: the handshake is complete and the connection has an own thread.

use kingsguard_protocol::{ClientBody, ErrorCode, ThreadId};

use super::greeted::acknowledge;
use super::request::{Request, StartRun, Typing};
use super::{Facts, content};
use crate::error::ApiError;

/// A connection that may use threads and runs.
#[derive(Debug)]
pub struct Open {
    own: OwnThread,
}

/// Which thread messages without `thread_id` mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnThread {
    /// This one.
    Chosen(ThreadId),
    /// It was deleted on this connection and no other was chosen since.
    Gone,
}

impl Open {
    /// The connection acknowledged `own`.
    #[must_use]
    pub fn new(own: ThreadId) -> Self {
        Self {
            own: OwnThread::Chosen(own),
        }
    }

    /// Messages without `thread_id` mean this thread from now on.
    pub fn choose(&mut self, own: ThreadId) {
        self.own = OwnThread::Chosen(own);
    }

    /// A thread was deleted.
    pub fn forget(&mut self, deleted: &ThreadId) {
        if self.own == OwnThread::Chosen(deleted.clone()) {
            self.own = OwnThread::Gone;
        }
    }

    /// What a message asks for.
    ///
    /// # Errors
    /// THREAD_NOT_FOUND where the own thread is meant and was deleted.
    pub fn request(&self, body: ClientBody, thread: Option<ThreadId>, facts: &Facts) -> Result<Request, ApiError> {
        let meant = || match (&thread, &self.own) {
            (Some(thread), _) | (None, OwnThread::Chosen(thread)) => Ok(thread.clone()),
            (None, OwnThread::Gone) => Err(ApiError::new(ErrorCode::ThreadNotFound)),
        };
        // The decoder refuses these without `thread_id`, so the own thread is never meant.
        let named = meant;
        Ok(match body {
            ClientBody::HandshakeAcknowledged(body) => acknowledge(body, thread, facts),
            ClientBody::UserMessage(message) => Request::StartRun(StartRun {
                thread_id: meant()?,
                agent_name: None,
                content: message.content,
                references: message.references,
                metadata: message.metadata,
                context: None,
            }),
            ClientBody::StartAgent(start) => Request::StartRun(StartRun {
                thread_id: meant()?,
                agent_name: Some(start.agent_name),
                content: start.user_request,
                references: None,
                metadata: None,
                context: start.context,
            }),
            ClientBody::ExampleMessage(example) => Request::StartExample {
                thread_id: meant()?,
                content: example.content,
                category: example.category,
            },
            ClientBody::StopAgent(stop) => Request::StopRun {
                run_id: stop.run_id,
                reason: stop.reason,
            },
            ClientBody::AgentStatusRequest(status) => Request::RunStates { run_id: status.run_id },
            ClientBody::Confirmation(confirmation) => Request::Confirm {
                event_id: confirmation.event_id,
                status: confirmation.status,
            },
            ClientBody::CreateThread(create) => Request::CreateThread {
                title: create.title,
                metadata: create.metadata,
            },
            ClientBody::ListThreads(list) => Request::ListThreads {
                limit: list.limit,
                cursor: list.cursor,
            },
            ClientBody::SwitchThread(switch) => Request::SwitchThread {
                thread_id: named()?,
                resume: switch.resume,
            },
            ClientBody::RenameThread(rename) => Request::RenameThread {
                thread_id: named()?,
                title: rename.title,
            },
            ClientBody::DeleteThread(_) => Request::DeleteThread { thread_id: named()? },
            ClientBody::GetThreadHistory(history) => Request::History {
                thread_id: meant()?,
                limit: history.limit,
                before: history.before,
            },
            ClientBody::GetAgentContext(_) => Request::Context { thread_id: meant()? },
            ClientBody::Ping(_) => Request::Pong,
            ClientBody::Heartbeat(_) => Request::HeartbeatAck,
            ClientBody::Pong(_) | ClientBody::HeartbeatAck(_) => Request::Nothing,
            ClientBody::Auth(auth) => Request::Authenticate { token: auth.token },
            ClientBody::TypingStarted(_) => Request::Typing {
                thread_id: meant()?,
                typing: Typing::Started,
            },
            ClientBody::TypingStopped(_) => Request::Typing {
                thread_id: meant()?,
                typing: Typing::Stopped,
            },
            ClientBody::Broadcast(broadcast) => Request::Broadcast {
                content: broadcast.content,
            },
            ClientBody::GetQualityMetrics(quality) => Request::Quality { run_id: quality.run_id },
            ClientBody::ValidateContent(validate) => Request::Validated {
                issues: content::judge(&validate.content, &validate.content_type, &facts.limits),
                content_type: validate.content_type,
            },
            ClientBody::GetUsage(usage) => Request::Usage {
                period: usage.period.unwrap_or_default(),
            },
            ClientBody::Disconnect(_) => Request::Leave,
            // `Session::receive` takes a batch apart before it asks here, and the decoder refuses one within another.
            ClientBody::Batch(_) => return Err(ApiError::validation("/type", "a message other than `batch`")),
        })
    }
}
