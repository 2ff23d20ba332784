//! `/api/agents`, `/api/runs/{id}` and `POST /api/chat/messages`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use http::StatusCode;
use kingsguard_protocol::client::ClientBody;
use kingsguard_protocol::http::{AgentList, ChatAccepted, RunResponse};
use kingsguard_protocol::{ClientMessage, ErrorCode};

use super::Bearer;
use super::extract::{RunInPath, text_body};
use crate::app::App;
use crate::error::ApiError;
use crate::runs::RunRequest;
use crate::threads::could_be_id;

pub(super) async fn agents(State(app): State<Arc<App>>, Bearer(_): Bearer) -> Json<AgentList> {
    Json(AgentList {
        agents: app.registry.summaries(),
    })
}

pub(super) async fn run(
    State(app): State<Arc<App>>,
    Bearer(identity): Bearer,
    RunInPath(run_id): RunInPath,
) -> Result<Json<RunResponse>, ApiError> {
    app.runs.get(&identity.user_id, &run_id).await.map(Json)
}

/// The same as `user_message` on a WebSocket; without `thread_id` in a new thread.
pub(super) async fn chat(
    State(app): State<Arc<App>>,
    Bearer(identity): Bearer,
    request: Request,
) -> Result<(StatusCode, Json<ChatAccepted>), ApiError> {
    let text = text_body(request, app.config.message_bytes_max).await?;
    let message = ClientMessage::decode_chat_body(&text, &app.config.limits())?;
    let ClientBody::UserMessage(body) = message.body else {
        return Err(ApiError::internal("the reader of chat bodies read another message"));
    };
    let user_id = identity.user_id;
    let thread_id = match message.thread_id {
        Some(thread_id) if could_be_id(thread_id.as_str()) => thread_id,
        Some(_) => return Err(ApiError::new(ErrorCode::ThreadNotFound)),
        None => {
            // Judged before a thread is made for a message that would be refused.
            app.drain.refuse_new_work()?;
            app.threads.create(&user_id, None, None).await?.thread_id
        }
    };
    let accepting = RunRequest {
        user_id: user_id.clone(),
        thread_id,
        message_id: message.message_id,
        agent_name: None,
        content: body.content,
        metadata: body.metadata,
        references: body.references,
        context: None,
    };
    let accepted = app
        .runs
        .accept(accepting, || app.limiter.message(&user_id), |_| ())
        .await?;
    let answer = ChatAccepted {
        message_id: accepted.message_id,
        run_id: accepted.run_id,
        thread_id: accepted.thread_id,
    };
    Ok((StatusCode::ACCEPTED, Json(answer)))
}
