//! Bringing usage records: `POST /api/usage-records` (contract §11, HTTP-1).
//!
//! The body is read as it arrives, by a thread of its own, because readers of JSON are synchronous; what is read goes on
//! in batches to one transaction. No more than a few chunks, one row and a few batches are in memory.

mod csv;
mod json;
mod rows;

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use kingsguard_protocol::{ErrorCode, UserId};
use tokio::sync::{Semaphore, mpsc};

use self::rows::{Refusal, RowReader};
use crate::error::ApiError;
use crate::store::Store;
use crate::tools::{PriceCatalogue, UsageRow};

/// Rows that one call may bring; the issue chose the number.
pub const ROWS_MAX: u64 = 100_000;

/// Bytes that one call may bring: room for 100,000 rows of 640 bytes. More answers MESSAGE_TOO_LARGE.
pub const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Records that one user may have; more would not fit into the memory that a run may use for its snapshot.
pub const RECORDS_PER_USER_MAX: u64 = 1_000_000;

/// Rows that are written to Postgres at once.
const BATCH_ROWS: usize = 1_000;

/// Chunks of the body, and batches of rows, that may wait for the next stage.
const WAITING_MAX: usize = 4;

/// How long a client may send nothing; its transaction would hold a connection to Postgres meanwhile.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Imports that may run at once on a node, so that slow clients cannot take all connections to Postgres.
static PLACES: Semaphore = Semaphore::const_new(4);

/// How the body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Csv,
}

impl Format {
    fn of(content_type: Option<&str>) -> Result<Self, ApiError> {
        let essence = content_type
            .and_then(|it| it.split(';').next())
            .map(|it| it.trim().to_ascii_lowercase());
        match essence.as_deref() {
            None | Some("application/json") => Ok(Self::Json),
            Some("text/csv") => Ok(Self::Csv),
            Some(_) => Err(ApiError::validation(
                "",
                "application/json or text/csv, as Content-Type says",
            )),
        }
    }
}

/// Reads all rows of a body and stores them, or stores nothing.
///
/// # Errors
/// VALIDATION_ERROR with `details.rows` for bad rows (the first hundred) and `details.rows_total` for how many there are,
/// or with the pointer of what else is wrong; JSON_PARSE_ERROR; MESSAGE_TOO_LARGE; QUOTA_EXCEEDED; DATABASE_UNAVAILABLE.
pub async fn import<S, E>(
    store: &Store,
    catalogue: Arc<PriceCatalogue>,
    user: &UserId,
    content_type: Option<&str>,
    body: S,
) -> Result<u64, ApiError>
where
    S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
    E: std::error::Error + Send + Sync + 'static,
{
    let format = Format::of(content_type)?;
    let _place = PLACES.acquire().await.map_err(ApiError::internal)?;
    let (chunks, received) = mpsc::channel::<Bytes>(WAITING_MAX);
    let (batches, mut read) = mpsc::channel::<Vec<UsageRow>>(WAITING_MAX);
    let reading = tokio::task::spawn_blocking(move || {
        let rows = RowReader::new(catalogue, BATCH_ROWS, move |batch| batches.blocking_send(batch).is_ok());
        let chunks = Chunks::new(received);
        match format {
            Format::Json => json::read(chunks, rows),
            Format::Csv => rows::read_csv(chunks, rows),
        }
    });
    // Owns its end of the channel: where it fails, the reader cannot hand on any more and ends too.
    let storing = async move {
        let mut import = None;
        while let Some(batch) = read.recv().await {
            let import = match &mut import {
                Some(import) => import,
                none => none.insert(store.begin_usage_import(user).await?),
            };
            import.add(&batch).await?;
        }
        Ok::<_, sqlx::Error>(import)
    };
    let (sent, stored) = tokio::join!(feed(body, chunks), storing);
    let outcome = reading.await?;
    sent?;
    let import = stored?;
    let rows = outcome.map_err(ApiError::from)?;
    match import {
        Some(import) if rows > 0 => {
            if import.commit(RECORDS_PER_USER_MAX).await? {
                Ok(rows)
            } else {
                Err(ApiError::new(ErrorCode::QuotaExceeded)
                    .with_message("You would have more than 1,000,000 usage records. Nothing was stored.")
                    .with_detail("records_max", RECORDS_PER_USER_MAX))
            }
        }
        _ => Err(Refusal::NoRows.into()),
    }
}

/// Hands the body over to the reader, as fast as it reads; ends early where the reader needs no more.
async fn feed<S, E>(mut body: S, chunks: mpsc::Sender<Bytes>) -> Result<(), ApiError>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::error::Error + Send + Sync + 'static,
{
    let mut total = 0u64;
    loop {
        let next = tokio::time::timeout(SILENCE_MAX, body.next()).await;
        let Ok(next) = next else {
            return Err(ApiError::validation("", "sent without a silence of 10 s"));
        };
        match next {
            None => return Ok(()),
            Some(Err(error)) => return Err(ApiError::validation("", "sent whole").caused_by(error)),
            Some(Ok(chunk)) => {
                total += chunk.len() as u64;
                if total > BODY_BYTES_MAX {
                    return Err(ApiError::new(ErrorCode::MessageTooLarge).with_detail("bytes_max", BODY_BYTES_MAX));
                }
                if chunks.send(chunk).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

/// The body as readers want it: blocking.
#[derive(Debug)]
struct Chunks {
    received: mpsc::Receiver<Bytes>,
    chunk: Bytes,
}

impl Chunks {
    fn new(received: mpsc::Receiver<Bytes>) -> Self {
        Self {
            received,
            chunk: Bytes::new(),
        }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.received.blocking_recv() {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let taken = self.chunk.split_to(self.chunk.len().min(buffer.len()));
        buffer[..taken.len()].copy_from_slice(&taken);
        Ok(taken.len())
    }
}
