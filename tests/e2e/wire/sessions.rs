//! One session from the account to the answer, and credentials that end while a run goes on.

use kingsguard_protocol::http::MeResponse;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

use crate::people::{finds_whole, origins};

covers!("BRG-5");

/// The connection ends as AUTH-6 says.
async fn ends(chat: &mut Chat, code: ErrorCode) {
    chat.expect_error(code).await;
    assert_eq!(
        chat.expect_closed().await,
        Some(CloseCode::AuthenticationEnded.as_u16())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_identity_goes_through_registration_login_ticket_connection_and_run() {
    TestContext::wire(case!("HTTP-1", "AUTH-4", "HSK-1", "HSK-2", "MSG-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let registered = ada.tokens();
            let logged_in = ada.login().await;
            assert_eq!(logged_in.user_id, registered.user_id);
            assert_ne!(logged_in.access_token.reveal(), registered.access_token.reveal());
            for tokens in [&registered, &logged_in] {
                let http = ctx.http().with_bearer(tokens.access_token.reveal());
                let me: MeResponse = http.get("/auth/me").await.expect_status(200).parse();
                assert_eq!(
                    (me.user_id, me.email.as_str()),
                    (registered.user_id.clone(), ada.email())
                );
            }
            let ticket = ada.ticket().await;
            let options = || ConnectOptions::default().with_ticket(ticket.ticket.reveal());
            let mut chat = ada.connect_with(options()).await;
            let run = chat.ask("What did I spend?").await;
            assert_eq!(
                origins(&run),
                [(
                    run.accepted().message_id.to_string(),
                    run.run_id().to_string(),
                    registered.user_id.to_string()
                )]
            );
            assert_eq!(run.completed().status, RunStatus::Completed);
            let told = ada
                .http()
                .get(&format!("/api/runs/{}", run.run_id()))
                .await
                .expect_status(200);
            assert_eq!(told.json()["thread_id"], json!(chat.thread_id()));
            ada.refused(options(), ErrorCode::AuthTokenInvalid).await;
            ctx.refused(ConnectOptions::default(), ErrorCode::AuthRequired).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logging_out_during_a_run_ends_the_connection_and_not_the_run() {
    TestContext::wire(case!("AUTH-6", "AUTH-1", "SEQ-5", "SEQ-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let asked = chat.say(&ctx.long_run_prompt(2)).await;
            let run_id = chat.accepted(&asked).await.run_id;
            let (revoked, ticket) = (ada.access_token(), ada.ticket().await);
            ada.logout().await;
            ends(&mut chat, ErrorCode::AuthTokenRevoked).await;
            ada.refused(ada.options(), ErrorCode::AuthTokenRevoked).await;
            let refused = ctx.http().with_bearer(&revoked).get("/api/threads").await;
            let _error = refused.expect_error(ErrorCode::AuthTokenRevoked);
            let by_ticket = ConnectOptions::default().with_ticket(ticket.ticket.reveal());
            let refused = ctx
                .try_open(by_ticket)
                .await
                .expect_err("a ticket dies with its family");
            assert_eq!(refused.status, 401);
            ada.login().await;
            let mut again = ada.resume(&mut chat).await;
            finds_whole(&mut again, &mut chat, &run_id).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stolen_refresh_token_used_during_a_run_ends_every_connection_of_its_family_and_not_the_run() {
    TestContext::wire(case!("SEC-4", "AUTH-6", "SEQ-5", "ERR-2"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut apart = ada.connect().await; // the family of the registration
            ada.login().await;
            let stolen = ada.tokens();
            let mut chat = ada.connect().await;
            let asked = chat.say(&ctx.long_run_prompt(2)).await;
            let run_id = chat.accepted(&asked).await.run_id;
            ada.refresh().await;
            let mut rotated = ada.connect().await;
            let reused = ada.try_refresh(stolen.refresh_token.reveal()).await;
            let _error = reused.expect_error(ErrorCode::AuthTokenRevoked);
            for chat in [&mut chat, &mut rotated] {
                ends(chat, ErrorCode::AuthTokenRevoked).await;
            }
            assert_eq!(
                apart.ask("Hello").await.completed().status,
                RunStatus::Completed,
                "another family lives on"
            );
            ada.login().await;
            let mut again = ada.resume(&mut chat).await;
            finds_whole(&mut again, &mut chat, &run_id).await;
        })
        .await;
}
