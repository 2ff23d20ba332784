//! A connection's outbound queue: bounded by frames and bytes (SEQ-7), shared by control frames and events so that
//! their order is kept.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use kingsguard_protocol::CloseCode;
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::sync::{Mutex, MutexGuard};

/// What a connection's writer sends next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// A text frame.
    Text(Utf8Bytes),
    /// The close frame; nothing comes after it.
    Close(CloseCode, &'static str),
}

/// The queue is at its bound: the peer reads too slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connection's queue is at its bound")]
pub struct Overflow;

#[derive(Debug)]
struct Queue {
    waiting: VecDeque<Outgoing>,
    bytes: usize,
    /// A close frame was queued, the bound was passed or the reader is gone: nothing more is taken.
    shut: bool,
    overflowed: bool,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    frames_max: usize,
    bytes_max: usize,
    /// Wakes the writer: something waits.
    filled: Notify,
    /// Wakes a replay: there is room.
    drained: Notify,
}

/// The side that fills the queue. Clones share it.
#[derive(Clone, Debug)]
pub struct Outbox(Arc<Shared>);

/// The side that empties the queue: the connection's writer. Dropping it shuts the queue.
#[derive(Debug)]
pub struct OutboxReader(Arc<Shared>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A panic while the lock is held cannot leave the queue half-changed: every change is one push or one drain.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outbox {
    /// A queue of at most `frames_max` frames and `bytes_max` bytes.
    #[must_use]
    pub fn new(frames_max: usize, bytes_max: usize) -> (Self, OutboxReader) {
        let queue = Queue {
            waiting: VecDeque::new(),
            bytes: 0,
            shut: false,
            overflowed: false,
        };
        let shared = Arc::new(Shared {
            queue: Mutex::new(queue),
            frames_max,
            bytes_max,
            filled: Notify::new(),
            drained: Notify::new(),
        });
        (Self(shared.clone()), OutboxReader(shared))
    }

    /// Queues a frame. On a shut queue it is dropped: the connection is about to end.
    ///
    /// # Errors
    /// The queue is at its bound. What waits in it is let go, the reader is told, and nothing more is taken.
    pub fn push_text(&self, text: Utf8Bytes) -> Result<(), Overflow> {
        self.push_texts(&[text])
    }

    /// Queues frames one behind the other and wakes the reader once. On a shut queue they are dropped.
    ///
    /// # Errors
    /// As [`Outbox::push_text`] says.
    pub fn push_texts(&self, texts: &[Utf8Bytes]) -> Result<(), Overflow> {
        let mut queue = self.0.lock();
        if queue.overflowed {
            return Err(Overflow);
        }
        if queue.shut || texts.is_empty() {
            return Ok(());
        }
        let bytes: usize = texts.iter().map(|text| text.len()).sum();
        if queue.waiting.len() + texts.len() > self.0.frames_max || queue.bytes + bytes > self.0.bytes_max {
            queue.shut = true;
            queue.overflowed = true;
            queue.waiting.clear();
            queue.bytes = 0;
            drop(queue);
            self.0.filled.notify_one();
            self.0.drained.notify_waiters();
            return Err(Overflow);
        }
        queue.bytes += bytes;
        queue.waiting.extend(texts.iter().cloned().map(Outgoing::Text));
        drop(queue);
        self.0.filled.notify_one();
        Ok(())
    }

    /// Waits until half of the queue is free: for a replay, which can be longer than the queue. `false` once the queue
    /// is shut.
    pub async fn has_room(&self) -> bool {
        loop {
            let drained = self.0.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            {
                let queue = self.0.lock();
                if queue.shut {
                    return false;
                }
                if queue.waiting.len() <= self.0.frames_max / 2 && queue.bytes <= self.0.bytes_max / 2 {
                    return true;
                }
            }
            drained.await;
        }
    }

    /// How many frames a replay may push at once after [`Outbox::has_room`].
    #[must_use]
    pub fn replay_frames_max(&self) -> usize {
        (self.0.frames_max / 2).max(1)
    }

    /// Queues the close frame behind what already waits; nothing is taken after it.
    pub fn close(&self, code: CloseCode, reason: &'static str) {
        let mut queue = self.0.lock();
        if queue.shut {
            return;
        }
        queue.shut = true;
        queue.waiting.push_back(Outgoing::Close(code, reason));
        drop(queue);
        self.0.filled.notify_one();
        self.0.drained.notify_waiters();
    }

    /// Whether nothing more is taken.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        self.0.lock().shut
    }

    /// Frames that wait.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.0.lock().waiting.len()
    }

    /// Whether both are the same connection's.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl OutboxReader {
    /// Waits until the bound is passed, for a writer that is busy and takes nothing meanwhile. Nothing is lost when the
    /// future is dropped.
    pub async fn overflowed(&mut self) -> Overflow {
        loop {
            if self.0.lock().overflowed {
                return Overflow;
            }
            self.0.filled.notified().await;
        }
    }

    /// Waits until something is there and moves all of it to the end of `into`.
    ///
    /// # Errors
    /// The bound was passed: the peer reads too slowly.
    pub async fn next_batch(&mut self, into: &mut Vec<Outgoing>) -> Result<(), Overflow> {
        loop {
            {
                let mut queue = self.0.lock();
                if queue.overflowed {
                    return Err(Overflow);
                }
                if !queue.waiting.is_empty() {
                    into.extend(queue.waiting.drain(..));
                    queue.bytes = 0;
                    if queue.waiting.capacity() > IDLE_CAPACITY {
                        queue.waiting = VecDeque::new();
                    }
                    drop(queue);
                    self.0.drained.notify_waiters();
                    return Ok(());
                }
            }
            self.0.filled.notified().await;
        }
    }
}

/// An emptied queue keeps room for this many frames; a burst's memory is given back.
const IDLE_CAPACITY: usize = 64;

impl Drop for OutboxReader {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.shut = true;
        queue.waiting = VecDeque::new();
        queue.bytes = 0;
        drop(queue);
        self.0.drained.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    async fn take(reader: &mut OutboxReader) -> Result<Vec<Outgoing>, Overflow> {
        let mut batch = Vec::new();
        reader.next_batch(&mut batch).await.map(|()| batch)
    }

    fn text(text: &'static str) -> Outgoing {
        Outgoing::Text(Utf8Bytes::from_static(text))
    }

    #[tokio::test]
    async fn what_gathered_is_taken_in_order_at_once() {
        let (outbox, mut reader) = Outbox::new(10, 100);
        for word in ["a", "b", "c"] {
            outbox.push_text(word.into()).expect("there is room");
        }
        outbox.close(CloseCode::Normal, "bye");
        outbox.push_text("late".into()).expect("a shut queue drops silently");
        let expected = vec![
            text("a"),
            text("b"),
            text("c"),
            Outgoing::Close(CloseCode::Normal, "bye"),
        ];
        assert_eq!(take(&mut reader).await, Ok(expected));
    }

    #[tokio::test]
    async fn the_bound_of_frames_holds() {
        let (outbox, mut reader) = Outbox::new(2, 100);
        assert_eq!(outbox.push_text("a".into()), Ok(()));
        assert_eq!(outbox.push_text("b".into()), Ok(()));
        assert_eq!(outbox.push_text("c".into()), Err(Overflow));
        assert_eq!(take(&mut reader).await, Err(Overflow));
    }

    #[tokio::test]
    async fn a_busy_writer_hears_of_the_overflow_and_loses_nothing_before_it() {
        let (outbox, mut reader) = Outbox::new(1, 100);
        outbox.push_text("a".into()).expect("there is room");
        tokio::select! {
            biased;
            Overflow = reader.overflowed() => panic!("the bound holds"),
            () = tokio::task::yield_now() => {}
        }
        assert_eq!(take(&mut reader).await, Ok(vec![text("a")]));
        outbox.push_text("b".into()).expect("there is room");
        outbox.push_text("c".into()).expect_err("the bound is passed");
        assert_eq!(reader.overflowed().await, Overflow);
    }

    #[tokio::test]
    async fn the_bound_of_bytes_holds() {
        let (outbox, mut reader) = Outbox::new(100, 4);
        assert_eq!(outbox.push_text("abcd".into()), Ok(()));
        assert_eq!(outbox.push_text("e".into()), Err(Overflow));
        assert_eq!(take(&mut reader).await, Err(Overflow));
    }

    #[tokio::test]
    async fn a_replay_waits_for_room() {
        let (outbox, mut reader) = Outbox::new(2, 100);
        outbox.push_text("a".into()).expect("there is room");
        outbox.push_text("b".into()).expect("there is room");
        let waiting = tokio::spawn({
            let outbox = outbox.clone();
            async move { outbox.has_room().await }
        });
        assert_eq!(take(&mut reader).await, Ok(vec![text("a"), text("b")]));
        assert!(waiting.await.expect("the task ends"));
    }

    #[tokio::test]
    async fn a_replay_ends_when_the_connection_is_gone() {
        let (outbox, reader) = Outbox::new(1, 100);
        outbox.push_text("a".into()).expect("there is room");
        drop(reader);
        assert!(!outbox.has_room().await);
    }
}
