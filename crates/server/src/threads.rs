//! What users do with their threads, the same over HTTP and WebSocket.
//!
//! A thread that is not the user's is answered like one that does not exist (ISO-2).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use kingsguard_protocol::control::ThreadHistory;
use kingsguard_protocol::http::{ThreadPage, ThreadSummary};
use kingsguard_protocol::{ErrorCode, ThreadId, Timestamp, UserId};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::error::ApiError;
use crate::sabotage::{self, Fault};
use crate::store::threads::{Listed, PageStart};
use crate::store::{Store, events, messages, threads};

/// Items of one page where the request does not say.
const PAGE_DEFAULT: u32 = 50;

/// Items of one page at most (contract §8).
const PAGE_MAX: u32 = 100;

/// Ids that this backend makes are below 50 bytes; what is longer, or holds what Postgres cannot store, is no thread.
const ID_BYTES_MAX: usize = 200;

/// What users do with their threads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Threads {
    store: Store,
    per_user_max: u64,
}

fn not_found() -> ApiError {
    ApiError::new(ErrorCode::ThreadNotFound)
}

/// Whether a text could be the id of a thread or run at all.
#[must_use]
pub fn could_be_id(text: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&text.len()) && !text.contains('\0')
}

fn judged(thread_id: &ThreadId) -> Result<&ThreadId, ApiError> {
    if could_be_id(thread_id.as_str()) {
        Ok(thread_id)
    } else {
        Err(not_found())
    }
}

fn judged_limit(limit: Option<u32>) -> Result<u32, ApiError> {
    match limit.unwrap_or(PAGE_DEFAULT) {
        limit @ 1..=PAGE_MAX => Ok(limit),
        _ => Err(ApiError::validation("/limit", "an integer of 1–100")),
    }
}

impl Threads {
    /// Threads in a store, at most so many for each user (LIM-1).
    #[must_use]
    pub fn new(store: Store, per_user_max: u64) -> Self {
        Self { store, per_user_max }
    }

    /// Makes a thread.
    ///
    /// # Errors
    /// QUOTA_EXCEEDED; DATABASE_UNAVAILABLE.
    pub async fn create(
        &self,
        user_id: &UserId,
        title: Option<&str>,
        metadata: Option<&RawValue>,
    ) -> Result<ThreadSummary, ApiError> {
        self.refuse_over_quota(user_id).await?;
        let database = self.store.database();
        let thread_id = ThreadId::generate();
        let metadata = metadata.map_or("{}", RawValue::get);
        threads::ensure(database, user_id, &thread_id, title, metadata, Listed::Now).await?;
        self.get(user_id, &thread_id).await
    }

    /// Makes a thread that a handshake offered; it is listed from its first message on.
    ///
    /// # Errors
    /// QUOTA_EXCEEDED; THREAD_NOT_FOUND where it was deleted; DATABASE_UNAVAILABLE.
    pub async fn take_offer(&self, user_id: &UserId, thread_id: &ThreadId) -> Result<(), ApiError> {
        self.refuse_over_quota(user_id).await?;
        let database = self.store.database();
        let made = threads::ensure(database, user_id, thread_id, None, "{}", Listed::OnFirstUse).await?;
        if made { Ok(()) } else { Err(not_found()) }
    }

    async fn refuse_over_quota(&self, user_id: &UserId) -> Result<(), ApiError> {
        if threads::count(self.store.database(), user_id).await? < self.per_user_max {
            return Ok(());
        }
        Err(ApiError::new(ErrorCode::QuotaExceeded)
            .with_message("You have as many threads as your plan allows. Delete one, then make another.")
            .with_detail("limit", "threads_per_user_max")
            .with_detail("max", self.per_user_max))
    }

    /// Refuses a thread that is not the user's, whatever else it is (ISO-2).
    ///
    /// # Errors
    /// THREAD_NOT_FOUND; DATABASE_UNAVAILABLE.
    pub async fn refuse_foreign(&self, user_id: &UserId, thread_id: &ThreadId) -> Result<(), ApiError> {
        let database = self.store.database();
        match threads::epoch(database, user_id, judged(thread_id)?).await? {
            Some(_) => Ok(()),
            None => {
                if sabotage::planted(Fault::OracleInTiming) {
                    threads::linger_over_a_foreign_one(database, thread_id).await?;
                }
                Err(not_found())
            }
        }
    }

    /// What the agents keep about a thread.
    ///
    /// # Errors
    /// THREAD_NOT_FOUND; DATABASE_UNAVAILABLE.
    pub async fn context(&self, user_id: &UserId, thread_id: &ThreadId) -> Result<Map<String, Value>, ApiError> {
        let kept = threads::context(self.store.database(), user_id, judged(thread_id)?)
            .await?
            .ok_or_else(not_found)?;
        serde_json::from_str(&kept).map_err(ApiError::internal)
    }

    /// One thread.
    ///
    /// # Errors
    /// THREAD_NOT_FOUND; DATABASE_UNAVAILABLE.
    pub async fn get(&self, user_id: &UserId, thread_id: &ThreadId) -> Result<ThreadSummary, ApiError> {
        threads::get(self.store.database(), user_id, judged(thread_id)?)
            .await?
            .ok_or_else(not_found)
    }

    /// A page of threads, the one that changed last first.
    ///
    /// # Errors
    /// VALIDATION_ERROR for a limit out of 1–100 or a cursor that no page gave; DATABASE_UNAVAILABLE.
    pub async fn list(
        &self,
        user_id: &UserId,
        limit: Option<u32>,
        cursor: Option<&str>,
    ) -> Result<ThreadPage, ApiError> {
        let limit = judged_limit(limit)?;
        let start = cursor.map(read_cursor).transpose()?;
        let mut page = threads::list(self.store.database(), user_id, i64::from(limit) + 1, start.as_ref()).await?;
        let has_more = page.len() > limit as usize;
        page.truncate(limit as usize);
        let next_cursor = page.last().filter(|_| has_more).map(write_cursor);
        Ok(ThreadPage {
            threads: page,
            next_cursor,
        })
    }

    /// Gives a thread another title.
    ///
    /// # Errors
    /// THREAD_NOT_FOUND; DATABASE_UNAVAILABLE.
    pub async fn rename(&self, user_id: &UserId, thread_id: &ThreadId, title: &str) -> Result<(), ApiError> {
        let renamed = threads::rename(self.store.database(), user_id, judged(thread_id)?, title).await?;
        if renamed { Ok(()) } else { Err(not_found()) }
    }

    /// Deletes a thread with its messages and events; whoever follows it is the caller's to tell.
    ///
    /// # Errors
    /// THREAD_NOT_FOUND; DATABASE_UNAVAILABLE.
    pub async fn delete(&self, user_id: &UserId, thread_id: &ThreadId) -> Result<(), ApiError> {
        let deleted = threads::delete(self.store.database(), user_id, judged(thread_id)?).await?;
        if deleted { Ok(()) } else { Err(not_found()) }
    }

    /// A page of a thread's events below `before`, newest last, and what was said up to the newest of them.
    ///
    /// # Errors
    /// THREAD_NOT_FOUND; VALIDATION_ERROR for a limit out of 1–100; DATABASE_UNAVAILABLE.
    pub async fn history(
        &self,
        user_id: &UserId,
        thread_id: &ThreadId,
        limit: Option<u32>,
        before: Option<u64>,
    ) -> Result<ThreadHistory, ApiError> {
        let database = self.store.database();
        self.refuse_foreign(user_id, thread_id).await?;
        let limit = judged_limit(limit)?;
        let mut events = events::before(database, thread_id, before, i64::from(limit) + 1).await?;
        let has_more = events.len() > limit as usize;
        if has_more {
            events.remove(0);
        }
        let events: Vec<Box<RawValue>> = events
            .into_iter()
            .map(|event| RawValue::from_string(event.frame).map_err(ApiError::internal))
            .collect::<Result<_, _>>()?;
        let messages = match (before, events.last()) {
            (None, _) => messages::newest(database, thread_id, None, i64::from(limit)).await?,
            (Some(_), Some(newest)) => {
                let until = timestamp_of(newest)?.as_datetime();
                messages::newest(database, thread_id, Some(until), i64::from(limit)).await?
            }
            (Some(_), None) => Vec::new(),
        };
        Ok(ThreadHistory {
            thread_id: thread_id.clone(),
            events,
            messages,
            has_more,
            correlation_id: None,
            timestamp: Timestamp::now(),
        })
    }
}

fn timestamp_of(frame: &RawValue) -> Result<Timestamp, ApiError> {
    #[derive(Deserialize)]
    struct Dated {
        timestamp: Timestamp,
    }
    serde_json::from_str::<Dated>(frame.get())
        .map(|dated| dated.timestamp)
        .map_err(ApiError::internal)
}

/// Where the next page begins; opaque to clients.
fn write_cursor(last: &ThreadSummary) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}:{}", last.updated_at.as_unix_ms(), last.thread_id))
}

fn read_cursor(cursor: &str) -> Result<PageStart, ApiError> {
    let read = || {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
        let (updated_at, thread_id) = text.split_once(':')?;
        let updated_at: DateTime<Utc> = DateTime::from_timestamp_millis(updated_at.parse().ok()?)?;
        could_be_id(thread_id).then(|| PageStart {
            updated_at,
            thread_id: ThreadId::from(thread_id),
        })
    };
    read().ok_or_else(|| ApiError::validation("/cursor", "the `next_cursor` of a page"))
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn a_cursor_leads_behind_its_thread() {
        let last = ThreadSummary {
            thread_id: ThreadId::generate(),
            title: None,
            metadata: RawValue::from_string("{}".to_owned()).expect("JSON"),
            last_seq: 0,
            created_at: Timestamp::now(),
            updated_at: Timestamp::now(),
        };
        let start = read_cursor(&write_cursor(&last)).expect("written here");
        assert_eq!(start.thread_id, last.thread_id);
        assert_eq!(Timestamp::from(start.updated_at), last.updated_at);
    }

    #[test]
    fn what_no_page_gave_is_no_cursor() {
        for bad in ["", "x", "!!!", "MTIz", "OTk5OTk5OTk5OTk5OTk5OTk5OTk6dA"] {
            assert_eq!(
                read_cursor(bad).expect_err("not written here").details["pointer"],
                "/cursor",
                "{bad:?}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn no_cursor_makes_it_panic(text in ".*", bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..60)) {
            drop(read_cursor(&text));
            drop(read_cursor(&URL_SAFE_NO_PAD.encode(bytes)));
        }
    }
}
