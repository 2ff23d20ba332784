//! The fields of each client message (contract §8).

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::fields::{COUNT_EXPECTED, Fault, Fields, TextRule, read_count};
use crate::client::{
    AgentStatusRequest, Auth, Batch, Broadcast, ClientBody, ClientPong, ClientType, Confirmation, ConfirmationStatus,
    CreateThread, DeleteThread, Disconnect, ExampleMessage, GetAgentContext, GetQualityMetrics, GetThreadHistory,
    GetUsage, HandshakeAcknowledged, Heartbeat, HeartbeatAck, ListThreads, Ping, RenameThread, ResumePoint, StartAgent,
    StopAgent, SwitchThread, ThreadResume, TypingStarted, TypingStopped, UserMessage, ValidateContent,
};
use crate::control::UsagePeriod;
use crate::{Limits, ThreadId};

/// Unicode code points of a thread's title: ours, the contract names none. A title stands in lists and in every
/// `agent_started`.
pub const TITLE_CHARS_MAX: u64 = 256;
/// Unicode code points of a `reason`: ours, the contract names none. It is repeated in `agent_stopped`.
pub const REASON_CHARS_MAX: u64 = 1_000;
/// Messages of one `batch` (contract §8).
pub const BATCH_MESSAGES_MAX: usize = 50;
/// Things on one page of a list (contract §8).
pub const PAGE_LIMIT_MAX: u64 = 100;
/// Threads that one `handshake_acknowledged` resumes: ours, the contract names none. Each costs a look-up.
pub const RESUME_THREADS_MAX: usize = 1_000;

const CONTENT: &[&str] = &["content", "text", "message"];

pub(super) fn read_body(client_type: ClientType, fields: &Fields<'_>, limits: &Limits) -> Result<ClientBody, Fault> {
    let content_rule = TextRule::FilledUpTo(limits.content_chars_max);
    Ok(match client_type {
        ClientType::HandshakeAcknowledged => HandshakeAcknowledged {
            resume: resume_list(fields)?,
        }
        .into(),
        ClientType::UserMessage => user_message(fields, limits)?.into(),
        ClientType::StartAgent => StartAgent {
            agent_name: fields.required_text(&["agent_name"], TextRule::Filled)?,
            user_request: fields.required_text(&["user_request"], content_rule)?,
            context: fields.raw_object("context")?,
        }
        .into(),
        ClientType::StopAgent => StopAgent {
            run_id: fields.required_text(&["run_id"], TextRule::Any)?.into(),
            reason: reason(fields)?,
        }
        .into(),
        ClientType::AgentStatusRequest => AgentStatusRequest {
            run_id: fields.text(&["run_id"], TextRule::Any)?.map(Into::into),
        }
        .into(),
        ClientType::Confirmation => Confirmation {
            event_id: fields.required_text(&["event_id"], TextRule::Any)?.into(),
            status: fields.required_word(
                "status",
                &[
                    ("confirmed", ConfirmationStatus::Confirmed),
                    ("failed", ConfirmationStatus::Failed),
                ],
            )?,
        }
        .into(),
        ClientType::CreateThread => CreateThread {
            title: fields.text(&["title"], TextRule::FilledUpTo(TITLE_CHARS_MAX))?,
            metadata: fields.raw_object("metadata")?,
        }
        .into(),
        ClientType::ListThreads => ListThreads {
            limit: page_limit(fields)?,
            cursor: fields.text(&["cursor"], TextRule::Any)?,
        }
        .into(),
        ClientType::SwitchThread => {
            require_thread(fields)?;
            SwitchThread {
                resume: resume_point(fields)?,
            }
            .into()
        }
        ClientType::RenameThread => {
            require_thread(fields)?;
            RenameThread {
                title: fields.required_text(&["title"], TextRule::FilledUpTo(TITLE_CHARS_MAX))?,
            }
            .into()
        }
        ClientType::DeleteThread => {
            require_thread(fields)?;
            DeleteThread {}.into()
        }
        ClientType::GetThreadHistory => GetThreadHistory {
            limit: page_limit(fields)?,
            before: fields.count("before")?,
        }
        .into(),
        ClientType::GetAgentContext => GetAgentContext {}.into(),
        ClientType::Ping => Ping {}.into(),
        ClientType::Pong => ClientPong {}.into(),
        ClientType::Heartbeat => Heartbeat {}.into(),
        ClientType::HeartbeatAck => HeartbeatAck {}.into(),
        ClientType::Auth => Auth {
            token: fields.required_text(&["token"], TextRule::Filled)?.into(),
        }
        .into(),
        ClientType::TypingStarted => TypingStarted {}.into(),
        ClientType::TypingStopped => TypingStopped {}.into(),
        ClientType::Broadcast => Broadcast {
            content: fields.required_text(&["content"], content_rule)?,
        }
        .into(),
        ClientType::ExampleMessage => ExampleMessage {
            content: fields.required_text(&["content"], content_rule)?,
            category: fields.required_text(&["category"], TextRule::Filled)?,
        }
        .into(),
        ClientType::GetQualityMetrics => GetQualityMetrics {
            run_id: fields.required_text(&["run_id"], TextRule::Any)?.into(),
        }
        .into(),
        ClientType::ValidateContent => ValidateContent {
            content: fields.required_text(&["content"], TextRule::Any)?,
            content_type: fields.required_text(&["content_type"], TextRule::Filled)?,
        }
        .into(),
        ClientType::GetUsage => GetUsage {
            period: fields.word("period", &UsagePeriod::ALL.map(|period| (period.as_str(), period)))?,
        }
        .into(),
        ClientType::Batch => Batch {
            messages: fields
                .required_members("messages", BATCH_MESSAGES_MAX, "a list of 1–50 messages")?
                .members
                .into_iter()
                .map(RawValue::to_owned)
                .collect(),
        }
        .into(),
        ClientType::Disconnect => Disconnect {
            reason: reason(fields)?,
        }
        .into(),
    })
}

pub(super) fn user_message(fields: &Fields<'_>, limits: &Limits) -> Result<UserMessage, Fault> {
    Ok(UserMessage {
        content: fields.required_text(CONTENT, TextRule::FilledUpTo(limits.content_chars_max))?,
        references: fields.raw_list("references")?,
        metadata: fields.raw_object("metadata")?,
    })
}

fn require_thread(fields: &Fields<'_>) -> Result<(), Fault> {
    fields.required_text(&["thread_id"], TextRule::Any).map(|_| ())
}

/// A blank reason says nothing: it is the same as none.
fn reason(fields: &Fields<'_>) -> Result<Option<String>, Fault> {
    let reason = fields.text(&["reason"], TextRule::AtMost(REASON_CHARS_MAX))?;
    Ok(reason.filter(|reason| !reason.trim().is_empty()))
}

fn page_limit(fields: &Fields<'_>) -> Result<Option<u32>, Fault> {
    let limit = fields.integer_within("limit", 1, PAGE_LIMIT_MAX)?;
    Ok(limit.and_then(|limit| u32::try_from(limit).ok()))
}

/// What a resume asks for, each field still as text. `None` is absent or `null`.
#[derive(Deserialize)]
struct RawResume<'t> {
    #[serde(borrow, default)]
    thread_id: Option<&'t RawValue>,
    #[serde(borrow, default)]
    epoch: Option<&'t RawValue>,
    #[serde(borrow, default)]
    after: Option<&'t RawValue>,
}

impl<'t> RawResume<'t> {
    fn read(raw: &'t str, pointer: &str) -> Result<Self, Fault> {
        let refused = || Fault::new(pointer, "an object");
        // serde reads lists as structs too.
        if !raw.starts_with('{') {
            return Err(refused());
        }
        serde_json::from_str(raw).map_err(|_| refused())
    }

    fn point(&self, pointer: &str) -> Result<ResumePoint, Fault> {
        let epoch: String = read_text(self.epoch).ok_or_else(|| Fault::new(format!("{pointer}/epoch"), "a string"))?;
        let after = self
            .after
            .and_then(|raw| read_count(raw.get()))
            .ok_or_else(|| Fault::new(format!("{pointer}/after"), COUNT_EXPECTED))?;
        Ok(ResumePoint {
            epoch: epoch.into(),
            after,
        })
    }
}

fn read_text(raw: Option<&RawValue>) -> Option<String> {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok())
}

fn resume_point(fields: &Fields<'_>) -> Result<Option<ResumePoint>, Fault> {
    let Some(field) = fields.find(&["resume"]) else {
        return Ok(None);
    };
    let pointer = field.pointer();
    RawResume::read(field.raw, &pointer)?.point(&pointer).map(Some)
}

fn resume_list(fields: &Fields<'_>) -> Result<Vec<ThreadResume>, Fault> {
    let Some(list) = fields.members("resume", RESUME_THREADS_MAX, "a list of at most 1,000 threads")? else {
        return Ok(Vec::new());
    };
    let mut seen: HashSet<ThreadId> = HashSet::new();
    let mut resume = Vec::with_capacity(list.members.len());
    for (place, raw) in list.members.iter().enumerate() {
        let pointer = format!("{}/{place}", list.pointer);
        let entry = RawResume::read(raw.get(), &pointer)?;
        let thread_pointer = format!("{pointer}/thread_id");
        let thread_id: ThreadId = read_text(entry.thread_id)
            .ok_or_else(|| Fault::new(&thread_pointer, "a string"))?
            .into();
        let point = entry.point(&pointer)?;
        if !seen.insert(thread_id.clone()) {
            return Err(Fault::new(thread_pointer, "a thread that the list has only once"));
        }
        resume.push(ThreadResume { thread_id, point });
    }
    Ok(resume)
}
