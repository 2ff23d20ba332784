//! The kit against the reference backend: what its own unit tests cannot show.

mod wire {
    use kingsguard_testkit::prelude::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_user_registers_connects_and_completes_a_run() {
        TestContext::wire(case!("HSK-1", "HSK-2", "ORD-1", "ORD-4", "EVT-7"))
            .run(async |ctx| {
                let ada = ctx.user("ada").await;
                ada.upload(&SampleRecords::generate(ctx.seed(), 200)).await;
                let mut chat = ada.connect().await;
                let run = chat.ask("How can I spend less?").await;
                assert_eq!(run.completed().status, RunStatus::Completed, "{:?}", run.completed());
                assert_eq!(run.types().first(), Some(&"agent_started"));
                assert_eq!(run.types().last(), Some(&"agent_completed"));
            })
            .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_cut_connection_resumes_where_it_was() {
        TestContext::wire(case!("SEQ-2", "SEQ-3", "SEQ-5"))
            .run(async |ctx| {
                let ada = ctx.user("ada").await;
                let mut chat = ada.connect().await;
                let message_id = chat.say("How can I spend less?").await;
                let accepted = chat.accepted(&message_id).await;
                let first = chat.next_event().await;
                chat.drop_connection().await;
                let mut again = ada.resume(&mut chat).await;
                let run = again.until_completed(&accepted.run_id).await;
                assert!(run.events()[0].header.seq > first.header.seq);
                assert_eq!(run.completed().status, RunStatus::Completed);
            })
            .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_unmasked_frame_is_closed_with_1002() {
        TestContext::wire(case!("CON-1"))
            .run(async |ctx| {
                let ada = ctx.user("ada").await;
                let mut raw = ctx.raw().await;
                raw.upgrade(&ada.options()).await;
                raw.send(&RawFrame::text(r#"{"type":"ping"}"#).unmasked())
                    .await
                    .expect("the connection is open");
                raw.expect_close(CloseCode::Protocol).await;
            })
            .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_bad_credential_is_refused_before_the_upgrade() {
        TestContext::wire(case!("AUTH-1"))
            .run(async |ctx| {
                ctx.refused(ConnectOptions::default(), ErrorCode::AuthRequired).await;
                let options = ConnectOptions::default().with_protocol("jwt.not.a.token");
                ctx.refused(options, ErrorCode::AuthTokenInvalid).await;
            })
            .await;
    }

    /// A breach fails a test whose own claims all hold: here a run that its backend may take ten milliseconds for.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_broken_clause_fails_a_test_whose_claims_hold() {
        let failure = TestContext::wire(case!("TIM-4"))
            .run_to_failure(async |ctx| {
                ctx.capture().update_facts(|facts| facts.run_deadline_ms = 10);
                let ada = ctx.user("ada").await;
                ada.connect().await.ask("Watch my usage for 1 second").await;
            })
            .await;
        assert!(failure.contains("TIM-4 (MUST)"), "{failure}");
    }
}

mod own {
    use kingsguard_testkit::prelude::*;
    use kingsguard_testkit::provider::processes::find_program;
    use kingsguard_testkit::stack::{ProcessId, Stack};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_killed_node_comes_back_on_its_port_with_what_it_promised() {
        TestContext::own(case!("MSG-5", "SEQ-2"))
            .with_setting("KINGSGUARD_RUN_LEASE_MS", 1_000)
            .run(async |ctx| {
                let ada = ctx.user("ada").await;
                let mut chat = ada.connect().await;
                let before = chat.ask("How can I spend less?").await;
                let url = ctx.http_url();
                ctx.kill_node(0).await;
                assert_eq!(chat.expect_closed().await, None, "a killed node sends no close frame");
                ctx.start_node(0).await;
                assert_eq!(ctx.node_url(0).await, url);
                let mut again = ada.resume(&mut chat).await;
                let after = again.ask("And by model?").await;
                assert_eq!(
                    after.events()[0].header.seq,
                    before.events().last().expect("it has events").header.seq + 1
                );
            })
            .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn two_nodes_show_one_log() {
        TestContext::own(case!("SEQ-6"))
            .with_nodes(2)
            .run(async |ctx| {
                let ada = ctx.user("ada").await;
                let mut here = ada.connect().await;
                let thread_id = here.thread_id();
                here.ask("How can I spend less?").await;
                let second = ctx.node_url(1).await;
                let mut there = ada.open_with(ada.options().with_base_url(&second)).await;
                there.handshake_with(Some(&thread_id), Vec::new()).await;
                let run = here.ask("And by model?").await;
                let seen = there.until_completed(run.run_id()).await;
                let texts = |view: &RunView| {
                    view.frames()
                        .iter()
                        .map(|frame| frame.text().to_owned())
                        .collect::<Vec<_>>()
                };
                assert_eq!(texts(&seen), texts(&run));
            })
            .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_test_that_judges_nothing_fails() {
        let failure = TestContext::own(case!("EVT-7"))
            .with_nodes(0)
            .run_to_failure(async |_| {})
            .await;
        assert!(failure.contains("the test judged nothing"), "{failure}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_failing_claim_fails_the_test_and_says_how_to_repeat_it() {
        let failure = TestContext::own(case!("EVT-7"))
            .with_nodes(0)
            .run_to_failure(async |ctx| ctx.check("the claim of the body", false))
            .await;
        assert!(failure.contains("the claim of the body"), "{failure}");
        assert!(failure.contains("repeat: KINGSGUARD_SEED="), "{failure}");
    }

    /// A supervisor of its own must be gone, with everything it started, soon after its owner.
    #[test]
    fn a_stack_ends_with_its_owner() {
        let stack_program = std::path::Path::new(env!("CARGO_BIN_EXE_kingsguard-stack"));
        let sleep = find_program("sleep", &[]).expect("every system has sleep");
        let mut owner = std::process::Command::new(sleep)
            .arg("600")
            .spawn()
            .expect("sleep starts");
        let up = std::process::Command::new(stack_program)
            .args([
                "up",
                "--services",
                "processes",
                "--json",
                "--owner-pid",
                &owner.id().to_string(),
            ])
            .env_remove("NEXTEST_ENV")
            .output()
            .expect("the program starts");
        assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
        let stack: Stack = serde_json::from_slice(&up.stdout).expect("it prints its stack");
        let supervisor: ProcessId = stack.supervisor;
        assert!(supervisor.is_alive() && stack.folder.join("state.json").is_file());
        owner.kill().expect("it runs");
        owner.wait().expect("it was killed");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while (supervisor.is_alive() || stack.folder.exists()) && std::time::Instant::now() < deadline {
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
        assert!(
            !supervisor.is_alive() && !stack.folder.exists(),
            "{stack:?} outlived its owner"
        );
        assert!(
            std::net::TcpStream::connect(stack.redis_url.trim_start_matches("redis://").trim_end_matches('/')).is_err()
        );
    }
}
