//! The yardstick: the same frames through the least that any backend must do: one connection to Postgres that appends what
//! has gathered, then a socket each. No sessions, no agents, no order kept between tasks.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use kingsguard_testkit::prelude::*;
use sqlx::{Connection, PgConnection};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

/// Frames that are appended at once, at most.
const BATCH_MAX: usize = 512;

/// What the loop reached.
pub struct Reached {
    /// From the intended moment of each frame to its arrival.
    pub latency: Timing,
    /// Frames that arrived in a second, from the first one's intended moment to the last one's arrival.
    pub per_second: f64,
}

struct Draft {
    socket: usize,
    intended: Instant,
    text: String,
}

/// Sends `frames` over as many sockets as there are numbers in them: frame and socket, each `every` after the one before.
pub async fn run(database_url: &str, frames: &[(usize, String)], sockets: usize, every: Duration) -> Reached {
    let mut postgres = PgConnection::connect(database_url)
        .await
        .expect("the database of the test answers");
    let table = "CREATE TABLE IF NOT EXISTS yardstick (socket bigint, seq bigint, frame text)";
    sqlx::query(table)
        .execute(&mut postgres)
        .await
        .expect("a table of the test's own");

    let listener = TcpListener::bind(("127.0.0.1", 0))
        .await
        .expect("127.0.0.1 has a free port");
    let address = listener.local_addr().expect("a bound listener has an address");
    let (arrived, mut arrivals) = mpsc::unbounded_channel::<(Instant, Instant)>();
    let (mut writers, mut tasks) = (Vec::new(), Vec::new());
    for _ in 0..sockets {
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
        // A socket keeps order, so the n-th mark is that of its n-th frame.
        let (mark, mut marks) = mpsc::unbounded_channel::<Instant>();
        writers.push((mark, writer));
        tasks.push(tokio::spawn(async move {
            while let Some(text) = queue.recv().await {
                far.feed(Message::text(text)).await.expect("the socket is open");
                while let Ok(text) = queue.try_recv() {
                    far.feed(Message::text(text)).await.expect("the socket is open");
                }
                far.flush().await.expect("the socket is open");
            }
        }));
        let arrived = arrived.clone();
        tasks.push(tokio::spawn(async move {
            while let Some(Ok(Message::Text(_))) = near.next().await {
                let at = Instant::now();
                let intended = marks.recv().await.expect("a frame is marked before it is sent");
                arrived.send((at, intended)).expect("the test counts until all came");
            }
        }));
    }

    let (drafts, mut queue) = mpsc::unbounded_channel::<Draft>();
    tasks.push(tokio::spawn(async move {
        let (mut batch, mut seq) = (Vec::with_capacity(BATCH_MAX), 0_i64);
        while queue.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let places: Vec<i64> = batch.iter().map(|draft: &Draft| draft.socket as i64).collect();
            let seqs: Vec<i64> = (seq..).take(batch.len()).collect();
            seq += batch.len() as i64;
            let texts: Vec<&str> = batch.iter().map(|draft| draft.text.as_str()).collect();
            sqlx::query("INSERT INTO yardstick SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[])")
                .bind(places)
                .bind(seqs)
                .bind(texts)
                .execute(&mut postgres)
                .await
                .expect("the database of the test answers");
            for draft in batch.drain(..) {
                let (mark, writer) = &writers[draft.socket];
                mark.send(draft.intended).expect("the socket is open");
                writer.send(draft.text).expect("the socket is open");
            }
        }
    }));

    let began = Instant::now();
    for (place, (socket, text)) in frames.iter().enumerate() {
        let intended = began + every * u32::try_from(place).expect("a test sends fewer");
        if !every.is_zero() {
            // sleeps because an open model sends at the intended moment
            tokio::time::sleep_until(intended.into()).await;
        }
        drafts
            .send(Draft {
                socket: *socket,
                intended,
                text: text.clone(),
            })
            .expect("the writer goes on");
    }
    let mut latency = Timing::default();
    let mut last = began;
    for _ in frames {
        let (at, intended) = arrivals.recv().await.expect("every frame arrives");
        latency.record(at.saturating_duration_since(intended));
        last = last.max(at);
    }
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    Reached {
        latency,
        per_second: frames.len() as f64 / last.duration_since(began).as_secs_f64(),
    }
}
