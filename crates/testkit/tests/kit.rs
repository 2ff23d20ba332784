//! The kit against the reference backend: what its own unit tests cannot show.

kingsguard_testkit::covers!("KIT-1", "KIT-2", "KIT-11", "INFRA");

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

    /// A breach fails a test whose own claims all hold: here a word that is the backend's own, which every run's end says.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_broken_clause_fails_a_test_whose_claims_hold() {
        let failure = TestContext::wire(case!("SEC-2"))
            .run_to_failure(async |ctx| {
                ctx.capture()
                    .update_facts(|facts| facts.internal_addresses.push("agent_completed".to_owned()));
                let ada = ctx.user("ada").await;
                ada.connect().await.ask("How can I spend less?").await;
            })
            .await;
        assert!(failure.contains("SEC-2 (MUST)"), "{failure}");
    }
}

mod own {
    use kingsguard_testkit::prelude::*;
    use kingsguard_testkit::process::ProcessId;
    use kingsguard_testkit::provider::processes::find_program;
    use kingsguard_testkit::stack::Stack;
    use kingsguard_testkit::steady::Loss;

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

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_test_whose_generator_fell_short_says_so_and_blames_nobody() {
        let failure = TestContext::own(case!("TIM-3"))
            .with_nodes(0)
            .run_to_failure::<()>(async |ctx| {
                ctx.check("something was judged before", true);
                ctx.invalid("the generator was late")
            })
            .await;
        assert!(failure.contains("invalid run: the generator was late"), "{failure}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_fault_that_never_happened_fails_its_test_unless_it_may() {
        let failure = TestContext::own(case!("EVT-7"))
            .run_to_failure(async |ctx| {
                let (proxy, _) = ctx.fault_proxy_before_node(0).await;
                let idle = proxy.inject(Fault::drop(0.1));
                let excused = proxy.inject(Fault::corrupt(0.1).which_may_not_happen());
                ctx.check("nothing passed", idle.lift() + excused.lift() == 0);
            })
            .await;
        assert!(failure.contains("fault drop of 10 % before 127.0.0.1:"), "{failure}");
        assert!(failure.contains("never happened"), "{failure}");
        assert!(!failure.contains("corruption"), "{failure}");
    }

    /// What a fault takes from a connection is not blamed on the backend, and what came before it is judged.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_damaged_connection_is_judged_up_to_the_damage_and_the_next_one_whole() {
        TestContext::own(case!("SEQ-1", "SEQ-3"))
            .run(async |ctx| {
                let (proxy, url) = ctx.fault_proxy_before_node(0).await;
                let ada = ctx.user("ada").await;
                let mut chat = ada.connect_with(ada.options().with_base_url(&url)).await;
                chat.ask("Hello").await;
                let before = chat.resume_points();
                let dropping = proxy.inject(Fault::drop(1.0).with_direction(Direction::ToClient));
                chat.say("How can I spend less?").await;
                dropping.until_happened(3).await;
                dropping.lift();
                let broken = ctx.recording();
                ctx.check("the damage is told", broken.connections[0].damaged_us.is_some());
                ctx.check("the fault is told", broken.facts.faults[0].happened >= 3);
                chat.drop_connection().await;

                let mut again = ada.open().await;
                again.handshake_with(Some(&before[0].thread_id), before.clone()).await;
                let first = again.next_event().await;
                assert_eq!(first.header.seq, before[0].point.after + 1);
                again.until_completed(&first.header.run_id).await;
            })
            .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_steady_client_has_everything_once_and_in_order_after_cuts_losses_and_a_restart() {
        TestContext::own(case!("SEQ-1", "SEQ-3", "SEQ-8", "MSG-5"))
            .with_nodes(2)
            .run(async |ctx| {
                let (first, first_url) = ctx.fault_proxy_before_node(0).await;
                let (second, second_url) = ctx.fault_proxy_before_node(1).await;
                let ada = ctx.user("ada").await;
                let chat = ada.stay_connected(SteadyOptions::at([&first_url, &second_url])).await;
                let thread_id = chat.thread_id();
                chat.ask("Hello").await;

                let partition = first.inject(Fault::partition());
                partition.until_happened(1).await;
                let asked = chat.say("How can I spend less?");
                let run_id = chat.accepted(&asked).await;
                partition.lift();
                chat.until_completed(&run_id).await;

                let doubling = second.inject(Fault::duplicate(1.0).with_direction(Direction::ToClient));
                chat.ask("Hello").await;
                doubling.lift();
                let dropping = second.inject(Fault::drop(0.3).with_direction(Direction::ToClient));
                let asked = chat.say("And by model?");
                dropping.until_happened(1).await;
                dropping.lift();
                let run_id = chat.accepted(&asked).await;
                chat.until_completed(&run_id).await;

                chat.until_settled().await;
                let at = chat.connected_to().expect("a settled client is connected");
                let node = usize::from(at == second_url);
                let stopped = ctx.stop_node(node).await;
                assert_eq!(stopped, Some(0));
                chat.until_story("reconnection", |story| story.losses.contains(&Loss::Moved))
                    .await;
                chat.ask("Hello").await;
                chat.until_settled().await;

                let log = chat.events(&thread_id);
                assert!(log.iter().zip(1..).all(|(event, seq)| event.seq == seq), "{log:#?}");
                let completed = log.iter().filter(|logged| {
                    let body = logged.event.as_ref().map(|event| &event.body);
                    matches!(body, Some(EventBody::AgentCompleted(_)))
                });
                assert_eq!(completed.count(), 5, "each question has one run");
                let story = chat.close().await;
                assert!(story.resumes_granted >= 3 && story.resumes_refused == 0, "{story:#?}");
                assert!(story.repeats_dropped >= 5, "{story:#?}");
                assert_eq!((story.logs_went_back, story.gave_up), (0, None));
            })
            .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_steady_client_follows_a_deleted_thread_no_longer_and_goes_on() {
        TestContext::own(case!("ISO-2", "SEQ-3"))
            .run(async |ctx| {
                let (proxy, url) = ctx.fault_proxy_before_node(0).await;
                let ada = ctx.user("ada").await;
                let chat = ada.stay_connected(SteadyOptions::at([url])).await;
                let own = chat.thread_id();
                chat.ask("Hello").await;
                let other = ada.create_thread("soon gone").await;
                chat.follow(&other);
                let said = chat.say_in(&other, "Hello");
                let run_id = chat.accepted(&said).await;
                chat.until_completed(&run_id).await;

                let cutting = proxy.inject(Fault::partition());
                cutting.until_happened(1).await;
                let path = format!("/api/threads/{other}");
                assert!(ada.http().delete(&path).await.status() < 300);
                cutting.lift();
                chat.ask("Hello").await;
                chat.until_settled().await;
                assert_eq!(chat.threads(), [own]);
            })
            .await;
    }

    /// What the runner asks before it runs anything against a target: the exit code tells it whose fault it is.
    #[test]
    fn a_target_is_looked_at_before_anything_runs() {
        let folder = tempfile::tempdir().expect("a folder");
        let check = |target: &str, profile: &str| {
            let path = folder.path().join("profile.toml");
            std::fs::write(&path, profile).expect("written");
            let output = std::process::Command::new(env!("CARGO_BIN_EXE_kingsguard-stack"))
                .args(["check-target", "--target", target, "--profile"])
                .arg(&path)
                .output()
                .expect("the program starts");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            (output.status.code(), said)
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let target = format!("ws://{}/ws", listener.local_addr().expect("it is bound"));
        let sound = "name = \"mine\"";
        assert_eq!(check(&target, sound), (Some(0), String::new()));
        for (profile, named) in [
            ("name = \"mine\"\ncolour = 1", "unknown field `colour`"),
            (
                "name = \"mine\"\n[connection]\npath = \"ws\"",
                "`connection.path` is \"ws\": begin it with /",
            ),
            (
                "name = \"mine\"\n[users]\nby = \"tokens\"\nfile = \"none.txt\"",
                "`users.file`",
            ),
        ] {
            let (code, said) = check(&target, profile);
            assert!(code == Some(2) && said.contains(named), "{code:?} {said}");
        }
        let (code, said) = check("chat.example", sound);
        assert!(code == Some(2) && said.contains("expected http://"), "{code:?} {said}");
        drop(listener);
        let (code, said) = check(&target, sound);
        assert!(code == Some(4) && said.contains("cannot be reached"), "{code:?} {said}");
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

/// The server in which faults can be planted, and the one in which none can.
mod planted {
    use std::path::PathBuf;
    use std::process::{Command, Output};

    use kingsguard_report::row::ROWS;
    use kingsguard_testkit::clause::Clause;
    use kingsguard_testkit::provider::{sabotaged_server_binary, server_binary};
    use memchr::memmem;
    use serde_json::Value;

    fn sabotaged_server(arguments: &[&str], sabotage: &str) -> Output {
        let binary = sabotaged_server_binary().expect("the runner built it");
        let mut command = Command::new(binary);
        command.args(arguments).env("KINGSGUARD_SABOTAGE", sabotage);
        command.output().expect("it starts")
    }

    fn catalogue() -> Vec<Value> {
        let listed = sabotaged_server(&["--list", "--json"], "");
        serde_json::from_slice(&listed.stdout).expect("a list as JSON")
    }

    fn text<'a>(one: &'a Value, field: &str) -> &'a str {
        one[field].as_str().expect("text")
    }

    #[test]
    fn an_ordinary_server_holds_no_fault_that_could_be_chosen() {
        let bytes_of =
            |binary: anyhow::Result<PathBuf>| std::fs::read(binary.expect("it is built")).expect("it can be read");
        let (ordinary, sabotaged) = (bytes_of(server_binary()), bytes_of(sabotaged_server_binary()));
        let holds = |binary: &[u8], word: &str| memmem::find(binary, word.as_bytes()).is_some();
        let catalogue = catalogue();
        assert!(catalogue.len() >= 5, "{catalogue:?}");
        let ids = catalogue.iter().map(|one| text(one, "id"));
        for word in ids.chain(["KINGSGUARD_SABOTAGE"]) {
            assert!(!holds(&ordinary, word), "an ordinary server knows {word}");
            assert!(
                holds(&sabotaged, word),
                "the other one must know {word}, or this test shows nothing"
            );
        }
    }

    #[test]
    fn every_fault_names_a_clause_of_the_contract_or_a_row_where_none_speaks_of_it() {
        for one in catalogue() {
            let id = text(&one, "clause");
            let is_row = ROWS.iter().any(|row| row.id == id);
            assert!(Clause::find(id).is_some() || is_row, "{one}");
        }
    }

    #[test]
    fn a_fault_that_does_not_exist_is_refused_with_the_names_of_those_that_do() {
        for wrong in ["drop-after-comit", ""] {
            let refused = sabotaged_server(&[], wrong);
            assert!(!refused.status.success());
            let said = String::from_utf8_lossy(&refused.stderr).into_owned();
            for one in catalogue() {
                assert!(said.contains(text(&one, "id")), "{said}");
            }
        }
    }
}
