//! Arbitrary values of every wire type. Numbers with a fraction are such that binary and decimal agree: the contract
//! promises double precision, and JSON readers may differ in the last digit.

mod client;
mod control;
mod events;

use kingsguard_protocol::event::{Failure, RunStatus, RunUsage};
use kingsguard_protocol::{ErrorCode, Timestamp};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

pub use self::client::client_messages;
pub use self::control::control_frames;
pub use self::events::events;

/// A strategy and the type that it makes.
pub type Named<T> = (&'static str, BoxedStrategy<T>);

pub fn id<T: From<String> + std::fmt::Debug + 'static>() -> BoxedStrategy<T> {
    "[a-z]{1,9}_[0-9a-f-]{0,36}|.{1,8}"
        .prop_filter("PostgreSQL text holds no NUL", |text| !text.contains('\0'))
        .prop_map(T::from)
        .boxed()
}

pub fn timestamp() -> impl Strategy<Value = Timestamp> {
    (0_i64..253_402_300_799_999).prop_map(|unix_ms| Timestamp::from_unix_ms(unix_ms).expect("a year up to 9999"))
}

pub fn fraction() -> impl Strategy<Value = f64> {
    (0_u32..=64).prop_map(|part| f64::from(part) / 64.0)
}

pub fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 8.0)),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map("[a-z~/]{0,6}", inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

pub fn object() -> impl Strategy<Value = Map<String, Value>> {
    btree_map("[a-z~/]{0,6}", value(), 0..4).prop_map(|map| map.into_iter().collect())
}

pub fn raw(value: &Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).expect("a value is JSON")
}

/// An object as text, with an integer that no machine word holds.
pub fn raw_object() -> impl Strategy<Value = Box<RawValue>> {
    prop_oneof![
        object().prop_map(|map| raw(&Value::Object(map))),
        "[1-9][0-9]{20,60}"
            .prop_map(|digits| RawValue::from_string(format!("{{ \"n\" : [{digits}, -{digits}] }}")).expect("JSON")),
    ]
    // What a client may not send (SEC-1) is no value to come back.
    .prop_filter("no escaped NUL", |raw| !raw.get().contains("\\u0000"))
}

pub fn raw_list() -> impl Strategy<Value = Box<RawValue>> {
    vec(value(), 0..4)
        .prop_map(|list| raw(&Value::from(list)))
        .prop_filter("no escaped NUL", |raw| !raw.get().contains("\\u0000"))
}

/// Text that a client may send where it must not be blank.
pub fn filled() -> impl Strategy<Value = String> {
    ".{1,24}".prop_filter("not blank, no NUL", |text| {
        !text.trim().is_empty() && !text.contains('\0')
    })
}

pub fn failure() -> impl Strategy<Value = Failure> {
    (select(ErrorCode::ALL), any::<String>()).prop_map(|(error_code, message)| Failure { error_code, message })
}

pub fn usage() -> impl Strategy<Value = RunUsage> {
    any::<[u64; 3]>().prop_map(|[input_tokens, output_tokens, cost_microusd]| RunUsage {
        input_tokens,
        output_tokens,
        cost_microusd,
    })
}

pub fn run_status() -> impl Strategy<Value = RunStatus> {
    select(
        &[
            RunStatus::Completed,
            RunStatus::Failed,
            RunStatus::Cancelled,
            RunStatus::TimedOut,
        ][..],
    )
}
