//! JSON Schemas (2020-12) of everything on the wire, for `docs/schema/` and for clients in other languages.
//!
//! What a backend sends is described as it is written: an absent field is absent, never `null`. What a client sends is
//! described in the one form that every backend must read; what is tolerated beyond it (MSG-0: aliases, `payload`,
//! `null`) is said in the contract and not here.

use schemars::generate::{Contract, SchemaSettings};
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use crate::http::{
    AgentList, ChatAccepted, CreateThreadRequest, HealthResponse, LoginRequest, MeResponse, RefreshRequest,
    RegisterRequest, RenameThreadRequest, RowError, RunResponse, ThreadPage, ThreadSummary, TicketRequest,
    TicketResponse, TokenResponse, UsageRecord, UsageRecordsRequest, UsageRecordsResponse,
};
use crate::{ClientMessage, CloseCode, ControlFrame, ErrorFrame, Event};

/// A schema and the name under which it is published.
#[derive(Clone, Debug)]
pub struct NamedSchema {
    /// Name without extension, such as `event`.
    pub name: &'static str,
    /// The schema.
    pub schema: Schema,
}

/// Every schema, by name.
#[must_use]
pub fn schemas() -> Vec<NamedSchema> {
    let mut schemas = vec![
        sent::<Event>("event"),
        sent::<ControlFrame>("control_frame"),
        sent::<ErrorFrame>("error"),
        sent::<CloseCode>("close_code"),
        sent::<TokenResponse>("http_token_response"),
        sent::<MeResponse>("http_me_response"),
        sent::<TicketResponse>("http_ticket_response"),
        sent::<UsageRecordsResponse>("http_usage_records_response"),
        sent::<RowError>("http_row_error"),
        sent::<ChatAccepted>("http_chat_accepted"),
        sent::<ThreadSummary>("http_thread_summary"),
        sent::<ThreadPage>("http_thread_page"),
        sent::<crate::control::ThreadHistory>("http_thread_history"),
        sent::<crate::control::UsageReport>("http_usage_report"),
        sent::<AgentList>("http_agent_list"),
        sent::<RunResponse>("http_run_response"),
        sent::<HealthResponse>("http_health_response"),
        taken::<ClientMessage>("client_message"),
        taken::<RegisterRequest>("http_register_request"),
        taken::<LoginRequest>("http_login_request"),
        taken::<RefreshRequest>("http_refresh_request"),
        taken::<TicketRequest>("http_ticket_request"),
        taken::<UsageRecord>("http_usage_record"),
        taken::<UsageRecordsRequest>("http_usage_records_request"),
        taken::<CreateThreadRequest>("http_create_thread_request"),
        taken::<RenameThreadRequest>("http_rename_thread_request"),
    ];
    for named in schemas.iter_mut().filter(|named| named.name == "client_message") {
        require_thread_ids(&mut named.schema);
    }
    schemas.sort_by_key(|named| named.name);
    schemas
}

/// Of what a backend sends.
fn sent<T: JsonSchema>(name: &'static str) -> NamedSchema {
    NamedSchema {
        name,
        schema: described::<T>(Contract::Serialize),
    }
}

/// Of what a backend takes.
fn taken<T: JsonSchema>(name: &'static str) -> NamedSchema {
    NamedSchema {
        name,
        schema: described::<T>(Contract::Deserialize),
    }
}

fn described<T: JsonSchema>(contract: Contract) -> Schema {
    SchemaSettings::draft2020_12()
        .with(|settings| settings.contract = contract)
        .with_transform(AbsentIsAbsent)
        .into_generator()
        .into_root_schema_for::<T>()
}

/// The envelope's `thread_id` is optional but for these, which name their thread (contract §12, MSG).
fn require_thread_ids(client_message: &mut Schema) {
    const NAMING: [&str; 3] = ["switch_thread", "rename_thread", "delete_thread"];
    let Some(Value::Array(choices)) = client_message.get_mut("oneOf") else {
        return;
    };
    for choice in choices {
        let named = choice.pointer("/properties/type/const").and_then(Value::as_str);
        if named.is_some_and(|name| NAMING.contains(&name))
            && let Some(Value::Array(required)) = choice.get_mut("required")
        {
            required.push("thread_id".into());
        }
    }
}

/// Takes `null` out of what a field may be: where a field has nothing to say, it is absent.
#[derive(Clone, Debug)]
struct AbsentIsAbsent;

impl Transform for AbsentIsAbsent {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(Value::Array(types)) = schema.get_mut("type") {
            types.retain(|name| name != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                schema.insert("type".to_owned(), only);
            }
        }
        if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
            choices.retain(|choice| choice.get("type").is_none_or(|name| name != "null"));
            if let [Value::Object(only)] = choices.as_slice() {
                let only = only.clone();
                schema.remove("anyOf");
                for (key, value) in only {
                    schema.insert(key, value);
                }
            }
        }
        if schema.get("default") == Some(&Value::Null) {
            schema.remove("default");
        }
        transform_subschemas(self, schema);
    }
}
