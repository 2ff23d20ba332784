//! `GET /api/openapi.json`: every call, composed from the schemas of the protocol's own types, so that it cannot say
//! anything else than what is sent.

mod calls;

use std::sync::OnceLock;

use axum::response::IntoResponse;
use http::header;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use kingsguard_protocol::{ErrorCode, ErrorFrame};

/// The document as it is sent; it depends on nothing but the program.
pub(super) async fn document() -> impl IntoResponse {
    static DOCUMENT: OnceLock<String> = OnceLock::new();
    let text = DOCUMENT.get_or_init(|| compose().to_string()).as_str();
    ([(header::CONTENT_TYPE, "application/json")], text)
}

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// Anyone.
    Open,
    /// Who has an access token.
    Bearer,
    /// Who has an access token or a ticket, in any of the carriers of AUTH-2.
    Carried,
}

/// A body, of a request or an answer.
struct Content {
    /// Empty where there is no body.
    media_type: &'static str,
    schema: Option<fn(&mut SchemaGenerator) -> Schema>,
}

impl Content {
    const fn json<T: JsonSchema>() -> Self {
        Self {
            media_type: "application/json",
            schema: Some(SchemaGenerator::subschema_for::<T>),
        }
    }

    const fn nothing() -> Self {
        Self {
            media_type: "",
            schema: None,
        }
    }

    const fn text(media_type: &'static str) -> Self {
        Self {
            media_type,
            schema: None,
        }
    }

    fn describe(&self, schemas: &mut SchemaGenerator) -> Value {
        let schema = self
            .schema
            .map_or_else(|| json!({"type": "string"}), |make| make(schemas).to_value());
        json!({ self.media_type: { "schema": schema } })
    }
}

/// A parameter in path, query or header.
struct Parameter {
    name: &'static str,
    place: &'static str,
    description: &'static str,
    schema: fn() -> Value,
}

/// One call.
struct Call {
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    access: Access,
    parameters: Vec<Parameter>,
    /// Kinds of body, of which one comes; none where the call takes no body.
    takes: Vec<Content>,
    /// Whether the body may be left out.
    takes_nothing_too: bool,
    status: u16,
    answers: Content,
    /// Other answers than errors.
    answers_too: Vec<(u16, &'static str, Content)>,
    refuses: Vec<ErrorCode>,
}

fn compose() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut schemas = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for call in calls::all() {
        let described = describe(&call, &mut schemas);
        let path = paths.entry(call.path).or_insert_with(|| json!({}));
        if let Some(methods) = path.as_object_mut() {
            methods.insert(call.method.to_owned(), described);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Kingsguard reference backend",
            "version": crate::VERSION,
            "description": "The HTTP calls of the agent event contract. Refusals carry one error body, named by \
                `error_code`. The WebSocket at `GET /ws` is described by the contract.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" }
        },
        "paths": paths,
        "components": {
            "schemas": schemas.take_definitions(true),
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" },
                "ticket": { "type": "apiKey", "in": "query", "name": "ticket" },
                "token": { "type": "apiKey", "in": "query", "name": "token" }
            }
        }
    })
}

fn describe(call: &Call, schemas: &mut SchemaGenerator) -> Value {
    let mut described = json!({
        "operationId": operation_id(call),
        "summary": call.summary,
        "security": match call.access {
            Access::Open => json!([]),
            Access::Bearer => json!([{ "bearer": [] }]),
            Access::Carried => json!([{ "bearer": [] }, { "ticket": [] }, { "token": [] }]),
        },
        "responses": responses(call, schemas),
    });
    if !call.parameters.is_empty() {
        let parameters = call.parameters.iter().map(|parameter| {
            json!({
                "name": parameter.name,
                "in": parameter.place,
                "required": parameter.place == "path",
                "description": parameter.description,
                "schema": (parameter.schema)(),
            })
        });
        described["parameters"] = parameters.collect();
    }
    if !call.takes.is_empty() {
        let mut content = Map::new();
        for body in &call.takes {
            if let Value::Object(kind) = body.describe(schemas) {
                content.extend(kind);
            }
        }
        described["requestBody"] = json!({ "required": !call.takes_nothing_too, "content": content });
    }
    described
}

fn responses(call: &Call, schemas: &mut SchemaGenerator) -> Value {
    let mut responses = Map::new();
    let good = json!({ "description": call.summary, "content": call.answers.describe(schemas) });
    responses.insert(call.status.to_string(), good);
    for (status, description, content) in &call.answers_too {
        let answer = json!({ "description": description, "content": content.describe(schemas) });
        responses.insert(status.to_string(), answer);
    }
    let error = schemas.subschema_for::<ErrorFrame>().to_value();
    for code in all_refusals(call) {
        let status = code.http_status().to_string();
        if let Some(known) = responses.get_mut(&status) {
            if let Some(Value::String(text)) = known.get_mut("description") {
                text.push_str(&format!(", {code}"));
            }
            continue;
        }
        let answer = json!({
            "description": code.as_str(),
            "content": { "application/json": { "schema": error } }
        });
        responses.insert(status, answer);
    }
    Value::Object(responses)
}

/// A call's own refusals and those that follow from what it takes and who may call it.
fn all_refusals(call: &Call) -> Vec<ErrorCode> {
    let mut codes = Vec::new();
    if call.access != Access::Open {
        codes.extend([
            ErrorCode::AuthRequired,
            ErrorCode::AuthTokenInvalid,
            ErrorCode::AuthTokenExpired,
            ErrorCode::AuthTokenRevoked,
            ErrorCode::DatabaseUnavailable,
        ]);
    }
    if !call.takes.is_empty() {
        codes.extend([
            ErrorCode::JsonParseError,
            ErrorCode::ValidationError,
            ErrorCode::MessageTooLarge,
        ]);
    }
    for code in &call.refuses {
        if !codes.contains(code) {
            codes.push(*code);
        }
    }
    codes.push(ErrorCode::InternalError);
    codes
}

fn operation_id(call: &Call) -> String {
    let words = call
        .path
        .split(['/', '.', '-'])
        .filter(|word| !word.is_empty() && *word != "api");
    let words: Vec<String> = words.map(|word| word.trim_matches(['{', '}']).to_owned()).collect();
    format!("{}_{}", call.method, words.join("_"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::Body;
    use axum::extract::{ConnectInfo, Request};
    use pretty_assertions::assert_eq;
    use tower::ServiceExt as _;

    use super::*;
    use crate::app::App;
    use crate::config::Config;

    fn node() -> Arc<App> {
        let loaded = Config::from_variables([
            ("KINGSGUARD_JWT_SECRET", "0123456789abcdef0123456789abcdef"),
            (
                "KINGSGUARD_DATABASE_URL",
                "postgres://kingsguard@127.0.0.1:1/kingsguard",
            ),
            ("KINGSGUARD_DATABASE_ACQUIRE_TIMEOUT_MS", "50"),
            ("KINGSGUARD_REDIS_URL", "redis://127.0.0.1:1/"),
            ("KINGSGUARD_ARGON2_MEMORY_KIB", "8"),
            ("KINGSGUARD_DEV_LOGIN", "true"),
        ]);
        App::new(loaded.expect("complete").config).expect("wires without its services")
    }

    #[tokio::test]
    async fn every_described_call_is_there_and_no_other_method() {
        let app = node();
        for call in calls::all() {
            let path = call.path.replace("{thread_id}", "t").replace("{run_id}", "r");
            let ask = async |method: &str| {
                let mut request = Request::builder()
                    .method(method)
                    .uri(&path)
                    .body(Body::empty())
                    .expect("a request");
                request
                    .extensions_mut()
                    .insert(ConnectInfo(std::net::SocketAddr::from(([127, 0, 0, 1], 1))));
                let answer = super::super::router(Arc::clone(&app))
                    .oneshot(request)
                    .await
                    .expect("infallible");
                answer.status().as_u16()
            };
            let status = ask(&call.method.to_uppercase()).await;
            assert!(
                ![404, 405].contains(&status),
                "{} {} answers {status}",
                call.method,
                call.path
            );
            assert_eq!(ask("TRACE").await, 405, "{}", call.path);
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = compose();
        let text = document.to_string();
        let schemas = document["components"]["schemas"].as_object().expect("schemas");
        let mut references = 0;
        for found in text.split("\"$ref\":\"").skip(1) {
            let target = found.split('"').next().expect("a quoted text");
            let name = target
                .strip_prefix("#/components/schemas/")
                .expect("a reference into the schemas");
            assert!(schemas.contains_key(name), "{target}");
            references += 1;
        }
        assert!(references > 0);
    }

    #[test]
    fn operation_ids_are_unique() {
        let mut ids: Vec<String> = calls::all().iter().map(operation_id).collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }
}
