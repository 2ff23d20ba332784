//! An OpenAI-compatible endpoint: `POST {url}/chat/completions`, with a time limit, retries and a circuit breaker.

use std::time::Duration;

use kingsguard_protocol::ErrorCode;
use kingsguard_protocol::http::Secret;
use serde::Deserialize;
use serde_json::{Value, json};

use super::attempts::{self, Fault, Faulty};
use super::breaker::Breaker;

/// Bytes of an answer that are read; ours are a few hundred.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Where the model is and how it is called.
#[derive(Clone, Debug)]
pub struct ModelSettings {
    /// The endpoint, up to `/chat/completions`.
    pub url: String,
    /// The model to ask for.
    pub name: String,
    /// The endpoint's key.
    pub api_key: Option<Secret>,
    /// How long one call may take.
    pub timeout: Duration,
    /// Failures in a row after which the breaker opens.
    pub breaker_failures_max: u64,
    /// How long the open breaker waits.
    pub breaker_open: Duration,
    /// Whether the planner stands in when the model fails; otherwise the run fails.
    pub falls_back: bool,
}

/// Why a model gave no answer, in words for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ModelError {
    /// MODEL_UNAVAILABLE, MODEL_RATE_LIMITED or CIRCUIT_OPEN.
    pub code: ErrorCode,
    /// For people.
    pub message: &'static str,
    fault: Fault,
}

impl Faulty for ModelError {
    const CIRCUIT_OPEN: Self = Self {
        code: ErrorCode::CircuitOpen,
        message: "The model failed repeatedly and is left alone for a while; ask again in a moment.",
        fault: Fault::Passing,
    };

    fn fault(&self) -> Fault {
        self.fault
    }
}

const RATE_LIMITED: ModelError = ModelError {
    code: ErrorCode::ModelRateLimited,
    message: "The model's provider limits the rate; ask again in a moment.",
    fault: Fault::Passing,
};
const UNAVAILABLE: ModelError = ModelError {
    code: ErrorCode::ModelUnavailable,
    message: "The model does not answer; ask again in a moment.",
    fault: Fault::Passing,
};
const REFUSES: ModelError = ModelError {
    code: ErrorCode::ModelUnavailable,
    message: "The model refuses the request; its settings have to be looked at.",
    fault: Fault::Refusal,
};

/// A function that the model is asked to call.
#[derive(Clone, Debug)]
pub struct FunctionCall {
    /// Its name.
    pub name: &'static str,
    /// JSON Schema of its parameters.
    pub parameters: Value,
}

/// What the model answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Completion {
    /// Its text.
    pub content: Option<String>,
    /// What it gave the function, where it called it with an object.
    pub arguments: Option<Value>,
    /// Tokens of the question, as the endpoint counts them.
    pub input_tokens: u64,
    /// Tokens of the answer, as the endpoint counts them.
    pub output_tokens: u64,
}

/// An endpoint.
#[derive(Debug)]
pub struct OpenAiCompatible {
    client: reqwest::Client,
    settings: ModelSettings,
    breaker: Breaker,
}

#[derive(Deserialize)]
struct Answer {
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Usage,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
    tool_calls: Option<Vec<ToolCalled>>,
}

#[derive(Deserialize)]
struct ToolCalled {
    function: Called,
}

#[derive(Deserialize)]
struct Called {
    name: String,
    arguments: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
}

impl OpenAiCompatible {
    /// An endpoint with these settings; nothing is called yet.
    ///
    /// # Errors
    /// No HTTP client can be made.
    pub fn new(settings: ModelSettings) -> Result<Self, reqwest::Error> {
        // An error says that another part of the process chose a provider before; that one serves as well.
        let _chosen_before = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(settings.timeout).build()?;
        let breaker = Breaker::new("model", settings.breaker_failures_max, settings.breaker_open);
        Ok(Self {
            client,
            settings,
            breaker,
        })
    }

    /// The model's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Whether the planner stands in when the model fails.
    #[must_use]
    pub fn falls_back(&self) -> bool {
        self.settings.falls_back
    }

    /// The breaker, for health.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Asks the model, several times if need be.
    ///
    /// # Errors
    /// As [`ModelError`] says; with the breaker open at once.
    pub async fn complete(
        &self,
        instruction: &str,
        question: &str,
        function: Option<FunctionCall>,
    ) -> Result<Completion, ModelError> {
        let mut body = json!({
            "model": self.settings.name,
            "temperature": 0,
            "messages": [{"role": "system", "content": instruction}, {"role": "user", "content": question}],
        });
        if let (Some(function), Some(fields)) = (&function, body.as_object_mut()) {
            let tool = json!({
                "type": "function",
                "function": {"name": function.name, "parameters": function.parameters},
            });
            fields.insert("tools".to_owned(), json!([tool]));
            let choice = json!({"type": "function", "function": {"name": function.name}});
            fields.insert("tool_choice".to_owned(), choice);
        }
        attempts::call(&self.breaker, || self.call(&body)).await
    }

    async fn call(&self, body: &Value) -> Result<Completion, ModelError> {
        let url = format!("{}/chat/completions", self.settings.url.trim_end_matches('/'));
        let mut request = self.client.post(url).json(body);
        if let Some(key) = &self.settings.api_key {
            request = request.bearer_auth(key.reveal());
        }
        let answer = request.send().await.map_err(unanswered)?;
        match answer.status().as_u16() {
            200..=299 => {}
            429 => return Err(RATE_LIMITED),
            status @ 400..=499 => {
                tracing::warn!(status, "model refuses the request");
                return Err(REFUSES);
            }
            status => {
                tracing::warn!(status, "model failed");
                return Err(UNAVAILABLE);
            }
        }
        let bytes = limited(answer).await?;
        let answer: Answer = serde_json::from_slice(&bytes).map_err(|error| {
            tracing::warn!(
                line = error.line(),
                column = error.column(),
                "answer of the model cannot be read"
            );
            UNAVAILABLE
        })?;
        let message = answer.choices.into_iter().next().ok_or(UNAVAILABLE)?.message;
        let called = message
            .tool_calls
            .into_iter()
            .flatten()
            .next()
            .map(|call| call.function);
        let arguments = called.and_then(|call| {
            let arguments: Value = serde_json::from_str(&call.arguments).ok()?;
            tracing::debug!(function = call.name, "model called a function");
            arguments.is_object().then_some(arguments)
        });
        Ok(Completion {
            content: message.content,
            arguments,
            input_tokens: answer.usage.prompt_tokens,
            output_tokens: answer.usage.completion_tokens,
        })
    }
}

/// The endpoint's address may hold a credential, so it is not logged.
fn unanswered(error: reqwest::Error) -> ModelError {
    tracing::warn!(
        error = &error.without_url() as &dyn std::error::Error,
        "model does not answer"
    );
    UNAVAILABLE
}

async fn limited(mut answer: reqwest::Response) -> Result<Vec<u8>, ModelError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unanswered)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ANSWER_BYTES_MAX {
            tracing::warn!(bytes_max = ANSWER_BYTES_MAX, "answer of the model is too large");
            return Err(UNAVAILABLE);
        }
    }
    Ok(bytes)
}
