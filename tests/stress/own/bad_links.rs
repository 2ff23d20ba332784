//! Users on bad networks: whatever a link does to their frames, in the end each has everything exactly once and in order.
//!
//! The clients are steady ones behind a fault proxy. They speak during the storm; when it is over, what they have is
//! compared with the log itself, byte for byte, as a connection without any fault is told it.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use kingsguard_protocol::control::ThreadHistory;
use kingsguard_testkit::prelude::*;
use kingsguard_testkit::steady::{Loss, Story};
use pretty_assertions::assert_eq;
use tokio::time::Instant;

covers!("BRG-4");

/// TIM-5: from the return of the network to a resumed connection.
const RESUMED_WITHIN: Duration = Duration::from_secs(3);
/// The goal of the same clause, which most resumes must meet.
const RESUMED_USUALLY_WITHIN: Duration = Duration::from_secs(1);
/// From the death of a node to a connection to another that has everything.
const MOVED_WITHIN: Duration = Duration::from_secs(5);

/// A client that notices early that its link is bad, so that a storm of seconds holds many reconnections.
fn alert(url: &str, seed: u64) -> SteadyOptions {
    SteadyOptions::at([url])
        .with_attempt_max(Duration::from_secs(2))
        .with_silence_max(Duration::from_secs(2))
        .with_answer_max(Duration::from_secs(1))
        .with_jitter_seed(seed)
}

/// A thread's events as the backend tells them without any fault between, oldest first.
async fn log(user: &SimulatedUser, thread_id: &ThreadId) -> Vec<String> {
    let mut log: Vec<String> = Vec::new();
    let mut before = String::new();
    loop {
        let path = format!("/api/threads/{thread_id}/messages?limit=100{before}");
        let page: ThreadHistory = user.http().get(&path).await.expect_status(200).parse();
        let mut events: Vec<String> = page.events.iter().map(|event| event.get().to_owned()).collect();
        events.append(&mut log);
        log = events;
        if !page.has_more {
            return log;
        }
        let oldest: Value = serde_json::from_str(&log[0]).expect("an event is JSON");
        before = format!("&before={}", oldest["seq"]);
    }
}

/// Claims that a client has the whole log, exactly once and in order, and that each message made one run.
async fn assert_whole(user: &SimulatedUser, chat: &SteadyChat, said: &[MessageId]) {
    chat.until_settled().await;
    for message_id in said {
        let run_id = chat.accepted(message_id).await;
        let events = chat.until_completed(&run_id).await;
        let EventBody::AgentCompleted(end) = &events[events.len() - 1].body else {
            panic!("something came after agent_completed: {events:?}")
        };
        assert_eq!(end.status, RunStatus::Completed);
    }
    let thread_id = chat.thread_id();
    let has: Vec<String> = chat.events(&thread_id).into_iter().map(|event| event.text).collect();
    assert_eq!(has, log(user, &thread_id).await, "the client's log and the backend's");
    let events = chat.events(&thread_id);
    let causes: Vec<MessageId> = events
        .iter()
        .filter_map(|logged| logged.event.as_ref())
        .filter(|event| matches!(event.body, EventBody::AgentStarted(_)))
        .map(|event| event.header.correlation_id.clone())
        .collect();
    let expected: BTreeSet<&MessageId> = said.iter().collect();
    assert_eq!(
        causes.len(),
        said.len(),
        "one run for each message, however often it was sent"
    );
    assert_eq!(causes.iter().collect::<BTreeSet<_>>(), expected);
    let thread = chat.thread(&thread_id).expect("it follows its own thread");
    assert!(
        thread.missing().is_empty() && thread.earlier_epochs().is_empty(),
        "{thread:?}"
    );
    let story = chat.story();
    assert_eq!((story.logs_went_back, &story.gave_up), (0, &None), "{story:?}");
}

/// What a storm is made of.
struct Storm {
    clients: usize,
    /// What each client says, evenly over the storm.
    questions: u32,
    lasts: Duration,
    faults: Vec<Fault>,
}

/// Lets clients speak through a storm and claims that all of them are whole after it; gives their stories.
async fn survive(ctx: &TestContext, name: &str, storm: Storm) -> Vec<Story> {
    let (proxy, url) = ctx.fault_proxy_before_node(0).await;
    let mut clients = Vec::new();
    for nth in 0..storm.clients {
        let user = ctx.user(&format!("client{nth}")).await;
        let chat = user.stay_connected(alert(&url, ctx.seed() + nth as u64)).await;
        clients.push((user, chat, Vec::new()));
    }
    let faults: Vec<FaultGuard> = storm.faults.into_iter().map(|fault| proxy.inject(fault)).collect();
    for round in 0..storm.questions {
        for (_, chat, said) in &mut clients {
            said.push(chat.say(&format!("Hello for the {round}. time")));
        }
        // sleeps because a storm has a length, whatever happens in it
        tokio::time::sleep(storm.lasts / storm.questions).await;
    }
    let happened: u64 = faults.into_iter().map(FaultGuard::lift).sum();
    let over = Instant::now();
    join_all(clients.iter().map(|(user, chat, said)| assert_whole(user, chat, said))).await;
    ctx.figure(&format!("{name}_faults_happened"), happened as f64, "faults");
    ctx.figure(
        &format!("{name}_whole_after_ms"),
        over.elapsed().as_secs_f64() * 1e3,
        "ms",
    );
    clients.iter().map(|(_, chat, _)| chat.story()).collect()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quarter_of_all_frames_lost_on_a_slow_link_loses_nothing_in_the_end() {
    TestContext::own(case!("SEQ-2", "SEQ-3", "SEQ-8", "MSG-5"))
        .run(async |ctx| {
            let faults = vec![
                Fault::drop(0.25),
                Fault::latency(ms(125)).with_jitter(ms(75)),
                Fault::corrupt(0.05),
            ];
            let storm = Storm {
                clients: 5,
                questions: 4,
                lasts: Duration::from_secs(8),
                faults,
            };
            survive(ctx, "storm_25", storm).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nearly_half_of_all_frames_lost_late_broken_and_disordered_loses_nothing_in_the_end() {
    TestContext::own(case!("SEQ-2", "SEQ-3", "SEQ-8", "MSG-5"))
        .run(async |ctx| {
            let faults = vec![
                Fault::drop(0.45),
                Fault::latency(ms(300)).with_jitter(ms(200)),
                Fault::corrupt(0.15),
                Fault::reorder(0.10),
                Fault::duplicate(0.10),
            ];
            let storm = Storm {
                clients: 4,
                questions: 5,
                lasts: Duration::from_secs(10),
                faults: faults.into_iter().map(Fault::which_may_not_happen).collect(),
            };
            let stories = survive(ctx, "storm_45", storm).await;
            assert!(
                stories.iter().all(|story| !story.losses.is_empty()),
                "each lost its connection: {stories:?}"
            );
        })
        .await;
}

/// A slow link is no broken one: nobody reconnects, nothing is repeated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_second_of_latency_costs_no_connection() {
    TestContext::own(case!("SEQ-1", "SEQ-6"))
        .run(async |ctx| {
            let (proxy, url) = ctx.fault_proxy_before_node(0).await;
            let ada = ctx.user("ada").await;
            let slow = proxy.inject(Fault::latency(ms(300)).with_jitter(ms(200)));
            let chat = ada.stay_connected(SteadyOptions::at([url])).await;
            let said: Vec<MessageId> = (0..5).map(|round| chat.say(&format!("Hello number {round}"))).collect();
            assert_whole(&ada, &chat, &said).await;
            assert!(slow.lift() > 0);
            let story = chat.story();
            assert_eq!(
                (
                    story.connections_made,
                    story.repeats_dropped,
                    story.gaps_seen,
                    story.messages_sent_again
                ),
                (1, 0, 0, 0),
                "{story:?}"
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_arrive_twice_or_in_another_order_are_put_right() {
    TestContext::own(case!("SEQ-1", "SEQ-3", "SEQ-8"))
        .run(async |ctx| {
            let storm = Storm {
                clients: 4,
                questions: 6,
                lasts: Duration::from_secs(6),
                faults: vec![Fault::reorder(0.2), Fault::duplicate(0.2)],
            };
            let stories = survive(ctx, "disorder", storm).await;
            let (repeats, gaps) = stories.iter().fold((0, 0), |(repeats, gaps), story| {
                (repeats + story.repeats_dropped, gaps + story.gaps_seen)
            });
            assert!(repeats > 0 && gaps > 0, "{repeats} repeats, {gaps} gaps: {stories:?}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupt_frame_ends_its_connection_and_nothing_else() {
    TestContext::own(case!("CON-1", "CON-3", "SEQ-3", "SEQ-8"))
        .run(async |ctx| {
            let storm = Storm {
                clients: 4,
                questions: 6,
                lasts: Duration::from_secs(6),
                faults: vec![Fault::corrupt(0.2)],
            };
            let stories = survive(ctx, "corruption", storm).await;
            let losses: Vec<&Loss> = stories.iter().flat_map(|story| &story.losses).collect();
            assert!(!losses.is_empty(), "{stories:?}");
            let strange: Vec<_> = losses
                .iter()
                .filter(|loss| !matches!(loss, Loss::Ended | Loss::Closed(Some(1002 | 1007))))
                .collect();
            assert!(strange.is_empty(), "ended as the protocol says: {strange:?}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_reset_every_few_frames_lose_nothing() {
    TestContext::own(case!("SEQ-3", "SEQ-8", "CON-6"))
        .run(async |ctx| {
            let storm = Storm {
                clients: 4,
                questions: 6,
                lasts: Duration::from_secs(6),
                faults: vec![Fault::cut(0.15)],
            };
            let stories = survive(ctx, "resets", storm).await;
            let made: u64 = stories.iter().map(|story| story.connections_made).sum();
            ctx.figure("resets_connections_made", made as f64, "connections");
            assert!(made > 8, "connected again and again: {stories:?}");
        })
        .await;
}

/// Injects a fault under which no connection lives `rounds` times; gives how long after each the client was resumed.
async fn outages(ctx: &TestContext, rounds: usize, fault: fn() -> Fault) -> Vec<Duration> {
    let (proxy, url) = ctx.fault_proxy_before_node(0).await;
    let ada = ctx.user("ada").await;
    let chat = ada.stay_connected(alert(&url, ctx.seed())).await;
    let (mut said, mut took) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        chat.until_settled().await;
        let made = chat.story().connections_made;
        let lost = chat.story().losses.len();
        let away = proxy.inject(fault());
        said.push(chat.say(&format!("Hello number {round}"))); // what is said meanwhile arrives afterwards
        chat.until_story("loss of the connection", |story| story.losses.len() > lost)
            .await;
        away.lift();
        let back = Instant::now();
        chat.until_story("resumed connection", |story| story.connections_made > made)
            .await;
        took.push(back.elapsed());
    }
    assert_whole(&ada, &chat, &said).await;
    took.sort();
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_each_of_ten_partitions_the_connection_is_resumed_within_three_seconds() {
    TestContext::own(case!("TIM-5", "SEQ-3", "SEQ-8"))
        .run(async |ctx| {
            let took = outages(ctx, 10, Fault::partition).await;
            ctx.figure("resume_after_link_ms", took[took.len() - 1].as_secs_f64() * 1e3, "ms");
            assert!(took.iter().all(|took| *took < RESUMED_WITHIN), "{took:?}");
            assert!(took[took.len() / 2] < RESUMED_USUALLY_WITHIN, "{took:?}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_open_link_is_noticed_and_resumed_within_three_seconds_of_its_return() {
    TestContext::own(case!("TIM-5", "CON-2", "SEQ-3", "SEQ-8"))
        .run(async |ctx| {
            let took = outages(ctx, 3, Fault::half_open).await;
            ctx.figure(
                "resume_after_half_open_ms",
                took[took.len() - 1].as_secs_f64() * 1e3,
                "ms",
            );
            assert!(took.iter().all(|took| *took < RESUMED_WITHIN), "{took:?}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_s_users_go_on_at_another_within_five_seconds() {
    TestContext::own(case!("SEQ-2", "SEQ-3", "SEQ-8", "SEQ-9", "MSG-5"))
        .with_nodes(2)
        .run(async |ctx| {
            let urls = [ctx.node_url(0).await, ctx.node_url(1).await];
            let mut clients = Vec::new();
            for nth in 0..6 {
                let user = ctx.user(&format!("client{nth}")).await;
                let chat = user
                    .stay_connected(SteadyOptions::at(urls.clone()).with_jitter_seed(nth))
                    .await;
                let said = vec![chat.say("Hello before")];
                let run_id = chat.accepted(&said[0]).await;
                chat.until_completed(&run_id).await;
                clients.push((user, chat, said));
            }
            ctx.kill_node(0).await;
            let killed = Instant::now();
            join_all(clients.iter_mut().map(async |(_, chat, said)| {
                said.push(chat.say("Hello after"));
                let run_id = chat.accepted(&said[1]).await;
                chat.until_completed(&run_id).await;
                let took = killed.elapsed();
                assert!(
                    took < MOVED_WITHIN,
                    "answered {took:?} after the kill: {:?}",
                    chat.story()
                );
            }))
            .await;
            ctx.figure("answered_after_kill_ms", killed.elapsed().as_secs_f64() * 1e3, "ms");
            // The users' own REST side spoke to the node that is gone.
            ctx.start_node(0).await;
            join_all(clients.iter().map(|(user, chat, said)| assert_whole(user, chat, said))).await;
        })
        .await;
}
