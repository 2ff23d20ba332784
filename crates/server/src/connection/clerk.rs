//! Carries out what a connection's messages ask for, one after another.

use std::collections::BTreeSet;
use std::sync::Arc;

use kingsguard_protocol::client::{ConfirmationStatus, ThreadResume};
use kingsguard_protocol::control::{ThreadCreated, ThreadPosition};
use kingsguard_protocol::http::Secret;
use kingsguard_protocol::{ControlFrame, ErrorCode, Event, MessageId, RunId, ThreadId};
use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::agents::examples;
use crate::app::App;
use crate::auth::Identity;
use crate::bridge::{FollowFrom, Following, Outbox};
use crate::broker::Notice;
use crate::error::ApiError;
use crate::quality;
use crate::runs::{Accepted, RunRequest};
use crate::session::request::{StartRun, Typing};
use crate::session::{Conclusion, Place, Received, Reply, Request, Session, Task, answer};
use crate::store::{events, runs};
use crate::telemetry;

/// Why a run is stopped where its user does not say.
const STOP_REASON_DEFAULT: &str = "stopped by the user";

/// What carries out one connection's messages. Dropped, it follows nothing any more.
#[derive(Debug)]
pub struct Clerk {
    app: Arc<App>,
    session: Session,
    identity: Identity,
    outbox: Outbox,
    followed: BTreeSet<ThreadId>,
    is_over: bool,
}

impl Clerk {
    /// Begins behind the greeting.
    #[must_use]
    pub fn new(app: Arc<App>, session: Session, identity: Identity, outbox: Outbox) -> Self {
        Self {
            app,
            session,
            identity,
            outbox,
            followed: BTreeSet::new(),
            is_over: false,
        }
    }

    /// Who the connection stands for; an `auth` message changes until when.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether the handshake is complete.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.session.is_open()
    }

    /// Whether a message ended the connection: those after it are not carried out.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Carries out one message, or those of one batch in order.
    pub async fn handle(mut self: Box<Self>, text: Utf8Bytes) -> Box<Self> {
        match self.session.receive(&text, Place::Frame) {
            Err(refused) => self.tell(*refused),
            Ok(Received::Task(task)) => self.carry_out(task).await,
            Ok(Received::Batch(messages)) => {
                for message in messages {
                    if self.is_over {
                        break;
                    }
                    match self.session.receive(message.get(), Place::Batch) {
                        Err(refused) => self.tell(*refused),
                        Ok(Received::Task(task)) => self.carry_out(task).await,
                        // The decoder refuses a batch within a batch.
                        Ok(Received::Batch(_)) => {}
                    }
                }
            }
        }
        self
    }

    async fn carry_out(&mut self, task: Task) {
        let cause = task.cause.clone();
        let result = self.perform(task).await;
        let conclusion = self.session.conclude(cause, result);
        self.tell(conclusion);
    }

    fn tell(&mut self, conclusion: Conclusion) {
        if let Some(answer) = &conclusion.answer {
            push(&self.outbox, answer);
        }
        if let Some((code, reason)) = conclusion.close {
            self.outbox.close(code, reason);
            self.is_over = true;
        }
    }

    /// Judges the thing, then the limits (ERR-1), and does what is asked.
    async fn perform(&mut self, task: Task) -> Result<Reply, ApiError> {
        let Task {
            cause,
            makes_thread,
            judged_later,
            request,
        } = task;
        let pointer = judged_later.unwrap_or_default();
        if let Some(thread_id) = makes_thread {
            self.app.drain.refuse_new_work()?;
            self.app.threads.take_offer(&self.identity.user_id, &thread_id).await?;
            self.session.offer_taken();
        }
        // Messages that start runs are counted where a repeat is recognised (SEQ-8).
        if !request.starts_run()
            && let Err(limited) = self.app.limiter.frame(&self.identity.user_id)
        {
            self.refuse_unknown(&request).await?;
            return Err(limited);
        }
        let user_id = self.identity.user_id.clone();
        let app = self.app.clone();
        Ok(match request {
            Request::Nothing => Reply::Quiet,
            Request::Pong => Reply::Pong,
            Request::HeartbeatAck => Reply::HeartbeatAck,
            Request::Leave => Reply::Left,
            Request::Authenticate { token } => self.authenticate(&token).await?,
            Request::Acknowledge { own, resume } => self.acknowledge(own, resume, cause).await?,
            Request::StartRun(start) => self.start_run(start, cause).await?,
            Request::StartExample {
                thread_id,
                content,
                category,
            } => {
                let context = examples::context_for(&category)
                    .map_err(|expected| ApiError::validation(pointer.as_str(), expected))?;
                let start = StartRun {
                    thread_id,
                    agent_name: None,
                    content,
                    references: None,
                    metadata: None,
                    context: Some(context),
                };
                self.start_run(start, cause).await?
            }
            Request::StopRun { run_id, reason } => self.stop_run(&run_id, reason, cause).await?,
            Request::RunStates { run_id: Some(run_id) } => {
                Reply::Runs(vec![app.runs.get(&user_id, &run_id).await?.run])
            }
            Request::RunStates { run_id: None } => Reply::Runs(app.runs.open(&user_id).await?),
            Request::Confirm { event_id: _, status } => {
                telemetry::event_confirmed(match status {
                    ConfirmationStatus::Confirmed => "confirmed",
                    ConfirmationStatus::Failed => "failed",
                });
                Reply::Quiet
            }
            Request::CreateThread { title, metadata } => self.create_thread(title, metadata, cause).await?,
            Request::ListThreads { limit, cursor } => {
                let page = app.threads.list(&user_id, limit, cursor.as_deref()).await;
                Reply::Threads(page.map_err(|error| match error.code {
                    // The decoder judged the limit, so it is the cursor.
                    ErrorCode::ValidationError => error.with_detail("pointer", pointer.as_str()),
                    _ => error,
                })?)
            }
            Request::SwitchThread { thread_id, resume } => {
                let from = resume.map_or(FollowFrom::Live, FollowFrom::Resume);
                let following = self.follow(&[(thread_id.clone(), from)]).await?;
                if let Some(position) = following.positions().first() {
                    push(&self.outbox, &answer::thread_switched(position.clone(), cause));
                }
                self.release(following);
                Reply::Switched { own: thread_id }
            }
            Request::RenameThread { thread_id, title } => {
                app.threads.rename(&user_id, &thread_id, &title).await?;
                Reply::Renamed { thread_id, title }
            }
            Request::DeleteThread { thread_id } => {
                self.delete_thread(&thread_id).await?;
                self.followed.remove(&thread_id);
                Reply::Deleted { thread_id }
            }
            Request::History {
                thread_id,
                limit,
                before,
            } => Reply::History(app.threads.history(&user_id, &thread_id, limit, before).await?),
            Request::Context { thread_id } => Reply::Context {
                context: app.threads.context(&user_id, &thread_id).await?,
                thread_id,
            },
            Request::Typing { thread_id, typing } => {
                app.threads.refuse_foreign(&user_id, &thread_id).await?;
                self.relay_typing(thread_id, typing, cause);
                Reply::Quiet
            }
            Request::Broadcast { content } => {
                let connection_id = self.session.facts().connection_id.clone();
                self.relay(&answer::broadcast(content, connection_id, cause), Audience::All);
                Reply::Quiet
            }
            Request::Quality { run_id } => self.quality(run_id).await?,
            Request::Validated { content_type, issues } => Reply::Validated { content_type, issues },
            Request::Usage { period } => {
                let (runs, usage) = runs::usage(app.store.database(), &user_id, period).await?;
                Reply::Usage { period, runs, usage }
            }
        })
    }

    /// The thing is judged before the limits are (ERR-1), also where the limit is passed.
    async fn refuse_unknown(&self, request: &Request) -> Result<(), ApiError> {
        let user_id = &self.identity.user_id;
        if let Some(thread_id) = request.thread() {
            self.app.threads.refuse_foreign(user_id, thread_id).await?;
        }
        if let Request::Acknowledge { resume, .. } = request {
            for wanted in resume {
                self.app.threads.refuse_foreign(user_id, &wanted.thread_id).await?;
            }
        }
        if let Some(run_id) = request.run() {
            self.app.runs.get(user_id, run_id).await?;
        }
        Ok(())
    }

    /// A fresh token of the same user keeps the connection open (AUTH-6).
    async fn authenticate(&mut self, token: &Secret) -> Result<Reply, ApiError> {
        let fresh = self.app.auth.judge_bearer(token.reveal()).await?;
        if fresh.user_id != self.identity.user_id {
            return Err(ErrorCode::AuthForbidden.into());
        }
        let expires_at = fresh.expires_at;
        self.identity = fresh;
        Ok(Reply::Authenticated { expires_at })
    }

    async fn acknowledge(
        &mut self,
        own: ThreadId,
        resume: Vec<ThreadResume>,
        cause: MessageId,
    ) -> Result<Reply, ApiError> {
        let mut wanted = Vec::with_capacity(resume.len() + 1);
        if resume.iter().all(|resume| resume.thread_id != own) {
            wanted.push((own.clone(), FollowFrom::Live));
        }
        wanted.extend(
            resume
                .into_iter()
                .map(|ThreadResume { thread_id, point }| (thread_id, FollowFrom::Resume(point))),
        );
        let following = self.follow(&wanted).await?;
        let positions = following.positions().to_vec();
        push(&self.outbox, &answer::handshake_complete(positions, cause));
        self.release(following);
        let connection_id = &self.session.facts().connection_id;
        self.app.connections.take_notices(&self.identity.user_id, connection_id);
        Ok(Reply::Acknowledged { own })
    }

    async fn start_run(&mut self, start: StartRun, cause: MessageId) -> Result<Reply, ApiError> {
        // Followed before it is accepted, so that none of its events is missed; they are held back behind the answer.
        let following = match self.app.bridge.follows(&start.thread_id, &self.outbox) {
            true => None,
            false => Some(self.follow(&[(start.thread_id.clone(), FollowFrom::Live)]).await?),
        };
        let user_id = self.identity.user_id.clone();
        let request = RunRequest {
            user_id: user_id.clone(),
            thread_id: start.thread_id,
            message_id: Some(cause),
            agent_name: start.agent_name,
            content: start.content,
            metadata: start.metadata,
            references: start.references,
            context: start.context,
        };
        let (limiter, outbox) = (&self.app.limiter, &self.outbox);
        let answer = |accepted: &Accepted| {
            let Accepted {
                message_id,
                run_id,
                thread_id,
                accepted_at,
                ..
            } = accepted.clone();
            push(
                outbox,
                &answer::message_received(message_id, run_id, thread_id, accepted_at),
            );
        };
        self.app
            .runs
            .accept(request, || limiter.message(&user_id), answer)
            .await?;
        if let Some(following) = following {
            self.release(following);
        }
        Ok(Reply::Accepted)
    }

    async fn stop_run(&mut self, run_id: &RunId, reason: Option<String>, cause: MessageId) -> Result<Reply, ApiError> {
        let user_id = self.identity.user_id.clone();
        let thread_id = self.app.runs.get(&user_id, run_id).await?.run.thread_id;
        // `agent_stopped` is the answer, so the run's thread must be followed; one that was deleted has no runs.
        let following = self
            .follow(&[(thread_id, FollowFrom::Live)])
            .await
            .map_err(|error| match error.code {
                ErrorCode::ThreadNotFound => ErrorCode::RunNotFound.into(),
                _ => error,
            })?;
        let reason = reason.unwrap_or_else(|| STOP_REASON_DEFAULT.to_owned());
        self.app.runs.stop(&user_id, run_id, reason, cause).await?;
        self.release(following);
        Ok(Reply::Quiet)
    }

    async fn create_thread(
        &mut self,
        title: Option<String>,
        metadata: Option<Box<RawValue>>,
        cause: MessageId,
    ) -> Result<Reply, ApiError> {
        self.app.drain.refuse_new_work()?;
        let user_id = &self.identity.user_id;
        let made = self
            .app
            .threads
            .create(user_id, title.as_deref(), metadata.as_deref())
            .await?;
        let thread_id = made.thread_id;
        let following = self.follow(&[(thread_id.clone(), FollowFrom::Live)]).await?;
        let Some(ThreadPosition { epoch, .. }) = following.positions().first().cloned() else {
            return Err(ApiError::internal("a followed thread has no position"));
        };
        self.release(following);
        Ok(Reply::Created(Box::new(ThreadCreated {
            thread_id,
            title: made.title,
            metadata: made.metadata,
            epoch,
            correlation_id: cause,
            timestamp: made.created_at,
        })))
    }

    /// Who follows it hears no more of it, on this node or another.
    async fn delete_thread(&self, thread_id: &ThreadId) -> Result<(), ApiError> {
        self.app.threads.delete(&self.identity.user_id, thread_id).await?;
        self.app.bridge.remove_thread(thread_id);
        self.app.broker.publish(Notice::ThreadDeleted {
            thread_id: thread_id.clone(),
        });
        Ok(())
    }

    async fn quality(&self, run_id: RunId) -> Result<Reply, ApiError> {
        let run = self.app.runs.get(&self.identity.user_id, &run_id).await?.run;
        let logged = events::of_run(self.app.store.database(), &run.thread_id, &run_id).await?;
        let events: Vec<Event> = logged
            .iter()
            .map(|event| serde_json::from_str(&event.frame))
            .collect::<Result<_, _>>()
            .map_err(ApiError::internal)?;
        Ok(Reply::Quality {
            run_id,
            metrics: quality::of_run(&events),
        })
    }

    async fn follow(&self, wanted: &[(ThreadId, FollowFrom)]) -> Result<Following, ApiError> {
        self.app
            .bridge
            .follow(&self.identity.user_id, wanted, &self.outbox)
            .await
    }

    /// Lets the events come, behind the answer that was pushed.
    fn release(&mut self, following: Following) {
        let threads = following.positions().iter().map(|position| position.thread_id.clone());
        self.followed.extend(threads);
        following.release();
    }

    fn relay_typing(&self, thread_id: ThreadId, typing: Typing, cause: MessageId) {
        let connection_id = self.session.facts().connection_id.clone();
        self.relay(
            &answer::typing(typing, thread_id, connection_id, cause),
            Audience::Others,
        );
    }

    fn relay(&self, frame: &ControlFrame, audience: Audience) {
        let Some(text) = text_of(frame) else { return };
        let user_id = &self.identity.user_id;
        let except = match audience {
            Audience::All => None,
            Audience::Others => Some(self.session.facts().connection_id.clone()),
        };
        self.app.connections.relay(user_id, except.as_ref(), &text);
        match RawValue::from_string(text.as_str().to_owned()) {
            Ok(frame) => self.app.broker.publish(Notice::Relay {
                user_id: user_id.clone(),
                except,
                frame,
            }),
            Err(error) => tracing::error!(reason = %error, "frame is not JSON"),
        }
    }
}

impl Drop for Clerk {
    fn drop(&mut self) {
        self.app.bridge.unfollow(&self.followed, &self.outbox);
    }
}

/// Who gets a relayed frame.
#[derive(Clone, Copy)]
enum Audience {
    /// All of the user's connections.
    All,
    /// All but the one that sent it.
    Others,
}

/// Queues a frame. Where the queue is at its bound, the connection learns of it from the queue itself and ends.
pub(super) fn push(outbox: &Outbox, frame: &ControlFrame) {
    if let Some(text) = text_of(frame)
        && outbox.push_text(text).is_err()
    {
        telemetry::dropped("answer", 1);
    }
}

/// A frame as it is sent.
pub(super) fn text_of(frame: &ControlFrame) -> Option<Utf8Bytes> {
    match serde_json::to_string(frame) {
        Ok(text) => Some(text.into()),
        Err(error) => {
            tracing::error!(reason = %error, frame_type = frame.frame_type(), "frame cannot be written");
            None
        }
    }
}
