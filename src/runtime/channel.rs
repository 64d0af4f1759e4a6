//! Bounded channels between tasks.
//!
//! ```text
//!  sender 0 ══ queue 0 ══╗
//!  sender 1 ══ queue 1 ══╬══► InputGate of one receiving task   (one queue per sender: alignment can stop one of them)
//!  sender 2 ══ queue 2 ══╝
//! ```
//!
//! A queue is full when it holds [`MAX_ROWS`] rows or [`MAX_BYTES`] bytes; control messages always pass, so a barrier
//! never waits for room, only for the rows before it. All queues of a receiver share one lock: it is taken once per
//! batch, never per row.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::error::{Error, Result};
use crate::runtime::message::Message;
use crate::stream::bytes::batch_bytes;

/// Rows a queue holds before its sender waits.
pub const MAX_ROWS: usize = 4 * 8192;
/// Bytes a queue holds before its sender waits.
pub const MAX_BYTES: usize = 8 << 20;

/// Tells all tasks of a job that it has failed.
#[derive(Debug, Clone)]
pub struct Cancellation(watch::Sender<bool>);

impl Cancellation {
    /// Not cancelled.
    pub fn new() -> Self {
        Cancellation(watch::Sender::new(false))
    }

    /// Cancels.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }

    /// Whether it is cancelled.
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves when it is cancelled.
    pub async fn cancelled(&self) {
        let mut receiver = self.0.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = receiver.wait_for(|c| *c).await;
    }

    /// Runs `future` unless the job is cancelled first.
    ///
    /// # Errors
    /// Cancelled, or the future's own error.
    pub async fn run<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            result = future => result,
            () = self.cancelled() => Err(Error::cancelled()),
        }
    }
}

impl Default for Cancellation {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Message>,
    rows: usize,
    bytes: usize,
    /// The receiver has gone (its task ended early): sends succeed and drop.
    closed: bool,
}

#[derive(Debug)]
struct Mailbox {
    queues: Mutex<Vec<Queue>>,
    arrived: Notify,
    room: Vec<Notify>,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Vec<Queue>> {
        // A panic while holding the lock can only be an allocation failure; the queues stay consistent.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sending half of one queue.
#[derive(Debug, Clone)]
pub struct Sender {
    mailbox: Arc<Mailbox>,
    queue: usize,
}

/// All queues of one receiving task.
#[derive(Debug)]
pub struct Receiver {
    mailbox: Arc<Mailbox>,
    /// Where the round-robin search starts.
    next: usize,
}

/// Creates the queues of a receiver with `senders` senders.
pub fn mailbox(senders: usize) -> (Vec<Sender>, Receiver) {
    let mailbox = Arc::new(Mailbox {
        queues: Mutex::new((0..senders).map(|_| Queue::default()).collect()),
        arrived: Notify::new(),
        room: (0..senders).map(|_| Notify::new()).collect(),
    });
    let senders = (0..senders).map(|queue| Sender { mailbox: mailbox.clone(), queue }).collect();
    (senders, Receiver { mailbox, next: 0 })
}

fn weight(message: &Message) -> (usize, usize) {
    match message {
        Message::Batch(b) => (b.num_rows(), b.memory_size()),
        _ => (0, 0),
    }
}

impl Sender {
    /// Sends, waiting for room if it is a batch.
    ///
    /// # Errors
    /// Cancelled if the job fails meanwhile.
    pub async fn send(&self, message: Message, cancellation: &Cancellation) -> Result<()> {
        let (rows, bytes) = weight(&message);
        loop {
            let room = self.mailbox.room[self.queue].notified();
            tokio::pin!(room);
            room.as_mut().enable();
            {
                let mut queues = self.mailbox.lock();
                let queue = &mut queues[self.queue];
                if queue.closed {
                    return Ok(());
                }
                // An empty queue takes any batch, so that one larger than the bound still passes.
                if rows == 0
                    || queue.rows == 0
                    || (queue.rows + rows <= MAX_ROWS && queue.bytes + bytes <= MAX_BYTES)
                {
                    queue.rows += rows;
                    queue.bytes += bytes;
                    queue.messages.push_back(message);
                    break;
                }
            }
            cancellation
                .run(async {
                    room.await;
                    Ok(())
                })
                .await?;
        }
        self.mailbox.arrived.notify_one();
        Ok(())
    }
}

impl Receiver {
    /// The next message of a queue for which `blocked` is false, if there is one now.
    pub fn try_receive(&mut self, blocked: &[bool]) -> Option<(usize, Message)> {
        let mut queues = self.mailbox.lock();
        let n = queues.len();
        for i in 0..n {
            let q = (self.next + i) % n;
            if blocked.get(q).copied().unwrap_or(false) {
                continue;
            }
            if let Some(message) = queues[q].messages.pop_front() {
                let (rows, bytes) = weight(&message);
                queues[q].rows -= rows;
                queues[q].bytes -= bytes;
                drop(queues);
                self.next = (q + 1) % n;
                if rows > 0 {
                    self.mailbox.room[q].notify_one();
                }
                return Some((q, message));
            }
        }
        None
    }

    /// The next batch of queue `q` if that is what stands at its head and it has at most so many rows and bytes.
    pub fn try_receive_batch(&mut self, q: usize, most: (usize, usize)) -> Option<Message> {
        let mut queues = self.mailbox.lock();
        match queues[q].messages.front() {
            Some(Message::Batch(b)) if b.num_rows() <= most.0 && batch_bytes(&b.rows) <= most.1 => {}
            _ => return None,
        }
        let message = queues[q].messages.pop_front()?;
        let (rows, bytes) = weight(&message);
        queues[q].rows -= rows;
        queues[q].bytes -= bytes;
        drop(queues);
        self.mailbox.room[q].notify_one();
        Some(message)
    }

    /// Waits until something has arrived since the last empty [`Receiver::try_receive`].
    pub async fn arrived(&self) {
        self.mailbox.arrived.notified().await;
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        for (queue, room) in self.mailbox.lock().iter_mut().zip(&self.mailbox.room) {
            queue.closed = true;
            queue.messages.clear();
            room.notify_one();
        }
    }
}
