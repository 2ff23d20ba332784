//! One user who talks in many threads at once.

use std::collections::BTreeMap;

use kingsguard_protocol::client::UserMessage;
use kingsguard_testkit::prelude::*;

/// Threads of one user, and how far the log of each goes.
#[derive(Debug)]
pub struct ManyThreads {
    /// The newest `seq` of each.
    last: BTreeMap<ThreadId, u64>,
}

impl ManyThreads {
    /// Makes `count` threads.
    ///
    /// # Panics
    /// The target refuses.
    pub async fn create(user: &SimulatedUser, count: usize) -> Self {
        let mut last = BTreeMap::new();
        for nth in 0..count {
            last.insert(user.create_thread(&format!("thread {nth}")).await, 0);
        }
        Self { last }
    }

    /// The threads.
    pub fn ids(&self) -> impl Iterator<Item = &ThreadId> {
        self.last.keys()
    }

    /// Asks a question in every thread before any answer is read, then claims that every event came to the thread of its
    /// run: its header, its place in that thread's log, and no word of another thread in it. Gives the runs by thread.
    ///
    /// # Panics
    /// An event is elsewhere, missing, doubled or another's.
    pub async fn ask_in_each(&mut self, user: &SimulatedUser, chat: &mut Chat) -> BTreeMap<ThreadId, RunView> {
        let mut asked = Vec::new();
        for thread_id in self.last.keys() {
            let question = UserMessage {
                content: format!("Hello from {thread_id}"),
                references: None,
                metadata: None,
            };
            let message_id = chat.send_to(thread_id, question).await;
            asked.push((thread_id.clone(), message_id));
        }
        let mut runs = BTreeMap::new();
        for (thread_id, message_id) in asked {
            let accepted = chat.accepted(&message_id).await;
            assert_eq!(accepted.thread_id, thread_id, "{message_id} was accepted elsewhere");
            let run = chat.until_completed(&accepted.run_id).await;
            assert_eq!(run.completed().status, RunStatus::Completed, "{:?}", run.completed());
            let last = self.last.get_mut(&thread_id).expect("asked in it");
            for frame in run.frames() {
                *last += 1;
                let header = &frame.event().expect("a run has events only").header;
                assert_eq!(
                    (
                        &header.thread_id,
                        &header.run_id,
                        &header.correlation_id,
                        &header.user_id
                    ),
                    (&thread_id, &accepted.run_id, &message_id, &user.user_id()),
                    "{}",
                    frame.text()
                );
                assert_eq!(header.seq, *last, "a hole or a repeat in {thread_id}");
                let strange = ids_in(frame.text()).find(|id| *id != thread_id.as_str());
                assert_eq!(strange, None, "another thread in {}", frame.text());
            }
            let thoughts = run.thoughts();
            assert!(
                thoughts[0].reasoning.contains(thread_id.as_str()),
                "it answers what was said here: {thoughts:?}"
            );
            runs.insert(thread_id, run);
        }
        runs
    }
}

/// The ids of threads that a text names.
fn ids_in(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
        .filter(|word| word.starts_with("thread_") && word.len() > 20)
}
