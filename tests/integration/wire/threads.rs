//! Threads over the WebSocket: their life, their pages, their history, and what becomes of a connection whose own thread
//! is gone.

use kingsguard_protocol::client::{
    CreateThread, DeleteThread, GetAgentContext, GetThreadHistory, ListThreads, RenameThread, SwitchThread,
    TypingStarted, UserMessage,
};
use kingsguard_protocol::control::{ThreadCreated, ThreadHistory, ThreadList, ThreadSwitched};
use kingsguard_protocol::http::{MessageRole, ThreadSummary};
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

covers!("BRG-1");

async fn create(chat: &mut Chat, title: Option<&str>) -> ThreadCreated {
    let message_id = chat
        .send(CreateThread {
            title: title.map(str::to_owned),
            metadata: None,
        })
        .await;
    match chat.answer_to(&message_id).await {
        ControlFrame::ThreadCreated(created) => created,
        other => panic!("expected thread_created, but {other:?}"),
    }
}

async fn list(chat: &mut Chat, limit: Option<u32>, cursor: Option<String>) -> ThreadList {
    let message_id = chat.send(ListThreads { limit, cursor }).await;
    match chat.answer_to(&message_id).await {
        ControlFrame::ThreadList(list) => list,
        other => panic!("expected thread_list, but {other:?}"),
    }
}

async fn history(chat: &mut Chat, thread: &ThreadId, limit: Option<u32>, before: Option<u64>) -> ThreadHistory {
    let message_id = chat.send_to(thread, GetThreadHistory { limit, before }).await;
    match chat.answer_to(&message_id).await {
        ControlFrame::ThreadHistory(history) => history,
        other => panic!("expected thread_history, but {other:?}"),
    }
}

async fn switch(chat: &mut Chat, thread: &ThreadId, resume: Option<ResumePoint>) -> ThreadSwitched {
    let message_id = chat.send_to(thread, SwitchThread { resume }).await;
    match chat.answer_to(&message_id).await {
        ControlFrame::ThreadSwitched(switched) => switched,
        other => panic!("expected thread_switched, but {other:?}"),
    }
}

fn titles(threads: &[ThreadSummary]) -> Vec<&str> {
    threads
        .iter()
        .map(|thread| thread.title.as_deref().unwrap_or("-"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_is_created_listed_renamed_and_deleted() {
    TestContext::wire(case!("MSG-1", "ISO-2"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let offered = chat.thread_id();
            let created = create(&mut chat, Some("Costs")).await;
            assert!(created.thread_id.is_well_formed() && created.thread_id != offered);
            assert_eq!(
                (created.title.as_deref(), created.metadata.get()),
                (Some("Costs"), "{}")
            );
            // It became the connection's own, and is followed.
            let run = chat.ask("What did I spend?").await;
            assert_eq!(run.accepted().thread_id, created.thread_id);
            let listed = list(&mut chat, None, None).await;
            let summary = listed
                .threads
                .iter()
                .find(|thread| thread.thread_id == created.thread_id)
                .expect("a created thread is listed");
            let last_seq = run.events().last().expect("a run has events").header.seq;
            assert_eq!((summary.title.as_deref(), summary.last_seq), (Some("Costs"), last_seq));

            let rename = RenameThread {
                title: "Spending, 2026 😀".into(),
            };
            let message_id = chat.send_to(&created.thread_id, rename).await;
            match chat.answer_to(&message_id).await {
                ControlFrame::ThreadRenamed(renamed) => {
                    assert_eq!(
                        (&renamed.thread_id, renamed.title.as_str()),
                        (&created.thread_id, "Spending, 2026 😀")
                    );
                }
                other => panic!("expected thread_renamed, but {other:?}"),
            }
            let path = format!("/api/threads/{}", created.thread_id);
            assert_eq!(
                ada.http().get(&path).await.expect_status(200).json()["title"],
                "Spending, 2026 😀"
            );

            let message_id = chat.send_to(&created.thread_id, DeleteThread {}).await;
            match chat.answer_to(&message_id).await {
                ControlFrame::ThreadDeleted(deleted) => assert_eq!(deleted.thread_id, created.thread_id),
                other => panic!("expected thread_deleted, but {other:?}"),
            }
            let _gone = ada.http().get(&path).await.expect_error(ErrorCode::ThreadNotFound);
            let listed = list(&mut chat, None, None).await;
            assert!(
                !listed
                    .threads
                    .iter()
                    .any(|thread| thread.thread_id == created.thread_id)
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_its_own_thread_was_deleted_a_connection_must_choose_another() {
    TestContext::wire(case!("MSG-1", "ISO-2"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let own = create(&mut chat, Some("short-lived")).await.thread_id;
            chat.send_to(&own, DeleteThread {}).await;
            chat.expect_control("thread_deleted").await;
            for body in [
                ClientBody::from(UserMessage {
                    content: "Where?".into(),
                    references: None,
                    metadata: None,
                }),
                GetThreadHistory::default().into(),
                GetAgentContext {}.into(),
                TypingStarted {}.into(),
            ] {
                let message_id = chat.send(body).await;
                chat.refusal_of(&message_id, ErrorCode::ThreadNotFound).await;
            }
            let other = ada.create_thread("other").await;
            switch(&mut chat, &other, None).await;
            assert_eq!(chat.ask("What did I spend?").await.accepted().thread_id, other);
            let message_id = chat.send_to(&own, SwitchThread { resume: None }).await;
            chat.refusal_of(&message_id, ErrorCode::ThreadNotFound).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threads_are_listed_newest_first_in_pages_without_gap_or_repeat() {
    TestContext::wire(case!("MSG-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let mut expected = Vec::new();
            for number in 0..7 {
                create(&mut chat, Some(&format!("thread {number}"))).await;
                expected.insert(0, format!("thread {number}"));
            }
            let mut came = Vec::new();
            let mut cursor = None;
            let mut pages = 0;
            loop {
                let page = list(&mut chat, Some(3), cursor).await;
                assert!(page.threads.len() <= 3, "{page:?}");
                came.extend(titles(&page.threads).into_iter().map(str::to_owned));
                pages += 1;
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            came.retain(|title| title != "-"); // the offered thread, if the target lists it
            assert_eq!(came, expected);
            assert!(pages >= 3, "{pages} pages");
            let whole = list(&mut chat, Some(100), None).await;
            assert_eq!(whole.next_cursor, None);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_pages_back_to_the_first_event_with_the_bytes_of_the_first_delivery() {
    TestContext::wire(case!("SEQ-2", "SEQ-5", "MSG-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let thread = chat.thread_id();
            let mut delivered = Vec::new();
            let mut said = Vec::new();
            for question in ["How can I spend less?", "And by model?"] {
                let run = chat.ask(question).await;
                delivered.extend(run.frames().iter().map(|frame| frame.text().to_owned()));
                said.push((MessageRole::User, question.to_owned()));
                said.push((MessageRole::Assistant, run.completed().final_response.clone()));
            }
            let mut collected: Vec<String> = Vec::new();
            let mut before = None;
            loop {
                let page = history(&mut chat, &thread, Some(4), before).await;
                assert_eq!(page.thread_id, thread);
                assert!(page.events.len() <= 4, "{} events", page.events.len());
                let events: Vec<String> = page.events.iter().map(|event| event.get().to_owned()).collect();
                before = events.first().map(|first| {
                    let first: Event = serde_json::from_str(first).expect("an event");
                    first.header.seq
                });
                assert_eq!(page.has_more, before != Some(1), "before {before:?}");
                collected.splice(0..0, events);
                if !page.has_more {
                    break;
                }
            }
            assert_eq!(collected, delivered);
            let whole = history(&mut chat, &thread, None, None).await;
            let messages: Vec<(MessageRole, String)> = whole
                .messages
                .iter()
                .map(|message| (message.role, message.content.clone()))
                .collect();
            assert_eq!(messages, said);
            let none = history(&mut chat, &thread, Some(5), Some(1)).await;
            assert_eq!((none.events.len(), none.has_more), (0, false));
            // REST answers the same.
            let path = format!("/api/threads/{thread}/messages?limit=100");
            let by_rest: ThreadHistory = ada.http().get(&path).await.expect_status(200).parse();
            let by_socket = history(&mut chat, &thread, Some(100), None).await;
            let texts = |history: &ThreadHistory| {
                history
                    .events
                    .iter()
                    .map(|event| event.get().to_owned())
                    .collect::<Vec<_>>()
            };
            assert_eq!(texts(&by_rest), texts(&by_socket));
            assert_eq!(by_rest.messages, by_socket.messages);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switching_tells_the_position_resumes_and_does_not_stop_following() {
    TestContext::wire(case!("MSG-1", "SEQ-3", "SEQ-6"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let first = chat.thread_id();
            let run = chat.ask("How can I spend less?").await;
            let (epoch, last_seq) = chat.positions()[&first].clone();
            let second = ada.create_thread("second").await;
            let switched = switch(&mut chat, &second, None).await;
            let position = &switched.position;
            assert_eq!(
                (
                    &position.thread_id,
                    position.recovered,
                    position.oldest_seq,
                    position.last_seq
                ),
                (&second, false, 1, 0)
            );
            assert_eq!(chat.ask("And here?").await.accepted().thread_id, second);

            // The first is still followed: what another connection starts there arrives here too.
            let mut other = ada.open().await;
            other.handshake_with(Some(&first), Vec::new()).await;
            let elsewhere = other.ask("By model?").await;
            let seen = chat.until_completed(elsewhere.run_id()).await;
            assert_eq!(seen.types(), elsewhere.types());

            let mut third = ada.connect().await;
            let point = ResumePoint {
                epoch: epoch.clone(),
                after: 0,
            };
            let switched = switch(&mut third, &first, Some(point)).await;
            assert!(switched.position.recovered);
            assert_eq!(switched.position.epoch, epoch);
            let replayed = third.until_completed(run.run_id()).await;
            let bytes = |run: &RunView| run.frames().iter().map(|frame| frame.bytes.clone()).collect::<Vec<_>>();
            assert_eq!(bytes(&replayed), bytes(&run));
            third.until_completed(elsewhere.run_id()).await;

            let bad = ResumePoint {
                epoch: "another".into(),
                after: last_seq,
            };
            let switched = switch(&mut other, &second, Some(bad)).await;
            assert_eq!((switched.position.recovered, switched.position.oldest_seq), (false, 1));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_and_an_unknown_thread_are_refused_alike_by_every_message() {
    TestContext::wire(case!("ISO-2"))
        .run(async |ctx| {
            let (ada, bob) = (ctx.user("ada").await, ctx.user("bob").await);
            let hers = ada.create_thread("hers").await;
            let mut chat = bob.connect().await;
            for body in [
                json!({ "type": "user_message", "content": "x" }),
                json!({ "type": "start_agent", "agent_name": "triage", "user_request": "x" }),
                json!({ "type": "example_message", "content": "x", "category": "cost" }),
                json!({ "type": "switch_thread" }),
                json!({ "type": "switch_thread", "resume": { "epoch": "x", "after": 0 } }),
                json!({ "type": "rename_thread", "title": "mine now" }),
                json!({ "type": "delete_thread" }),
                json!({ "type": "get_thread_history" }),
                json!({ "type": "get_agent_context" }),
                json!({ "type": "typing_started" }),
                json!({ "type": "typing_stopped" }),
                json!({ "type": "handshake_acknowledged" }),
            ] {
                if !ctx.is_claimed(&body) {
                    continue;
                }
                let mut came = Vec::new();
                for thread in [
                    hers.as_str(),
                    ThreadId::generate().as_str(),
                    "",
                    "' OR 1=1 --",
                    "../../etc/passwd",
                ] {
                    let mut message = body.clone();
                    message["thread_id"] = json!(thread);
                    message["message_id"] = json!("message_probe");
                    chat.send_json(&message).await;
                    let error = chat
                        .refusal_of(&"message_probe".into(), ErrorCode::ThreadNotFound)
                        .await;
                    let mut error = serde_json::to_value(&error).expect("it is JSON");
                    error.as_object_mut().expect("an object").remove("timestamp");
                    came.push(error);
                }
                assert!(came.iter().all(|error| *error == came[0]), "{body}: {came:#?}");
            }
            let title = ada.http().get(&format!("/api/threads/{hers}")).await.json()["title"].clone();
            assert_eq!(title, "hers");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_offered_thread_exists_from_its_first_use() {
    TestContext::wire(case!("HSK-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let run = chat.ask("What did I spend?").await;
            let path = format!("/api/threads/{}", run.accepted().thread_id);
            let summary: ThreadSummary = ada.http().get(&path).await.expect_status(200).parse();
            assert_eq!(summary.thread_id, chat.thread_id());
            let listed = list(&mut chat, None, None).await;
            assert_eq!(
                listed
                    .threads
                    .iter()
                    .map(|thread| &thread.thread_id)
                    .collect::<Vec<_>>(),
                [&chat.thread_id()]
            );
        })
        .await;
}
