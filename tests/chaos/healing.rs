//! After the nemeses: everything becomes whole, everybody catches up, and the history is gathered.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kingsguard_protocol::control::ThreadHistory;
use kingsguard_testkit::chaos::{ClientLog, History, LogLine, ThreadTruth};
use kingsguard_testkit::prelude::*;
use tokio::time::Instant;

use crate::workload::{Crowd, Member, Sent};

/// How long nothing may move before everything is whole. What is not whole then is an anomaly: a lost node's runs are taken
/// over within 5 s (SEQ-9), a lost service is back within 5 s (ERR-3).
const STANDSTILL: Duration = Duration::from_secs(12);

/// How long it may go on in all. A machine on which the work is not done by then is too slow to judge anything.
const HEALING_MAX: Duration = Duration::from_secs(60);

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Waits until everything is whole, then gathers what all clients have and what the service says.
pub async fn heal(ctx: &TestContext, crowd: &Crowd, sent: &[Sent]) -> Result<History> {
    let began = Instant::now();
    let (mut moved, mut moves) = (began, 0);
    let mut is_probed = false;
    loop {
        let has = crowd.members.iter().flat_map(|member| {
            let clients = member.clients.iter();
            clients.flat_map(|client| member.threads.iter().map(|thread_id| client.events(thread_id).len()))
        });
        let has: usize = has.sum();
        if has > moves {
            (moved, moves) = (Instant::now(), has);
        }
        let stands_still = moved.elapsed() > STANDSTILL;
        let mut lack = lack_of_clients(crowd, sent);
        if lack.is_none() && !is_probed {
            is_probed = true;
            for member in &crowd.members {
                resume_from_another_epoch(member).await;
            }
        }
        if lack.is_none() || stands_still {
            // What was seen is taken first: what the service says later holds all of it.
            let recording = ctx.recording();
            let mut history = gather(crowd).await?;
            let runs = history.truth.values().flat_map(|truth| &truth.events);
            let runs = runs.filter(|line| line.kind == "agent_started").count();
            ensure!(runs > 0, "nobody was answered anything: the run proves nothing");
            lack = lack.or_else(|| lack_of_logs(crowd, sent, &history));
            if lack.is_none() || stands_still {
                lack.iter()
                    .for_each(|lack| eprintln!("nothing moves any more, and it is not whole: {lack}"));
                ctx.figure("chaos_healing_max_ms", began.elapsed().as_millis() as f64, "ms");
                history.connections = History::seen_in(&recording);
                return Ok(history);
            }
        }
        if began.elapsed() > HEALING_MAX {
            let lack = lack.unwrap_or_default();
            ctx.invalid(format!(
                "the machine is too slow: work goes on after {} s: {lack}",
                HEALING_MAX.as_secs()
            ));
        }
        // sleeps because clients come back in their own time, and nobody announces that the last one did
        tokio::time::sleep(LOOK).await;
    }
}

/// Asks to go on in a log that there never was; the checkers see whether that is granted.
async fn resume_from_another_epoch(member: &Member) {
    let thread_id = &member.threads[0];
    let resume = ThreadResume {
        thread_id: thread_id.clone(),
        point: ResumePoint {
            epoch: "epoch-of-another-log".into(),
            after: 1,
        },
    };
    let mut chat = member.user.open().await;
    chat.handshake_with(Some(thread_id), vec![resume]).await;
    chat.drop_connection().await;
}

/// Which client is not whole yet.
fn lack_of_clients(crowd: &Crowd, sent: &[Sent]) -> Option<String> {
    for Sent {
        member,
        client,
        message_id,
    } in sent
    {
        if crowd.members[*member].clients[*client]
            .known_outcome(message_id)
            .is_none()
        {
            return Some(format!("{message_id} has no outcome"));
        }
    }
    for (index, member) in crowd.members.iter().enumerate() {
        for (number, client) in member.clients.iter().enumerate() {
            if !client.is_settled() {
                return Some(format!(
                    "client {number} of user {index} is not settled: {:#?}",
                    client.story()
                ));
            }
        }
    }
    None
}

/// What is not yet at its end, or not yet everywhere.
fn lack_of_logs(crowd: &Crowd, sent: &[Sent], history: &History) -> Option<String> {
    for (thread_id, truth) in &history.truth {
        if let Some(run_id) = open_run(truth) {
            return Some(format!("{run_id} has not ended"));
        }
        let last = truth.events.last().map_or(0, |line| line.seq);
        for log in history.logs.iter().filter(|log| log.thread_id == *thread_id) {
            let has = log.events.last().map_or(0, |line| line.seq);
            if has < last {
                return Some(format!("{} has {has} of {last} events of {thread_id}", log.client));
            }
        }
    }
    // A run that was accepted and has not begun waits behind nobody now: it is a matter of a moment.
    let begun = |run_id: &RunId| {
        let mut lines = history.truth.values().flat_map(|truth| &truth.events);
        lines.any(|line| line.run_id == run_id.as_str())
    };
    sent.iter().find_map(
        |Sent {
             member,
             client,
             message_id,
         }| {
            let run_id = crowd.members[*member].clients[*client].run_of(message_id)?;
            (!begun(&run_id)).then(|| format!("{run_id} has not begun"))
        },
    )
}

fn open_run(truth: &ThreadTruth) -> Option<String> {
    let mut open: BTreeMap<&str, bool> = BTreeMap::new();
    for line in &truth.events {
        let ended = open.entry(&line.run_id).or_default();
        *ended |= line.kind == "agent_completed";
    }
    open.into_iter()
        .find(|(_, ended)| !ended)
        .map(|(run_id, _)| run_id.to_owned())
}

async fn gather(crowd: &Crowd) -> Result<History> {
    let mut history = History::default();
    for (index, member) in crowd.members.iter().enumerate() {
        let user_id = member.user.user_id().to_string();
        // What the clients have is looked at first: the truth may only be ahead of it.
        for (number, client) in member.clients.iter().enumerate() {
            history.logs.extend(member.threads.iter().map(|thread_id| ClientLog {
                client: format!("client {number} of user {index}"),
                user_id: user_id.clone(),
                thread_id: thread_id.to_string(),
                events: read_log(client, thread_id),
            }));
        }
        for thread_id in &member.threads {
            history.owners.insert(thread_id.to_string(), user_id.clone());
            let truth = read_truth(member, thread_id).await?;
            history.truth.insert(thread_id.to_string(), truth);
        }
    }
    Ok(history)
}

fn read_log(client: &SteadyChat, thread_id: &ThreadId) -> Vec<LogLine> {
    let events = client.events(thread_id);
    events.iter().filter_map(|event| LogLine::read(&event.text)).collect()
}

/// The durable log of a thread, page by page, as the service tells it over HTTP.
async fn read_truth(member: &Member, thread_id: &ThreadId) -> Result<ThreadTruth> {
    let mut truth = ThreadTruth::default();
    let mut before: Option<u64> = None;
    loop {
        let bound = before.map(|seq| format!("&before={seq}")).unwrap_or_default();
        let path = format!("/api/threads/{thread_id}/messages?limit=100{bound}");
        let page = read_page(member, &path).await?;
        let lines: Vec<LogLine> = page
            .events
            .iter()
            .filter_map(|event| LogLine::read(event.get()))
            .collect();
        let messages = page.messages.iter().map(|message| message.message_id.to_string());
        truth.messages.extend(messages);
        let oldest = lines.first().map(|line| line.seq);
        truth.events.splice(0..0, lines);
        if !page.has_more {
            return Ok(truth);
        }
        ensure!(oldest < before || before.is_none(), "pages of {thread_id} go nowhere");
        before = oldest;
    }
}

/// Some node answers at the end; one that does not yet is asked again.
async fn read_page(member: &Member, path: &str) -> Result<ThreadHistory> {
    let deadline = Instant::now() + HEALING_MAX;
    loop {
        let answer = member.user.http().try_get(path).await;
        let refused = match answer {
            Ok(answer) if answer.status() == 200 => {
                return serde_json::from_slice(answer.bytes()).with_context(|| format!("reading {path}"));
            }
            Ok(answer) => format!("{answer:?}"),
            Err(error) => error.to_string(),
        };
        ensure!(
            Instant::now() < deadline,
            "the service does not tell its log: {refused}"
        );
        // sleeps because the service says by itself when it is back
        tokio::time::sleep(LOOK).await;
    }
}
