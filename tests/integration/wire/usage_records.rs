//! `POST /api/usage-records`: all rows of a call or none, each bad row by its line (HTTP-1).

use kingsguard_protocol::http::UsageRecordsResponse;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

const PATH: &str = "/api/usage-records";

const HEADER: &str = "timestamp,model,input_tokens,output_tokens,latency_ms,feature,cost_microusd,prompt_hash,success";

/// `details.rows` of a refusal: line and pointer of each.
fn bad_rows(answer: Answer) -> Vec<(u64, String)> {
    let error = answer.expect_error(ErrorCode::ValidationError);
    let rows = error.details["rows"].as_array().expect("details.rows").clone();
    assert!(
        rows.iter()
            .all(|row| row["expected"].as_str().is_some_and(|text| !text.is_empty())),
        "{rows:?}"
    );
    rows.iter()
        .map(|row| {
            let line = row["line"].as_u64().expect("a line");
            (line, row["pointer"].as_str().expect("a pointer").to_owned())
        })
        .collect()
}

fn rows(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
    expected
        .iter()
        .map(|(line, pointer)| (*line, (*pointer).to_owned()))
        .collect()
}

/// What the agents say that this user spent, in a sentence: different as soon as one row is stored.
async fn stores_nothing(ada: &SimulatedUser, send: impl AsyncFnOnce(&Http) -> Answer) -> Answer {
    let before = context_of_a_question(ada).await;
    let answer = send(&ada.http()).await;
    assert_eq!(
        context_of_a_question(ada).await,
        before,
        "a refused call stored something"
    );
    answer
}

async fn context_of_a_question(ada: &SimulatedUser) -> Value {
    let mut chat = ada.connect().await;
    let run = chat.ask("What did I spend by model?").await;
    let answer = run.completed().result.clone();
    chat.close().await;
    answer
}

fn good() -> Value {
    json!({
        "timestamp": "2026-01-31T08:15:30Z", "model": "gpt-4o", "input_tokens": 100, "output_tokens": 20,
        "latency_ms": 900,
    })
}

fn with(changes: Value) -> Value {
    let mut row = good();
    for (name, value) in changes.as_object().expect("an object") {
        if value.is_null() {
            row.as_object_mut().expect("an object").remove(name);
        } else {
            row[name] = value.clone();
        }
    }
    row
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_rows_are_stored_as_json_and_as_csv() {
    TestContext::wire(case!("HTTP-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let records = SampleRecords::generate(ctx.seed(), 500);
            ada.upload(&records).await;
            ada.upload_csv(&records).await;
            let all_forms = json!({ "records": [
                good(),
                with(json!({ "feature": "search", "cost_microusd": 7, "prompt_hash": "abc", "success": true })),
                with(json!({ "success": false, "latency_ms": null })),
                with(json!({ "timestamp": "2026-01-31T10:15:30.123+02:00" })),
                with(json!({ "unknown": ["tolerated"] })),
                with(json!({ "input_tokens": 0, "output_tokens": 0, "latency_ms": 0 })),
            ]});
            let stored: UsageRecordsResponse = ada.http().post(PATH, &all_forms).await.expect_status(201).parse();
            assert_eq!(stored.stored, 6);
            let csv = "model,timestamp,output_tokens,input_tokens,latency_ms,feature\r\n\
                       gpt-4o,2026-01-31T08:15:30Z,20,100,900,\"several, words and \"\"quotes\"\"\"\r\n\
                       gpt-4o,2026-01-31T08:15:30Z,20,100,900,\"two\nlines\"\r\n";
            let answer = ada.http().post_as(PATH, "text/csv; charset=utf-8", csv).await;
            assert_eq!(answer.expect_status(201).parse::<UsageRecordsResponse>().stored, 2);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_bad_json_row_is_told_by_its_place_and_nothing_is_stored() {
    TestContext::wire(case!("HTTP-1", "MSG-4"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            ada.upload(&SampleRecords::generate(1, 20)).await;
            let body = json!({ "records": [
                good(),
                with(json!({ "timestamp": null })),
                with(json!({ "timestamp": "yesterday" })),
                with(json!({ "model": 7 })),
                good(),
                with(json!({ "model": "" })),
                with(json!({ "input_tokens": -1 })),
                with(json!({ "output_tokens": "20" })),
                with(json!({ "output_tokens": 1.5 })),
                with(json!({ "latency_ms": null })),
                with(json!({ "cost_microusd": -1 })),
                with(json!({ "success": "yes" })),
                with(json!({ "feature": 7 })),
                with(json!({ "prompt_hash": [] })),
                7,
            ]});
            let answer = stores_nothing(&ada, async |http: &Http| http.post(PATH, &body).await).await;
            let expected = rows(&[
                (2, "/timestamp"),
                (3, "/timestamp"),
                (4, "/model"),
                (6, "/model"),
                (7, "/input_tokens"),
                (8, "/output_tokens"),
                (9, "/output_tokens"),
                (10, "/latency_ms"),
                (11, "/cost_microusd"),
                (12, "/success"),
                (13, "/feature"),
                (14, "/prompt_hash"),
                (15, ""),
            ]);
            assert_eq!(bad_rows(answer), expected);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_bad_csv_row_is_told_by_its_line_in_the_file_and_nothing_is_stored() {
    TestContext::wire(case!("HTTP-1", "MSG-4"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            ada.upload(&SampleRecords::generate(1, 20)).await;
            let csv = [
                HEADER,
                "2026-01-31T08:15:30Z,gpt-4o,100,20,900,search,,,",
                "not a time,gpt-4o,100,20,900,search,,,",
                "2026-01-31T08:15:30Z,gpt-4o,100,20,900,\"over",
                "two lines\",,,",
                "2026-01-31T08:15:30Z,gpt-4o,many,20,900,\"over",
                "three",
                "lines\",,,",
                "2026-01-31T08:15:30Z,,100,20,900,search,,,",
                "2026-01-31T08:15:30Z,gpt-4o,100,20,,search,,,true",
                "2026-01-31T08:15:30Z,gpt-4o,100,20,,search,,,false",
                "2026-01-31T08:15:30Z,gpt-4o,100,20,900,search,1e3,,maybe",
            ]
            .join("\n");
            let answer = stores_nothing(&ada, async |http: &Http| http.post_as(PATH, "text/csv", csv).await).await;
            let came = bad_rows(answer);
            let lines: Vec<u64> = came.iter().map(|(line, _)| *line).collect();
            assert!(lines.is_sorted(), "{came:?}");
            for expected in rows(&[
                (3, "/timestamp"),
                (6, "/input_tokens"),
                (9, "/model"),
                (10, "/latency_ms"),
            ]) {
                assert!(came.contains(&expected), "{expected:?} in {came:?}");
            }
            let good: Vec<u64> = vec![2, 4, 11];
            assert!(lines.iter().all(|line| !good.contains(line)), "{came:?}");
            let last: Vec<&(u64, String)> = came.iter().filter(|(line, _)| *line == 12).collect();
            assert!(!last.is_empty(), "line 12 in {came:?}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_without_rows_or_form_is_refused() {
    TestContext::wire(case!("HTTP-1", "MSG-3", "MSG-4"))
        .run(async |ctx| {
            let http = ctx.user("ada").await.http();
            for body in [
                json!({}),
                json!({ "records": [] }),
                json!({ "records": {} }),
                json!({ "records": null }),
                json!([]),
            ] {
                let _error = http.post(PATH, &body).await.expect_error(ErrorCode::ValidationError);
            }
            for csv in ["", HEADER, "model,timestamp\n"] {
                let _error = http
                    .post_as(PATH, "text/csv", csv)
                    .await
                    .expect_error(ErrorCode::ValidationError);
            }
            let without_column = "timestamp,model,input_tokens,latency_ms\n2026-01-31T08:15:30Z,gpt-4o,1,2\n";
            let _error = http
                .post_as(PATH, "text/csv", without_column)
                .await
                .expect_error(ErrorCode::ValidationError);
            let broken = http.post_as(PATH, "application/json", "{\"records\": [{]}").await;
            let error = broken.expect_error(ErrorCode::JsonParseError);
            assert_eq!(
                (&error.details["line"], &error.details["column"]),
                (&json!(1), &json!(15))
            );
        })
        .await;
}
