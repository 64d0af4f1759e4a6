//! The data of a stream: what runtime, operators, state and connectors all speak of.
//!
//! | module | what |
//! |---|---|
//! | [`bytes`] | how many bytes rows have; batches cut so that none has too many |
//! | [`change`] | batches of rows with their kinds: `+I`, `-U`, `+U`, `-D` |
//! | [`time`] | timestamps, epochs, idleness |
//! | [`watermark`] | the minimum of several watermarks |
//! | [`key_group`] | the parts of the key space |
//! | [`snapshot`] | state of operators as typed tables |

pub mod bytes;
pub mod change;
pub mod key_group;
pub mod snapshot;
pub mod time;
pub mod watermark;

pub use bytes::BATCH_BYTES;
pub use change::{ChangeBatch, RowKind, RowKinds};
pub use key_group::{KeyGroup, KeyGroupRange};
pub use snapshot::{SnapshotReader, SnapshotWriter};
pub use time::{Activity, Epoch, Timestamp};

/// Rows per batch that sources, operators and exchanges aim for.
pub const BATCH_ROWS: usize = 8192;
