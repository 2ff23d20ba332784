//! Credentials at the door (AUTH-1, AUTH-2, AUTH-4, AUTH-5) and the life of accounts (SEC-4).

use jsonwebtoken::Algorithm;
use kingsguard_protocol::http::{MeResponse, TicketRequest, TokenResponse};
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

use crate::forged;

covers!("BRG-5");

/// Claims that a token is refused with this code wherever it may stand: four carriers and the REST side.
async fn refused_everywhere(ctx: &TestContext, token: &str, code: ErrorCode) {
    let plain = ConnectOptions::default;
    for options in [
        plain().with_protocol(format!("jwt.{token}")),
        plain().with_bearer(token),
        plain().with_token_query(token),
    ] {
        ctx.refused(options, code).await;
    }
    let _error = ctx.http().with_bearer(token).get("/auth/me").await.expect_error(code);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_credential_there_is_no_upgrade() {
    TestContext::wire(case!("AUTH-1", "HTTP-1"))
        .run(async |ctx| {
            let refused = ctx.refused(ConnectOptions::default(), ErrorCode::AuthRequired).await;
            let body: ErrorFrame = serde_json::from_slice(&refused.body).expect("the error body of §9");
            assert_eq!(body.recovery, kingsguard_protocol::Recovery::Reauthenticate);
            let offering = ConnectOptions::default().with_protocols(["chat", "graphql-ws"]);
            ctx.refused(offering, ErrorCode::AuthRequired).await;
            let _error = ctx.http().get("/auth/me").await.expect_error(ErrorCode::AuthRequired);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_credential_is_refused() {
    TestContext::wire(case!("AUTH-1", "AUTH-2"))
        .run(async |ctx| {
            for token in ["nonsense", "a.b.c", "..", "eyJhbGciOiJIUzI1NiJ9.e30.c2ln"] {
                refused_everywhere(ctx, token, ErrorCode::AuthTokenInvalid).await;
            }
            let basic = ConnectOptions::default().with_header("Authorization", "Basic YWRhOnNlY3JldA==");
            let refused = ctx.try_open(basic).await.expect_err("Basic is no carrier");
            assert_eq!(refused.status, 401);
            ctx.refused(
                ConnectOptions::default().with_ticket("no-such-ticket"),
                ErrorCode::AuthTokenInvalid,
            )
            .await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_token_is_refused() {
    TestContext::wire(case!("AUTH-5", "AUTH-2"))
        .run(async |ctx| {
            let (ada, bob) = (ctx.user("ada").await, ctx.user("bob").await);
            let token = ada.access_token();
            let own = forged::claims(&token);
            let guessed = b"a key that is not the one of the target".as_slice();
            for forged in [
                forged::unsigned(&token, "none"),
                forged::unsigned(&token, "None"),
                forged::unsigned(&token, "HS256"),
                forged::signed(&own, Algorithm::HS256, guessed),
                forged::signed(&own, Algorithm::HS512, guessed),
                forged::tampered(&token, json!({ "sub": bob.user_id() })),
                forged::tampered(&token, json!({ "exp": 4_102_444_800_u64 })),
                forged::with_broken_signature(&token),
            ] {
                refused_everywhere(ctx, &forged, ErrorCode::AuthTokenInvalid).await;
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_carrier_decides_and_a_bad_one_does_not_fall_through() {
    TestContext::wire(case!("AUTH-2"))
        .run(async |ctx| {
            let (ada, bob) = (ctx.user("ada").await, ctx.user("bob").await);
            let (good, bad) = (ada.access_token(), "nonsense");
            let ticket = ada
                .ticket_with(TicketRequest {
                    single_use: Some(false),
                    ..TicketRequest::default()
                })
                .await;
            let ticket = ticket.ticket.reveal();
            let plain = ConnectOptions::default;
            for options in [
                plain()
                    .with_protocol("jwt.nonsense")
                    .with_bearer(&good)
                    .with_ticket(ticket)
                    .with_token_query(&good),
                plain().with_bearer(bad).with_ticket(ticket).with_token_query(&good),
                plain().with_ticket(bad).with_token_query(&good),
            ] {
                ctx.refused(options, ErrorCode::AuthTokenInvalid).await;
            }
            // The order tells whose connection it is: only she may acknowledge her thread.
            let hers = ada.create_thread("hers").await;
            let his = bob.access_token();
            for options in [
                plain()
                    .with_protocol(format!("jwt.{good}"))
                    .with_bearer(&his)
                    .with_token_query(&his),
                plain()
                    .with_bearer(&good)
                    .with_ticket(bob.ticket().await.ticket.reveal())
                    .with_token_query(&his),
                plain().with_ticket(ticket).with_token_query(&his),
                plain().with_token_query(&good),
            ] {
                let mut chat = ada.open_with(options).await;
                let complete = chat.handshake_with(Some(&hers), Vec::new()).await;
                assert_eq!(complete.threads[0].thread_id, hers);
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_works_once() {
    TestContext::wire(case!("AUTH-4"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let ticket = ada.ticket().await;
            assert!(ticket.single_use, "a ticket works once by default");
            assert!((30..=3_600).contains(&ticket.ttl_seconds), "{ticket:?}");
            let url = ticket.websocket_url.reveal();
            assert!(
                url.starts_with("ws://") || url.starts_with("wss://"),
                "the URL is one of a WebSocket"
            );
            assert!(
                url.ends_with(&format!("/ws?ticket={}", ticket.ticket.reveal())),
                "the URL holds the ticket"
            );
            let options = || ConnectOptions::default().with_ticket(ticket.ticket.reveal());
            let mut chat = ada.connect_with(options()).await;
            ada.refused(options(), ErrorCode::AuthTokenInvalid).await;
            // The connection lives on.
            let message_id = chat.send(kingsguard_protocol::client::Ping {}).await;
            assert_eq!(chat.answer_to(&message_id).await.frame_type(), "pong");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_for_several_uses_works_again() {
    TestContext::wire(case!("AUTH-4"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let request = TicketRequest {
                ttl_seconds: Some(60),
                single_use: Some(false),
            };
            let ticket = ada.ticket_with(request).await;
            assert_eq!((ticket.ttl_seconds, ticket.single_use), (60, false));
            let left_ms = ticket.expires_at.as_unix_ms() - kingsguard_protocol::Timestamp::now().as_unix_ms();
            assert!((50_000..=61_000).contains(&left_ms), "dies in {left_ms} ms");
            for _ in 0..3 {
                ada.connect_with(ConnectOptions::default().with_ticket(ticket.ticket.reveal()))
                    .await;
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_life_of_a_ticket_is_30_to_3600_seconds() {
    TestContext::wire(case!("AUTH-4", "MSG-4"))
        .run(async |ctx| {
            let http = ctx.user("ada").await.http();
            for seconds in [30, 3_600] {
                let answer = http
                    .post("/api/websocket/ticket", &json!({ "ttl_seconds": seconds }))
                    .await;
                assert_eq!(answer.expect_status(201).json()["ttl_seconds"], seconds);
            }
            for bad in [
                json!(29),
                json!(3_601),
                json!(0),
                json!(-1),
                json!("60"),
                json!(30.5),
                json!(1e300),
            ] {
                let answer = http.post("/api/websocket/ticket", &json!({ "ttl_seconds": bad })).await;
                let error = answer.expect_error(ErrorCode::ValidationError);
                assert_eq!(error.details["pointer"], "/ttl_seconds", "{bad}");
            }
            let answer = http
                .post("/api/websocket/ticket", &json!({ "single_use": "yes" }))
                .await;
            assert_eq!(
                answer.expect_error(ErrorCode::ValidationError).details["pointer"],
                "/single_use"
            );
            let nobody = ctx.http().post("/api/websocket/ticket", &json!({})).await;
            let _error = nobody.expect_error(ErrorCode::AuthRequired);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_upgrade_does_not_spend_the_ticket() {
    TestContext::wire(case!("AUTH-4", "AUTH-7"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let ticket = ada.ticket().await;
            let line = format!("GET /ws?ticket={} HTTP/1.1", ticket.ticket.reveal());
            let head = ctx
                .raw()
                .await
                .request(&[
                    &line,
                    "Connection: Upgrade",
                    "Upgrade: websocket",
                    "Sec-WebSocket-Version: 8",
                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                ])
                .await;
            assert_eq!(head.status, 426);
            ada.connect_with(ConnectOptions::default().with_ticket(ticket.ticket.reveal()))
                .await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logging_out_revokes_the_token_and_its_family() {
    TestContext::wire(case!("AUTH-1", "SEC-4"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let before = ada.tokens();
            let other = ada.login().await; // another family
            let http = ctx.http().with_bearer(before.access_token.reveal());
            let _ended = http.post("/auth/logout", &json!({})).await.expect_status(200);
            refused_everywhere(ctx, before.access_token.reveal(), ErrorCode::AuthTokenRevoked).await;
            let refresh = ada.try_refresh(before.refresh_token.reveal()).await;
            let _error = refresh.expect_error(ErrorCode::AuthTokenRevoked);
            let me = ctx
                .http()
                .with_bearer(other.access_token.reveal())
                .get("/auth/me")
                .await;
            assert_eq!(me.expect_status(200).parse::<MeResponse>().user_id, ada.user_id());
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registering_answers_an_account_that_works_at_once() {
    TestContext::wire(case!("HTTP-1"))
        .run(async |ctx| {
            let unique = uuid::Uuid::now_v7().simple().to_string();
            let email = format!("Grace.{unique}@Example.test");
            let body = json!({ "email": email, "password": "twelve chars", "name": "Grace", "unknown": [1] });
            let tokens: TokenResponse = ctx
                .http()
                .post("/auth/register", &body)
                .await
                .expect_status(201)
                .parse();
            assert_eq!(tokens.email.to_lowercase(), email.to_lowercase());
            assert!(
                tokens.expires_in_ms >= 900_000,
                "access tokens live 15 min or more, not {}",
                tokens.expires_in_ms
            );
            let claims = forged::claims(tokens.access_token.reveal());
            assert_eq!(claims["sub"], json!(tokens.user_id));
            let me: Value = ctx
                .http()
                .with_bearer(tokens.access_token.reveal())
                .get("/auth/me")
                .await
                .json();
            assert_eq!(
                me,
                json!({ "user_id": tokens.user_id, "email": tokens.email, "name": "Grace" })
            );
            // The address is compared without case.
            let again = json!({ "email": email.to_uppercase(), "password": "another password" });
            let _taken = ctx
                .http()
                .post("/auth/register", &again)
                .await
                .expect_error(ErrorCode::EmailTaken);
            let login = json!({ "email": email.to_lowercase(), "password": "twelve chars" });
            let logged_in: TokenResponse = ctx.http().post("/auth/login", &login).await.expect_status(200).parse();
            assert_eq!(logged_in.user_id, tokens.user_id);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_is_refused_at_the_field_that_is_wrong() {
    TestContext::wire(case!("HTTP-1", "MSG-4"))
        .run(async |ctx| {
            let email = || format!("x.{}@example.test", uuid::Uuid::now_v7().simple());
            let good = "correct horse battery";
            let rows = [
                (json!({ "password": good }), "/email"),
                (json!({ "email": "no at sign", "password": good }), "/email"),
                (json!({ "email": 7, "password": good }), "/email"),
                (json!({ "email": email() }), "/password"),
                (json!({ "email": email(), "password": "x".repeat(11) }), "/password"),
                (json!({ "email": email(), "password": "x".repeat(129) }), "/password"),
                (json!({ "email": email(), "password": null }), "/password"),
                (json!({ "email": email(), "password": good, "name": 7 }), "/name"),
                (json!([]), ""),
            ];
            for (body, pointer) in rows {
                let error = ctx
                    .http()
                    .post("/auth/register", &body)
                    .await
                    .expect_error(ErrorCode::ValidationError);
                assert_eq!(error.details["pointer"], pointer, "{body}");
                assert!(
                    error.details["expected"].as_str().is_some_and(|text| !text.is_empty()),
                    "{error:?}"
                );
            }
            let broken = ctx
                .http()
                .post_as("/auth/register", "application/json", "{\n \"email\": }")
                .await;
            let error = broken.expect_error(ErrorCode::JsonParseError);
            assert_eq!(
                (&error.details["line"], &error.details["column"]),
                (&json!(2), &json!(11))
            );
            for length in [12, 128] {
                let body = json!({ "email": email(), "password": "é".repeat(length) });
                let _made = ctx.http().post("/auth/register", &body).await.expect_status(201);
            }
        })
        .await;
}

/// An error body without what differs by nature.
fn comparable(error: &ErrorFrame) -> Value {
    let mut body = serde_json::to_value(error).expect("it is JSON");
    body.as_object_mut().expect("an object").remove("timestamp");
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_and_an_unknown_address_are_refused_alike() {
    TestContext::wire(case!("SEC-4", "HTTP-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let wrong = ada
                .try_login("not her password")
                .await
                .expect_error(ErrorCode::AuthInvalidCredentials);
            let unknown = json!({ "email": "nobody.at.all@example.test", "password": "not her password" });
            let unknown = ctx.http().post("/auth/login", &unknown).await;
            let unknown = unknown.expect_error(ErrorCode::AuthInvalidCredentials);
            assert_eq!(comparable(&wrong), comparable(&unknown));
            ada.login().await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_five_failed_logins_the_next_is_locked_even_with_the_right_password() {
    TestContext::wire(case!("SEC-4"))
        .run(async |ctx| {
            let (ada, bob) = (ctx.user("ada").await, ctx.user("bob").await);
            for _ in 0..5 {
                let _wrong = ada
                    .try_login("not her password")
                    .await
                    .expect_error(ErrorCode::AuthInvalidCredentials);
            }
            let error = ada.try_login(ada.password()).await.expect_error(ErrorCode::AuthLocked);
            let wait_ms = error.retry_after_ms.expect("a lock says how long");
            assert!(
                (840_000..=900_000).contains(&wait_ms),
                "locked for {wait_ms} ms, not 15 min"
            );
            // Who is logged in stays so, and nobody else is locked.
            let _me = ada.http().get("/auth/me").await.expect_status(200);
            bob.login().await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successful_login_forgets_the_failed_ones() {
    TestContext::wire(case!("SEC-4"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            for _ in 0..2 {
                for _ in 0..4 {
                    let wrong = ada.try_login("not her password").await;
                    let _error = wrong.expect_error(ErrorCode::AuthInvalidCredentials);
                }
                ada.login().await;
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reused_refresh_token_revokes_its_family_access_tokens_included() {
    TestContext::wire(case!("SEC-4"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let first = ada.tokens();
            let second = ada.refresh().await;
            assert_ne!(first.refresh_token.reveal(), second.refresh_token.reveal());
            assert_eq!(second.user_id, first.user_id);
            let third = ada.refresh().await;
            let other = ada.login().await; // another family
            let reused = ada.try_refresh(first.refresh_token.reveal()).await;
            let _error = reused.expect_error(ErrorCode::AuthTokenRevoked);
            let newest = ada.try_refresh(third.refresh_token.reveal()).await;
            let _error = newest.expect_error(ErrorCode::AuthTokenRevoked);
            for tokens in [&first, &second, &third] {
                refused_everywhere(ctx, tokens.access_token.reveal(), ErrorCode::AuthTokenRevoked).await;
            }
            let me = ctx
                .http()
                .with_bearer(other.access_token.reveal())
                .get("/auth/me")
                .await;
            let _alive = me.expect_status(200);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_refresh_token_is_refused() {
    TestContext::wire(case!("SEC-4"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            for bad in ["nonsense", "refresh_0198c0de", &ada.access_token()] {
                let _error = ada.try_refresh(bad).await.expect_error(ErrorCode::AuthTokenInvalid);
            }
            let missing = ctx.http().post("/auth/refresh", &json!({})).await;
            assert_eq!(
                missing.expect_error(ErrorCode::ValidationError).details["pointer"],
                "/refresh_token"
            );
            ada.refresh().await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_dies_with_its_time() {
    TestContext::wire(case!("AUTH-4"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let request = TicketRequest {
                ttl_seconds: Some(30),
                single_use: Some(false),
            };
            let ticket = ada.ticket_with(request).await;
            let options = || ConnectOptions::default().with_ticket(ticket.ticket.reveal());
            ada.connect_with(options()).await;
            // sleeps because a ticket lives 30 s at least
            tokio::time::sleep(std::time::Duration::from_secs(31)).await;
            let refused = ada.try_open(options()).await.expect_err("its time is over");
            assert_eq!(refused.status, 401);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_logins_count_however_the_address_is_written() {
    TestContext::wire(case!("SEC-4"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let (lower, upper) = (ada.email().to_lowercase(), ada.email().to_uppercase());
            for email in [&lower, &upper, &lower, &upper, &lower] {
                let body = json!({ "email": email, "password": "not her password" });
                let wrong = ctx.http().post("/auth/login", &body).await;
                let _error = wrong.expect_error(ErrorCode::AuthInvalidCredentials);
            }
            for email in [&lower, &upper] {
                let body = json!({ "email": email, "password": ada.password() });
                let locked = ctx.http().post("/auth/login", &body).await;
                let _error = locked.expect_error(ErrorCode::AuthLocked);
            }
        })
        .await;
}
