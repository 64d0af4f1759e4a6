//! What an edge operator has asked of the world outside: in order, bounded, watermarks behind the rows they follow.
//!
//! ```text
//!  process(batch) ─► ask ─► [ batch 7 ⏳ | batch 8 ✓ | ~12:00 | batch 9 ⏳ ] ─► next_answered ─► output
//!                            └ oldest: nothing overtakes it                   ~12:00 passes when batch 8 is out
//! ```
//!
//! The driver waits for answers ([`crate::runtime::operator::Asked`]): when the operator is full, before a barrier and
//! before the end; and hands out what is answered as it comes. So no barrier finds anything in flight, and nothing of it is
//! in a snapshot: a barrier takes as long as the answers before it, which the timeout of each bounds.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::task::JoinHandle;

use crate::error::{Error, Result};
use crate::runtime::operator::Asked;
use crate::stream::Timestamp;

/// Bytes of questions that are under way at most.
const MOST_BYTES: usize = 64 << 20;

/// Questions with their answers to come, and the watermarks between them.
#[derive(Debug)]
pub struct InFlight<Q, A> {
    entries: VecDeque<Entry<Q, A>>,
    /// Questions among them.
    asked: usize,
    bytes: usize,
    capacity: usize,
    /// The last watermark that nothing is in front of.
    passed: Timestamp,
}

#[derive(Debug)]
enum Entry<Q, A> {
    Asked { question: Q, bytes: usize, answer: Answer<A> },
    Watermark(Timestamp),
}

#[derive(Debug)]
enum Answer<A> {
    Known(Result<A>),
    Running(Running<A>),
}

/// A task that ends when nobody waits for it any more.
#[derive(Debug)]
struct Running<A>(JoinHandle<Result<A>>);

impl<A> Drop for Running<A> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<A> Answer<A> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Answer::Running(task) = self else { return Poll::Ready(()) };
        match Pin::new(&mut task.0).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(joined) => {
                *self = Answer::Known(joined.map_err(Error::from).and_then(|answer| answer));
                Poll::Ready(())
            }
        }
    }
}

impl<Q, A: Send + 'static> InFlight<Q, A> {
    /// Nothing, with room for `capacity` questions.
    pub fn new(capacity: usize) -> Self {
        InFlight {
            entries: VecDeque::new(),
            asked: 0,
            bytes: 0,
            capacity: capacity.max(1),
            passed: Timestamp::MIN,
        }
    }

    /// Asks. What can be answered at once, as from a cache, is; the rest goes on in a task of its own.
    pub fn ask(
        &mut self,
        question: Q,
        bytes: usize,
        answering: impl Future<Output = Result<A>> + Send + 'static,
    ) {
        let mut answering = Box::pin(answering);
        let answer = match answering.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Answer::Known(answer),
            Poll::Pending => Answer::Running(Running(tokio::spawn(answering))),
        };
        self.asked += 1;
        self.bytes += bytes;
        self.entries.push_back(Entry::Asked { question, bytes, answer });
    }

    /// A watermark, behind all that was asked.
    pub fn watermark(&mut self, watermark: Timestamp) {
        if self.asked == 0 {
            self.passed = self.passed.max(watermark);
        } else {
            self.entries.push_back(Entry::Watermark(watermark));
        }
    }

    /// How far the watermark behind may be: see [`crate::runtime::Operator::output_watermark`].
    pub fn held(&self) -> Option<Timestamp> {
        (!self.entries.is_empty()).then_some(self.passed)
    }

    /// The oldest question, if it is answered.
    pub fn next_answered(&mut self) -> Option<(Q, Result<A>)> {
        let is_answered = match self.entries.front_mut() {
            Some(Entry::Asked { answer: Answer::Running(task), .. }) if !task.0.is_finished() => false,
            Some(Entry::Asked { answer, .. }) => {
                answer.poll(&mut Context::from_waker(Waker::noop())).is_ready()
            }
            _ => false,
        };
        if !is_answered {
            return None;
        }
        let Some(Entry::Asked { question, bytes, answer: Answer::Known(answer) }) = self.entries.pop_front()
        else {
            return None;
        };
        self.asked -= 1;
        self.bytes -= bytes;
        Some((question, answer))
    }

    /// The rows of what was answered last are out: so are the watermarks behind it.
    pub fn is_out(&mut self) {
        while let Some(Entry::Watermark(watermark)) = self.entries.front() {
            self.passed = self.passed.max(*watermark);
            self.entries.pop_front();
        }
    }

    /// Bytes of what was asked.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl<Q: Send, A: Send + 'static> Asked for InFlight<Q, A> {
    fn is_full(&self) -> bool {
        self.asked >= self.capacity || self.bytes >= MOST_BYTES
    }

    fn is_empty(&self) -> bool {
        self.asked == 0
    }

    fn poll_answered(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.entries.front_mut() {
            Some(Entry::Asked { answer, .. }) => answer.poll(cx),
            _ => Poll::Pending,
        }
    }
}
