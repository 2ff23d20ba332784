//! What is taken and what is refused, in both formats.

use pretty_assertions::assert_eq;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::usage::json;

fn read(format: &str, text: &str) -> (Result<u64, Refusal>, Vec<UsageRow>) {
    let catalogue = Arc::new(PriceCatalogue::builtin().expect("the catalogue is well formed"));
    let mut kept = Vec::new();
    let outcome = {
        let rows = RowReader::new(catalogue, 2, |batch: Vec<UsageRow>| {
            kept.extend(batch);
            true
        });
        match format {
            "csv" => read_csv(text.as_bytes(), rows),
            _ => json::read(text.as_bytes(), rows),
        }
    };
    (outcome, kept)
}

fn refusal(format: &str, text: &str) -> Value {
    let error: ApiError = read(format, text).0.expect_err("it is refused").into();
    json!({"code": error.code.as_str(), "details": error.details})
}

const HEADER: &str = "timestamp,model,input_tokens,output_tokens,latency_ms,feature,success,cost_microusd\n";

#[test]
fn the_same_rows_are_read_from_json_and_csv() {
    let csv = format!(
        "\u{feff}{HEADER}2026-01-31T08:15:30.250Z,gpt-4o,1000,100,950,\"a,b\",,\r\n\
         2026-01-31 08:16:00,own-model,1,2,,,false,7\r\n"
    );
    let json = json!({"note": [1], "records": [
        {"timestamp": "2026-01-31T08:15:30.250Z", "model": "gpt-4o", "input_tokens": 1000, "output_tokens": 100,
         "latency_ms": 950, "feature": "a,b", "unknown": {"x": [1]}},
        {"timestamp": "2026-01-31 08:16:00", "model": "own-model", "input_tokens": 1, "output_tokens": 2,
         "success": false, "cost_microusd": 7, "feature": null},
    ]});
    let (from_csv, from_json) = (read("csv", &csv), read("json", &json.to_string()));
    assert_eq!((from_csv.0.expect("rows fit"), from_json.0.expect("rows fit")), (2, 2));
    assert_eq!(from_csv.1, from_json.1);
    assert_eq!(from_csv.1[0].cost_microusd, 3_500, "by the price catalogue");
    assert_eq!((from_csv.1[1].success, from_csv.1[1].latency_ms), (false, None));
}

#[test]
fn every_bad_row_of_csv_is_told_by_its_first_line_and_pointer() {
    let csv = format!(
        "{HEADER}2026-01-31T08:15:30Z,gpt-4o,1,1,1,,,\n\n2026-01-31T08:15:30Z,\"gpt\n4o\",1,1,1,,,\n\
         never,gpt-4o,1,1,1,,,\n2026-01-31T08:15:30Z,gpt-4o,1.5,1,1,,,\n2026-01-31T08:15:30Z,gpt-4o,1,1,,,,\n1,2\n"
    );
    let details = &refusal("csv", &csv)["details"];
    let rows: Vec<(u64, &str)> = details["rows"]
        .as_array()
        .expect("rows are listed")
        .iter()
        .map(|row| {
            (
                row["line"].as_u64().unwrap_or(0),
                row["pointer"].as_str().unwrap_or("?"),
            )
        })
        .collect();
    let expected = [
        (4, "/cost_microusd"),
        (6, "/timestamp"),
        (7, "/input_tokens"),
        (8, "/latency_ms"),
        (9, ""),
    ];
    assert_eq!(rows, expected);
    assert_eq!(details["rows_total"], 5);
}

#[test]
fn a_bad_row_of_json_is_told_by_its_place() {
    let text = r#"{"records": [{"timestamp": "2026-01-31T08:15:30Z", "model": "gpt-4o", "input_tokens": 1, "output_tokens": 1,
        "latency_ms": 5}, 7, {"timestamp": "2026-01-31T08:15:30Z", "model": "a\u0000b", "input_tokens": 1,
        "output_tokens": 1, "latency_ms": 5, "cost_microusd": 1}]}"#;
    let found = refusal("json", text);
    assert_eq!(found["code"], "VALIDATION_ERROR");
    assert_eq!(found["details"]["rows"][0]["line"], 2);
    assert_eq!(found["details"]["rows"][1]["line"], 3);
    assert_eq!(found["details"]["rows"][1]["pointer"], "/model");
}

#[rstest]
#[case("json", r#"{"records": []}"#, "VALIDATION_ERROR")]
#[case("json", "{}", "VALIDATION_ERROR")]
#[case("json", "[]", "VALIDATION_ERROR")]
#[case("json", r#"{"records": 7}"#, "VALIDATION_ERROR")]
#[case("json", r#"{"records": [{}], "records": []}"#, "VALIDATION_ERROR")]
#[case("json", r#"{"records": [}"#, "JSON_PARSE_ERROR")]
#[case("json", "", "JSON_PARSE_ERROR")]
#[case("json", r#"{"records": []} x"#, "JSON_PARSE_ERROR")]
#[case("csv", "", "VALIDATION_ERROR")]
#[case("csv", HEADER, "VALIDATION_ERROR")]
#[case("csv", "timestamp,model\n1,2\n", "VALIDATION_ERROR")]
#[case("csv", "timestamp,timestamp\n", "VALIDATION_ERROR")]
fn what_is_no_set_of_rows_is_refused(#[case] format: &str, #[case] text: &str, #[case] code: &str) {
    assert_eq!(refusal(format, text)["code"], code);
}

#[test]
fn a_refusal_lists_a_hundred_rows_and_counts_all() {
    let text = json!({"records": vec![7; 250]}).to_string();
    let details = &refusal("json", &text)["details"];
    assert_eq!(details["rows"].as_array().map(Vec::len), Some(LISTED_MAX));
    assert_eq!(details["rows_total"], 250);
}

#[test]
fn one_row_more_than_allowed_is_refused_before_it_is_judged() {
    let text = format!("{{\"records\": [{}7]}}", "7,".repeat(ROWS_MAX as usize));
    assert_eq!(refusal("json", &text)["details"]["pointer"], "/records");
}

#[test]
fn deep_nesting_in_a_row_does_no_harm() {
    let deep = format!(
        "{{\"records\": [{{\"x\": {}{}}}]}}",
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    assert_eq!(refusal("json", &deep)["code"], "VALIDATION_ERROR");
}
