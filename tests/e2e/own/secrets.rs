//! What the backend's own log must not hold.

use kingsguard_protocol::http::TicketRequest;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_credential_is_written_to_the_log_even_when_it_is_talkative() {
    TestContext::own(case!("AUTH-8"))
        .with_setting("KINGSGUARD_LOG", "debug")
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut secrets = vec![ada.password().to_owned(), "wrong horse battery".to_owned()];
            let mut keep = |ada: &SimulatedUser| {
                let tokens = ada.tokens();
                secrets.push(tokens.access_token.reveal().to_owned());
                secrets.push(tokens.refresh_token.reveal().to_owned());
            };
            keep(&ada);
            let refused = ada
                .try_login("wrong horse battery")
                .await
                .expect_error(ErrorCode::AuthInvalidCredentials);
            assert!(!refused.message.contains("wrong horse"));
            ada.login().await;
            keep(&ada);
            ada.refresh().await;
            keep(&ada);
            let token = ada.access_token();
            let ticket = ada
                .ticket_with(TicketRequest {
                    ttl_seconds: Some(60),
                    single_use: None,
                })
                .await;
            secrets.push(ticket.ticket.reveal().to_owned());
            let carriers = [
                ada.options(),
                ConnectOptions::default().with_bearer(&token),
                ConnectOptions::default().with_token_query(&token),
                ConnectOptions::default().with_ticket(ticket.ticket.reveal()),
            ];
            for options in carriers {
                let mut chat = ada.connect_with(options).await;
                let run = chat.ask(&format!("My password={} is good?", ada.password())).await;
                assert_eq!(run.completed().status, RunStatus::Completed);
                chat.close().await;
            }
            ctx.refused(
                ConnectOptions::default().with_token_query("not.a.token"),
                ErrorCode::AuthTokenInvalid,
            )
            .await;
            ctx.refused(
                ConnectOptions::default().with_ticket(ticket.ticket.reveal()),
                ErrorCode::AuthTokenInvalid,
            )
            .await;
            ada.logout().await;
            let settings = ctx.backend().await.settings().clone();
            secrets.push(settings["KINGSGUARD_JWT_SECRET"].clone());
            secrets.push(settings["KINGSGUARD_DATABASE_URL"].clone());

            let log = ctx.log_of(0).await;
            ctx.check("there is a log to look at", log.lines().count() > 10);
            let found: Vec<&String> = secrets.iter().filter(|secret| log.contains(secret.as_str())).collect();
            assert_eq!(found, Vec::<&String>::new(), "credentials stand in the log");
            let signed = |token: &String| token.rsplit('.').next().map(str::to_owned);
            let signatures: Vec<String> = secrets
                .iter()
                .filter(|secret| secret.starts_with("eyJ"))
                .filter_map(signed)
                .collect();
            assert!(signatures.len() >= 3 && signatures.iter().all(|signature| !log.contains(signature)));
        })
        .await;
}
