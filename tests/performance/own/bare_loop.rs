//! The yardstick: the same frames through the least that any backend must do: one connection to Postgres that appends what
//! has gathered, then a socket each. No sessions, no agents, no order kept between tasks.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use kingsguard_testkit::prelude::*;
use sqlx::{Connection, PgConnection};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use super::listener::Seen;

/// Frames that are appended at once, at most.
const BATCH_MAX: usize = 512;
/// Frames that may wait to be appended.
const QUEUE_MAX: usize = 8_192;

/// What the loop reached.
pub struct Reached {
    /// From the intended moment of each frame to its being parsed.
    pub latency: Timing,
    /// How late frames were handed in.
    pub lateness: Timing,
    /// Frames that were parsed in a second, from the first one's intended moment to the last one's parsing.
    pub per_second: f64,
}

/// Sends `frames`, which are those of each socket, so many times over: one of each socket by turns, each `every` after
/// the one before, as fast as it goes where that is zero.
///
/// # Panics
/// A frame is missing, comes twice or out of its place.
pub async fn run(database_url: &str, frames: &[Vec<String>], rounds: usize, every: Duration) -> Reached {
    let mut postgres = PgConnection::connect(database_url)
        .await
        .expect("the database of the test answers");
    let table = "CREATE TABLE IF NOT EXISTS yardstick (socket bigint, seq bigint, frame text)";
    sqlx::query(table)
        .execute(&mut postgres)
        .await
        .expect("a table of the test's own");

    let sockets = frames.len();
    let per_round = frames.iter().map(Vec::len).min().expect("there are sockets");
    let moment = move |began: Instant, nth: usize| began + every * u32::try_from(nth).expect("a test sends fewer");
    let listener = TcpListener::bind(("127.0.0.1", 0))
        .await
        .expect("127.0.0.1 has a free port");
    let address = listener.local_addr().expect("a bound listener has an address");
    let (begin, begun) = tokio::sync::watch::channel(None::<Instant>);
    let (mut writers, mut tasks, mut readers) = (Vec::new(), JoinSet::new(), JoinSet::new());
    for (socket, own) in frames.iter().enumerate() {
        let near = TcpStream::connect(address);
        let (far, near) = tokio::join!(listener.accept(), near);
        let (far, near) = (far.expect("it listens").0, near.expect("it listens"));
        near.set_nodelay(true).expect("a socket takes its options");
        far.set_nodelay(true).expect("a socket takes its options");
        let (far, near) = tokio::join!(
            tokio_tungstenite::accept_async(far),
            tokio_tungstenite::client_async(format!("ws://{address}/"), near)
        );
        let (mut far, (mut near, _)) = (far.expect("an upgrade"), near.expect("an upgrade"));
        let (writer, mut queue) = mpsc::unbounded_channel::<String>();
        writers.push(writer);
        tasks.spawn(async move {
            while let Some(text) = queue.recv().await {
                far.feed(Message::text(text)).await.expect("the socket is open");
                while let Ok(text) = queue.try_recv() {
                    far.feed(Message::text(text)).await.expect("the socket is open");
                }
                far.flush().await.expect("the socket is open");
            }
        });
        let first_seq = Seen::parse(&own[0]).seq.expect("an event has a place");
        let mut begun = begun.clone();
        readers.spawn(async move {
            let began = *begun.wait_for(Option::is_some).await.expect("it begins");
            let began = began.expect("just seen");
            let mut latency = Timing::default();
            for nth in 0..per_round * rounds {
                let Some(Ok(Message::Text(text))) = near.next().await else {
                    panic!("the socket is open");
                };
                let seq = Seen::parse(&text).seq;
                assert_eq!(seq, Some(first_seq + (nth % per_round) as u64), "the place of {text}");
                let intended = moment(began, nth * sockets + socket);
                latency.record(Instant::now().saturating_duration_since(intended));
            }
            (latency, Instant::now())
        });
    }

    let (drafts, mut queue) = mpsc::channel::<(usize, String)>(QUEUE_MAX);
    tasks.spawn(async move {
        let (mut batch, mut seq) = (Vec::with_capacity(BATCH_MAX), 0_i64);
        while queue.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let places: Vec<i64> = batch.iter().map(|(socket, _)| *socket as i64).collect();
            let seqs: Vec<i64> = (seq..).take(batch.len()).collect();
            seq += batch.len() as i64;
            let texts: Vec<&str> = batch.iter().map(|(_, text)| text.as_str()).collect();
            sqlx::query("INSERT INTO yardstick SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[])")
                .bind(places)
                .bind(seqs)
                .bind(texts)
                .execute(&mut postgres)
                .await
                .expect("the database of the test answers");
            for (socket, text) in batch.drain(..) {
                writers[socket].send(text).expect("the socket is open");
            }
        }
    });

    let began = Instant::now();
    begin.send_replace(Some(began));
    let mut lateness = Timing::default();
    for nth in 0..per_round * rounds {
        for (socket, own) in frames.iter().enumerate() {
            let intended = moment(began, nth * sockets + socket);
            if !every.is_zero() {
                // sleeps because an open model sends at the intended moment
                tokio::time::sleep_until(intended.into()).await;
                lateness.record(intended.elapsed());
            }
            let draft = (socket, own[nth % per_round].clone());
            drafts.send(draft).await.expect("the writer goes on");
        }
    }
    let mut latency = Timing::default();
    let mut last = began;
    for (own, ended) in readers.join_all().await {
        latency.add(&own);
        last = last.max(ended);
    }
    Reached {
        latency,
        lateness,
        per_second: (per_round * rounds * sockets) as f64 / last.duration_since(began).as_secs_f64(),
    }
}
