//! Says an answer part by part: a few large ones, or one for each record of a listing.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::future::BoxFuture;
use kingsguard_protocol::EventBody;
use kingsguard_protocol::event::PartialResult;
use tokio::time::Instant;

use super::case::Case;
use super::desk::{Desk, WorkError};
use super::sink::SinkError;
use crate::redact;
use crate::tools::{Halt, listed, row_in_words};

/// Parts that are handed in together: one wake of the log's writer for all of them, and few enough that other runs get
/// their turn between.
const CHUNK_MAX: usize = 64;
/// Chunks that may wait for their commit at a time: the next one is made meanwhile, and a run that is far ahead of
/// Postgres waits.
const CHUNKS_WAITING_MAX: usize = 4;

/// An answer that is being said.
pub(super) struct Telling<'a> {
    desk: &'a Desk<'a>,
    parts: u32,
    said: String,
    waiting: VecDeque<BoxFuture<'a, Result<(), SinkError>>>,
}

impl<'a> Telling<'a> {
    pub(super) fn new(desk: &'a Desk<'a>) -> Self {
        Self {
            desk,
            parts: 0,
            said: String::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Says a part after which others come.
    pub(super) async fn say(&mut self, part: String) -> Result<(), Halt> {
        self.hand_in([part], false).await
    }

    /// Says the last part and gives the whole answer, once all of it is durable.
    pub(super) async fn finish(mut self, part: String) -> Result<String, Halt> {
        self.hand_in([part], true).await?;
        while let Some(chunk) = self.waiting.pop_front() {
            chunk.await?;
        }
        Ok(self.said)
    }

    /// Says one part for each record that the case is about, no faster than the request wants them.
    pub(super) async fn say_records(&mut self, case: &Case) -> Result<(), WorkError> {
        let snapshot = self.desk.scope.data.snapshot().await;
        let snapshot = snapshot.map_err(|error| WorkError::failed(error.code, error.message))?;
        let rows = listed(snapshot.within(case.period));
        let began = Instant::now();
        let mut said = 0;
        while said < rows.len() {
            let due = match case.reading.rows_per_second {
                None => rows.len(),
                Some(rate) => {
                    let next = began + Duration::from_secs_f64(said as f64 / rate as f64);
                    rest_until(self.desk, next).await?;
                    let due = 1.0 + began.elapsed().as_secs_f64() * rate as f64;
                    rows.len().min(due as usize).max(said + 1)
                }
            };
            let chunk = &rows[said..due.min(said + CHUNK_MAX)];
            said += chunk.len();
            let lines = chunk.iter().map(row_in_words);
            self.hand_in(lines.map(|line| redact::text(&line).into_owned()), false)
                .await?;
        }
        Ok(())
    }

    async fn hand_in(&mut self, parts: impl IntoIterator<Item = String>, is_final: bool) -> Result<(), Halt> {
        let bodies = parts.into_iter().map(|content| {
            let index = self.parts;
            self.parts += 1;
            self.said.push_str(&content);
            EventBody::from(PartialResult {
                content,
                index,
                is_final,
            })
        });
        let bodies = bodies.collect();
        while self.waiting.len() >= CHUNKS_WAITING_MAX
            && let Some(chunk) = self.waiting.pop_front()
        {
            chunk.await?;
        }
        self.waiting.push_back(self.desk.hand_in(bodies).await?);
        Ok(())
    }
}

async fn rest_until(desk: &Desk<'_>, moment: Instant) -> Result<(), Halt> {
    if moment <= Instant::now() {
        return Ok(());
    }
    tokio::select! {
        biased;
        () = desk.scope.cancel.cancelled() => Err(Halt::Cancelled),
        () = tokio::time::sleep_until(moment.min(desk.scope.deadline)) => desk.scope.check(),
    }
}
