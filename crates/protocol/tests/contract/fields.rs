//! The fields of each client message: what is refused, with its exact pointer and what was expected there.

use kingsguard_protocol::client::{ClientBody, ConfirmationStatus};
use kingsguard_protocol::control::UsagePeriod;
use pretty_assertions::assert_eq;

use crate::decode::{check, read};

#[test]
fn lists_and_objects_are_what_they_must_be() {
    let user = |field: &str| format!(r#"{{"type":"user_message","content":"x",{field}}}"#);
    check(&user(r#""references":{}"#), "/references", "a list");
    check(&user(r#""metadata":[]"#), "/metadata", "an object");
    check(&user(r#""metadata":"{}""#), "/metadata", "an object");
    check(
        r#"{"type":"start_agent","agent_name":"a","user_request":"b","context":1}"#,
        "/context",
        "an object",
    );
    check(
        r#"{"type":"create_thread","payload":{"metadata":[]}}"#,
        "/payload/metadata",
        "an object",
    );
}

#[test]
fn each_type_asks_for_its_fields() {
    let filled = "a string that is not blank";
    check(r#"{"type":"start_agent","user_request":"x"}"#, "/agent_name", filled);
    check(
        r#"{"type":"start_agent","agent_name":" ","user_request":"x"}"#,
        "/agent_name",
        filled,
    );
    check(r#"{"type":"stop_agent"}"#, "/run_id", "a string");
    check(
        r#"{"type":"stop_agent","payload":{"run_id":7}}"#,
        "/payload/run_id",
        "a string",
    );
    check(
        r#"{"type":"stop_agent","run_id":"r","reason":[]}"#,
        "/reason",
        "a string of at most 1,000 characters",
    );
    check(r#"{"type":"agent_status_request","run_id":7}"#, "/run_id", "a string");
    check(
        r#"{"type":"confirmation","status":"confirmed"}"#,
        "/event_id",
        "a string",
    );
    check(
        r#"{"type":"confirmation","event_id":"e"}"#,
        "/status",
        "`confirmed` or `failed`",
    );
    check(
        r#"{"type":"confirmation","event_id":"e","status":"CONFIRMED"}"#,
        "/status",
        "`confirmed` or `failed`",
    );
    check(
        r#"{"type":"create_thread","title":7}"#,
        "/title",
        "a string of 1–256 characters",
    );
    check(
        r#"{"type":"rename_thread","thread_id":"t"}"#,
        "/title",
        "a string of 1–256 characters",
    );
    check(
        r#"{"type":"rename_thread","thread_id":"t","title":" "}"#,
        "/title",
        "a string of 1–256 characters that is not blank",
    );
    for named in ["switch_thread", "rename_thread", "delete_thread"] {
        check(
            &format!(r#"{{"type":"{named}","title":"x"}}"#),
            "/thread_id",
            "a string",
        );
        check(
            &format!(r#"{{"type":"{named}","title":"x","thread_id":null}}"#),
            "/thread_id",
            "a string",
        );
        check(
            &format!(r#"{{"type":"{named}","payload":{{"title":"x"}}}}"#),
            "/payload/thread_id",
            "a string",
        );
    }
    check(r#"{"type":"list_threads","cursor":7}"#, "/cursor", "a string");
    check(r#"{"type":"auth"}"#, "/token", filled);
    check(r#"{"type":"auth","token":""}"#, "/token", filled);
    check(r#"{"type":"example_message","content":"x"}"#, "/category", filled);
    check(r#"{"type":"get_quality_metrics"}"#, "/run_id", "a string");
    check(
        r#"{"type":"validate_content","content_type":"json"}"#,
        "/content",
        "a string",
    );
    check(r#"{"type":"validate_content","content":"x"}"#, "/content_type", filled);
    check(
        r#"{"type":"get_usage","period":"year"}"#,
        "/period",
        "`day`, `week`, `month` or `all`",
    );
    check(
        r#"{"type":"get_usage","period":7}"#,
        "/period",
        "`day`, `week`, `month` or `all`",
    );
    check(
        r#"{"type":"disconnect","reason":7}"#,
        "/reason",
        "a string of at most 1,000 characters",
    );
}

#[test]
fn words_are_read() {
    let ClientBody::GetUsage(usage) = read(r#"{"type":"get_usage","payload":{"period":"week"}}"#).body else {
        panic!("no get_usage")
    };
    assert_eq!(usage.period, Some(UsagePeriod::Week));
    let ClientBody::Confirmation(confirmation) =
        read(r#"{"type":"confirmation","event_id":"e","status":"failed"}"#).body
    else {
        panic!("no confirmation")
    };
    assert_eq!(confirmation.status, ConfirmationStatus::Failed);
}

#[test]
fn pages_have_1_to_100_things() {
    for named in ["list_threads", "get_thread_history"] {
        for limit in ["0", "101", "-1", "1.5", "\"10\"", "99999999999999999999999", "true"] {
            check(
                &format!(r#"{{"type":"{named}","limit":{limit}}}"#),
                "/limit",
                "an integer of 1–100",
            );
        }
        for limit in ["1", "100", "null"] {
            read(&format!(r#"{{"type":"{named}","limit":{limit}}}"#));
        }
    }
    for before in ["-1", "1.5", "\"7\""] {
        let text = format!(r#"{{"type":"get_thread_history","payload":{{"before":{before}}}}}"#);
        check(&text, "/payload/before", "an integer of 0 or more");
    }
}

#[test]
fn a_resume_is_judged_entry_by_entry() {
    let acknowledged = |resume: &str| format!(r#"{{"type":"handshake_acknowledged","resume":{resume}}}"#);
    let list = "a list of at most 1,000 threads";
    let count = "an integer of 0 or more";
    check(&acknowledged("{}"), "/resume", list);
    check(&acknowledged("7"), "/resume", list);
    check(&acknowledged("[7]"), "/resume/0", "an object");
    check(&acknowledged(r#"[["t","e",1]]"#), "/resume/0", "an object");
    check(&acknowledged("[{}]"), "/resume/0/thread_id", "a string");
    check(&acknowledged(r#"[{"thread_id":"t"}]"#), "/resume/0/epoch", "a string");
    check(
        &acknowledged(r#"[{"thread_id":"t","epoch":7,"after":1}]"#),
        "/resume/0/epoch",
        "a string",
    );
    check(
        &acknowledged(r#"[{"thread_id":"t","epoch":"e"}]"#),
        "/resume/0/after",
        count,
    );
    for after in ["-1", "1.5", "\"1\"", "null"] {
        let text = acknowledged(&format!(
            r#"[{{"thread_id":"s","epoch":"e","after":1}},{{"thread_id":"t","epoch":"e","after":{after}}}]"#
        ));
        check(&text, "/resume/1/after", count);
    }
    check(
        &acknowledged(r#"[{"thread_id":"t","epoch":"e","after":1},{"thread_id":"t","epoch":"f","after":2}]"#),
        "/resume/1/thread_id",
        "a thread that the list has only once",
    );
    check(
        r#"{"type":"handshake_acknowledged","payload":{"resume":[{"thread_id":7}]}}"#,
        "/payload/resume/0/thread_id",
        "a string",
    );
    let many: Vec<String> = (0..1_001)
        .map(|n| format!(r#"{{"thread_id":"t{n}","epoch":"e","after":0}}"#))
        .collect();
    check(&acknowledged(&format!("[{}]", many.join(","))), "/resume", list);
    read(&acknowledged("null"));
    read(&acknowledged("[]"));

    let text = acknowledged(r#"[{"thread_id":"t","epoch":"e","after":99999999999999999999,"more":[1]}]"#);
    let ClientBody::HandshakeAcknowledged(body) = read(&text).body else {
        panic!("no acknowledgement")
    };
    // Above every log, and still what Postgres can hold.
    assert_eq!(body.resume[0].point.after, 9_223_372_036_854_775_807);
}

#[test]
fn a_switch_may_resume_and_what_it_resumes_from_is_judged() {
    let switch = |resume: &str| format!(r#"{{"type":"switch_thread","thread_id":"t","resume":{resume}}}"#);
    check(&switch("[]"), "/resume", "an object");
    check(&switch("{}"), "/resume/epoch", "a string");
    check(
        &switch(r#"{"epoch":"e","after":-1}"#),
        "/resume/after",
        "an integer of 0 or more",
    );
    read(&switch("null"));
    let ClientBody::SwitchThread(body) = read(&switch(r#"{"epoch":"e","after":7}"#)).body else {
        panic!("no switch_thread")
    };
    assert_eq!(
        body.resume.map(|point| (point.epoch, point.after)),
        Some(("e".into(), 7))
    );
}
