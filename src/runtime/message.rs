//! What travels through a channel, in band: rows, watermarks, idleness, barriers, the end.

use crate::stream::snapshot::SnapshotMode;
use crate::stream::{Activity, ChangeBatch, Epoch, Timestamp};

/// Why a barrier was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarrierKind {
    /// Periodic.
    Checkpoint,
    /// The job ends after it (Ctrl-C, or end of bounded input).
    Final,
    /// To sources only: they end instead of sending it on.
    Drain,
}

/// Cuts the stream into before and after epoch `epoch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Barrier {
    /// Its number.
    pub epoch: Epoch,
    /// Its cause.
    pub kind: BarrierKind,
    /// What is to be kept of the state; operators are not asked for it if nothing is.
    pub keep: Option<SnapshotMode>,
}

/// One in-band message of a channel.
#[derive(Debug, Clone)]
pub enum Message {
    /// Rows.
    Batch(ChangeBatch),
    /// No row at or below this time will follow (apart from late ones).
    Watermark(Timestamp),
    /// The sender became idle or active.
    Activity(Activity),
    /// A checkpoint barrier.
    Barrier(Barrier),
    /// Nothing follows. Counts as watermark [`Timestamp::MAX`] and as aligned.
    EndOfInput,
}
