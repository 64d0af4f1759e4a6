//! The streaming runtime.
//!
//! ```text
//!  StreamGraph ─► chains ─► tasks (one per chain and subtask)
//!
//!   source task                     keyed task
//!  ┌──────────────────────────┐    ┌──────────────────────────┐
//!  │ SourceReader ─► op ─► op │══► │ align ─► op ─► op ─► sink│     ══► exchange: 128 key groups, bounded channels
//!  └──────────────────────────┘    └──────────────────────────┘      ─► direct call, no channel
//! ```
//!
//! Messages travel in band: batches, watermarks, idleness, barriers, end of input ([`message`]). Operators are
//! synchronous and know none of this machinery ([`operator`]); the task driver alone knows channels, alignment, the
//! watermark minimum, timers and cancellation.

pub mod alignment;
pub mod batch;
pub(crate) mod blocking;
pub mod chain;
pub mod channel;
pub mod coordinator;
pub mod event_time;
pub mod exchange;
pub mod gauges;
pub mod graph;
pub mod in_flight;
pub mod job;
pub mod lookup;
pub mod message;
pub mod operator;
pub mod restart;
pub mod sink;
pub mod source;
pub mod spilling;
pub mod supervisor;
pub mod task;

pub use operator::{Operator, Output, Progress};

#[cfg(test)]
mod tests;
