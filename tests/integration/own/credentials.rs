//! Credentials whose life, key or door the test chooses (AUTH-4 … AUTH-7).

use jsonwebtoken::Algorithm;
use kingsguard_protocol::Timestamp;
use kingsguard_protocol::client::Auth;
use kingsguard_protocol::http::TokenResponse;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

use crate::forged;

/// When a token expires, in Unix milliseconds.
fn expiry_ms(token: &str) -> i64 {
    forged::claims(token)["exp"].as_i64().expect("`exp` is a number") * 1_000
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rightly_signed_token_of_another_issuer_audience_algorithm_or_time_is_refused() {
    TestContext::own(case!("AUTH-5", "AUTH-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let token = ada.access_token();
            let key = ctx.backend().await.settings()["KINGSGUARD_JWT_SECRET"]
                .clone()
                .into_bytes();
            let own = forged::claims(&token);
            let now = Timestamp::now().as_unix_ms() / 1_000;
            let mut without_end = own.clone();
            without_end.remove("exp");
            let sign = |claims: &_| forged::signed(claims, Algorithm::HS256, &key);
            let rows = [
                (
                    sign(&forged::changed(&token, json!({ "iss": "elsewhere" }))),
                    ErrorCode::AuthTokenInvalid,
                ),
                (
                    sign(&forged::changed(&token, json!({ "aud": "elsewhere" }))),
                    ErrorCode::AuthTokenInvalid,
                ),
                (sign(&without_end), ErrorCode::AuthTokenInvalid),
                (
                    forged::signed(&own, Algorithm::HS384, &key),
                    ErrorCode::AuthTokenInvalid,
                ),
                (
                    forged::signed(&own, Algorithm::HS512, &key),
                    ErrorCode::AuthTokenInvalid,
                ),
                (
                    sign(&forged::changed(&token, json!({ "exp": now - 6 }))),
                    ErrorCode::AuthTokenExpired,
                ),
                (
                    sign(&forged::changed(&token, json!({ "exp": 1 }))),
                    ErrorCode::AuthTokenExpired,
                ),
            ];
            for (bad, code) in rows {
                ctx.refused(ConnectOptions::default().with_protocol(format!("jwt.{bad}")), code)
                    .await;
                let _error = ctx.http().with_bearer(&bad).get("/auth/me").await.expect_error(code);
            }
            // The same way of signing with nothing changed is accepted, so that what was refused was the change.
            let same = ctx.http().with_bearer(&sign(&own)).get("/auth/me").await;
            assert_eq!(same.expect_status(200).json()["user_id"], json!(ada.user_id()));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_token_ends_its_connection_with_4401_after_the_error() {
    TestContext::own(case!("AUTH-6"))
        .with_setting("KINGSGUARD_ACCESS_TOKEN_TTL_MS", 3_000)
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let expiry = expiry_ms(&ada.access_token());
            let error = chat.expect_error(ErrorCode::AuthTokenExpired).await;
            let came = Timestamp::now().as_unix_ms();
            assert!(
                (expiry..=expiry + 5_000).contains(&came),
                "ended {} ms after expiry",
                came - expiry
            );
            assert_eq!(error.recovery, kingsguard_protocol::Recovery::Reauthenticate);
            assert_eq!(
                chat.expect_closed().await,
                Some(CloseCode::AuthenticationEnded.as_u16())
            );
            ada.refused(ada.options(), ErrorCode::AuthTokenExpired).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auth_with_a_fresh_token_keeps_the_connection_until_that_expires() {
    TestContext::own(case!("AUTH-6", "MSG-1"))
        .with_setting("KINGSGUARD_ACCESS_TOKEN_TTL_MS", 3_000)
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let first = expiry_ms(&ada.access_token());
            let fresh = ctx
                .eventually("a token that expires later", async || {
                    let tokens = ada.refresh().await;
                    let expiry = expiry_ms(tokens.access_token.reveal());
                    if expiry > first {
                        Ok(tokens)
                    } else {
                        Err(format!("expires at {expiry}"))
                    }
                })
                .await;
            let fresh_expiry = expiry_ms(fresh.access_token.reveal());
            let message_id = chat
                .send(Auth {
                    token: fresh.access_token.clone(),
                })
                .await;
            match chat.answer_to(&message_id).await {
                ControlFrame::AuthCompleted(done) => assert_eq!(done.expires_at.as_unix_ms(), fresh_expiry),
                other => panic!("expected auth_completed, but {other:?}"),
            }
            let error = chat.expect_error(ErrorCode::AuthTokenExpired).await;
            assert!(
                error.timestamp.as_unix_ms() >= fresh_expiry,
                "ended at {}, but the fresh token lives until {fresh_expiry}",
                error.timestamp
            );
            assert_eq!(
                chat.expect_closed().await,
                Some(CloseCode::AuthenticationEnded.as_u16())
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_made_by_a_ticket_lives_as_long_as_the_users_token() {
    TestContext::own(case!("AUTH-4", "AUTH-6"))
        .with_setting("KINGSGUARD_ACCESS_TOKEN_TTL_MS", 3_000)
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let expiry = expiry_ms(&ada.access_token());
            let ticket = ada.ticket().await;
            let mut chat = ada
                .connect_with(ConnectOptions::default().with_ticket(ticket.ticket.reveal()))
                .await;
            let error = chat.expect_error(ErrorCode::AuthTokenExpired).await;
            let late_ms = error.timestamp.as_unix_ms() - expiry;
            assert!((0..=5_000).contains(&late_ms), "ended {late_ms} ms after the token");
            assert_eq!(
                chat.expect_closed().await,
                Some(CloseCode::AuthenticationEnded.as_u16())
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_login_does_not_exist_unless_it_is_switched_on() {
    TestContext::own(case!("HTTP-1"))
        .run(async |ctx| {
            let body = json!({ "email": "dev@example.test", "password": "anything at all" });
            let _missing = ctx
                .http()
                .post("/auth/dev_login", &body)
                .await
                .expect_error(ErrorCode::NotFound);
            let _alike = ctx
                .http()
                .post("/auth/dev_login", &json!(7))
                .await
                .expect_error(ErrorCode::NotFound);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_login_makes_the_account_and_checks_no_password_and_the_log_says_so() {
    TestContext::own(case!("HTTP-1"))
        .with_setting("KINGSGUARD_DEV_LOGIN", true)
        .run(async |ctx| {
            let ada = ctx.dev_user("ada").await;
            let body = json!({ "email": ada.email(), "password": "quite another one" });
            let again: TokenResponse = ctx
                .http()
                .post("/auth/dev_login", &body)
                .await
                .expect_status(200)
                .parse();
            assert_eq!(again.user_id, ada.user_id());
            let chat = ada.connect().await;
            assert_eq!(
                chat.established().protocol_version,
                kingsguard_protocol::PROTOCOL_VERSION
            );
            let log = ctx.log_of(0).await;
            let said = log
                .lines()
                .any(|line| line.contains("WARN") && line.contains("dev_login"));
            assert!(said, "no warning about dev_login in the log: {log}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_an_allow_list_a_foreign_origin_is_refused_before_the_credential_is_judged() {
    TestContext::own(case!("AUTH-7"))
        .with_setting(
            "KINGSGUARD_ALLOWED_ORIGINS",
            "https://chat.example.test,http://localhost:3000",
        )
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            for origin in [
                "https://evil.example.test",
                "http://chat.example.test",
                "https://chat.example.test.evil.test",
                "https://chat.example.test:8443",
                "null",
            ] {
                ada.refused(ada.options().with_origin(origin), ErrorCode::OriginNotAllowed)
                    .await;
                let nobody = ConnectOptions::default().with_origin(origin);
                ctx.refused(nobody, ErrorCode::OriginNotAllowed).await;
            }
            for options in [
                ada.options(),
                ada.options().with_origin("https://chat.example.test"),
                ada.options().with_origin("http://localhost:3000"),
            ] {
                let complete = ada.open_with(options).await.handshake().await;
                assert_eq!(complete.threads.len(), 1);
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_judged_in_the_order_origin_credential_version_limits() {
    TestContext::own(case!("AUTH-7"))
        .with_setting("KINGSGUARD_ALLOWED_ORIGINS", "https://chat.example.test")
        .with_setting("KINGSGUARD_CONNECTIONS_PER_USER_MAX", 1)
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let _place = ada.connect().await;
            let bearer = format!("Authorization: Bearer {}", ada.access_token());
            let status = async |origin: &str, bearer: &str, version: &str| {
                let lines = [
                    "GET /ws HTTP/1.1",
                    "Connection: Upgrade",
                    "Upgrade: websocket",
                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                    origin,
                    bearer,
                    version,
                ];
                ctx.raw().await.request(&lines).await.status
            };
            let (foreign, listed) = ("Origin: https://evil.test", "Origin: https://chat.example.test");
            let (old, right) = ("Sec-WebSocket-Version: 8", "Sec-WebSocket-Version: 13");
            let bad = "Authorization: Bearer nonsense";
            let came = [
                status(foreign, bad, old).await,
                status(listed, bad, old).await,
                status(listed, &bearer, old).await,
                status(listed, &bearer, right).await,
            ];
            assert_eq!(came, [403, 401, 426, 429]);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_refused_for_a_limit_does_not_spend_the_ticket() {
    TestContext::own(case!("AUTH-4", "LIM-1"))
        .with_setting("KINGSGUARD_CONNECTIONS_PER_USER_MAX", 1)
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut place = ada.connect().await;
            let ticket = ada.ticket().await;
            let options = || ConnectOptions::default().with_ticket(ticket.ticket.reveal());
            ada.refused(options(), ErrorCode::ConnectionLimit).await;
            assert_eq!(place.close().await, Some(1_000));
            ada.connect_with(options()).await;
            ada.refused(options(), ErrorCode::AuthTokenInvalid).await;
        })
        .await;
}
