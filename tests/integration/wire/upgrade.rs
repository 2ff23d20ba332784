//! From an HTTP request to a WebSocket (CON-1, AUTH-3, AUTH-7): what is refused how, and what is echoed.

use kingsguard_testkit::Head;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

use crate::forged;

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
const VERSION: &str = "Sec-WebSocket-Version: 13";

/// Sends an upgrade with these further header lines on a connection of its own.
async fn answer(ctx: &TestContext, first: &str, lines: &[&str]) -> Head {
    let all: Vec<&str> = std::iter::once(first).chain(lines.iter().copied()).collect();
    ctx.raw().await.request(&all).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_accept_header_fits_the_key_of_the_rfc() {
    TestContext::wire(case!("CON-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let head = ctx.raw().await.upgrade(&ada.options()).await;
            assert_eq!(head.status, 101);
            // RFC 6455 §1.3 gives this pair.
            assert_eq!(
                head.header("sec-websocket-accept"),
                Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
            );
            let lower = |name: &str| head.header(name).map(str::to_ascii_lowercase);
            assert_eq!(lower("upgrade").as_deref(), Some("websocket"));
            assert_eq!(lower("connection").as_deref(), Some("upgrade"));
            assert_eq!(head.header("sec-websocket-extensions"), None);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_version_is_refused_with_426_and_the_one_that_is_spoken() {
    TestContext::wire(case!("CON-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let bearer = format!("Authorization: Bearer {}", ada.access_token());
            for version in ["8", "7", "0", "14", "255", "x"] {
                let version = format!("Sec-WebSocket-Version: {version}");
                let lines = ["Connection: Upgrade", "Upgrade: websocket", KEY, &version, &bearer];
                let head = answer(ctx, "GET /ws HTTP/1.1", &lines).await;
                assert_eq!(
                    (head.status, head.header("sec-websocket-version")),
                    (426, Some("13")),
                    "{version}"
                );
            }
            let lines = ["Connection: Upgrade", "Upgrade: websocket", KEY, &bearer];
            let head = answer(ctx, "GET /ws HTTP/1.1", &lines).await;
            assert_eq!(
                (head.status, head.header("sec-websocket-version")),
                (426, Some("13")),
                "no version"
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_no_upgrade_is_refused() {
    TestContext::wire(case!("CON-1", "HTTP-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let bearer = format!("Authorization: Bearer {}", ada.access_token());
            let (connection, upgrade) = ("Connection: Upgrade", "Upgrade: websocket");
            let status = async |first: &str, lines: &[&str]| {
                let lines: Vec<&str> = lines.iter().copied().chain([bearer.as_str()]).collect();
                answer(ctx, first, &lines).await.status
            };
            let get = "GET /ws HTTP/1.1";
            assert_eq!(status(get, &[connection, upgrade, VERSION]).await, 400, "no key");
            let short = "Sec-WebSocket-Key: c2hvcnQ=";
            assert_eq!(
                status(get, &[connection, upgrade, VERSION, short]).await,
                400,
                "key of 5 bytes"
            );
            let odd = "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!!!";
            assert_eq!(
                status(get, &[connection, upgrade, VERSION, odd]).await,
                400,
                "key that is no base64"
            );
            for (name, lines) in [
                ("no Upgrade", vec![connection, VERSION, KEY]),
                ("no Connection", vec![upgrade, VERSION, KEY]),
                ("another protocol", vec![connection, "Upgrade: h2c", VERSION, KEY]),
            ] {
                let came = status(get, &lines).await;
                assert!(came == 400 || came == 426, "{name} is refused with {came}");
            }
            let post = "POST /ws HTTP/1.1";
            let lines = [connection, upgrade, VERSION, KEY, "Content-Length: 0"];
            assert_eq!(status(post, &lines).await, 405, "POST");
            let answer = ctx.http().post("/ws", &json!({})).await;
            let _error = answer.expect_error(ErrorCode::MethodNotAllowed);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_names_and_tokens_are_read_in_any_case() {
    TestContext::wire(case!("CON-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let bearer = format!("authorization: bearer {}", ada.access_token());
            let lines = [
                "connection: keep-alive, UPGRADE",
                "upgrade: WebSocket",
                "sec-websocket-version: 13",
                "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
                &bearer,
            ];
            assert_eq!(answer(ctx, "GET /ws HTTP/1.1", &lines).await.status, 101);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_credential_is_judged_before_the_version() {
    TestContext::wire(case!("AUTH-7", "AUTH-1"))
        .run(async |ctx| {
            let lines = [
                "Connection: Upgrade",
                "Upgrade: websocket",
                KEY,
                "Sec-WebSocket-Version: 8",
            ];
            assert_eq!(answer(ctx, "GET /ws HTTP/1.1", &lines).await.status, 401);
        })
        .await;
}

/// Every form in which a sub-protocol may carry a token (AUTH-2).
fn forms(token: &str) -> Vec<String> {
    let whole = forged::encoded_whole(token);
    let mut forms = Vec::new();
    for prefix in ["jwt", "jwt-auth", "bearer", "staging-auth"] {
        forms.push(format!("{prefix}.{token}"));
        forms.push(format!("{prefix}.{whole}"));
        for environment in ["local", "development", "staging", "production"] {
            forms.push(format!("{prefix}.{environment}.{token}"));
            forms.push(format!("{prefix}.{environment}.{whole}"));
        }
    }
    forms
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_form_of_the_sub_protocol_is_accepted_and_echoed_as_it_was_offered() {
    TestContext::wire(case!("AUTH-2", "AUTH-3"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let forms = forms(&ada.access_token());
            assert_eq!(forms.len(), 40);
            for form in forms {
                let head = ctx
                    .raw()
                    .await
                    .upgrade(&ConnectOptions::default().with_protocol(form.clone()))
                    .await;
                let echoed = head.header("sec-websocket-protocol");
                assert!(
                    echoed.is_none_or(|echoed| echoed == form),
                    "offered {form}, echoed {echoed:?}"
                );
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sub_protocol_that_was_not_offered_is_never_echoed() {
    TestContext::wire(case!("AUTH-2", "AUTH-3"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let token = ada.access_token();
            let by = |options: ConnectOptions| async move {
                let head = ctx.raw().await.upgrade(&options).await;
                head.header("sec-websocket-protocol").map(str::to_owned)
            };
            assert_eq!(by(ConnectOptions::default().with_bearer(&token)).await, None);
            assert_eq!(by(ConnectOptions::default().with_token_query(&token)).await, None);
            assert_eq!(
                by(ConnectOptions::default().with_ticket(ada.ticket().await.ticket.reveal())).await,
                None
            );
            let chat = ConnectOptions::default()
                .with_bearer(&token)
                .with_protocols(["chat", "graphql-ws"]);
            assert_eq!(by(chat).await, None, "nothing that carried the token was offered");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_offered_of_the_four_prefixes_decides() {
    TestContext::wire(case!("AUTH-2", "AUTH-3"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let token = ada.access_token();
            let good = format!("bearer.{token}");
            let options =
                ConnectOptions::default().with_protocols(["chat".to_owned(), good.clone(), "jwt.nonsense".into()]);
            let head = ctx.raw().await.upgrade(&options).await;
            let echoed = head.header("sec-websocket-protocol");
            assert!(echoed.is_none_or(|echoed| echoed == good), "echoed {echoed:?}");
            let options = ConnectOptions::default().with_protocols(["jwt.nonsense".to_owned(), good]);
            ada.refused(options, ErrorCode::AuthTokenInvalid).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seven_copies_in_one_header_field_are_accepted() {
    TestContext::wire(case!("AUTH-2", "AUTH-3"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let token = ada.access_token();
            let offered: Vec<String> = [
                "jwt.local",
                "jwt-auth.local",
                "bearer.local",
                "staging-auth",
                "jwt",
                "jwt-auth",
                "bearer",
            ]
            .iter()
            .map(|prefix| format!("{prefix}.{token}"))
            .collect();
            let options = ConnectOptions::default().with_protocols(offered.clone());
            let head = ctx.raw().await.upgrade(&options).await;
            let echoed = head.header("sec-websocket-protocol");
            assert!(echoed.is_none_or(|echoed| echoed == offered[0]), "echoed {echoed:?}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_field_of_32_kib_is_read() {
    TestContext::wire(case!("AUTH-2"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let token = format!("jwt.{}", ada.access_token());
            let filling = format!("x{}", "y".repeat(32 * 1024 - token.len() - 3));
            let options = ConnectOptions::default().with_protocols([token.clone(), filling]);
            let head = ctx.raw().await.upgrade(&options).await;
            let echoed = head.header("sec-websocket-protocol");
            assert!(echoed.is_none_or(|echoed| echoed == token), "echoed {echoed:?}");
        })
        .await;
}
