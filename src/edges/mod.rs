//! The contracts of the edges, where rows come in and go out: what runtime, batch and connectors all stand on.
//!
//! ```text
//!  Source ─► SourceReader (one per subtask) ─► batches of physical ++ metadata columns
//!  Sink ───► SinkWriter   (one per subtask) ─► committables ─► SinkCommitter (one)
//!  LookupSource ◄──► keys of a batch, their rows
//! ```
//!
//! Async lives here and only here. A bounded source serves both engines: the streaming runtime polls its readers,
//! batch wraps them as a DataFusion table (or uses the source's own provider where that can push more down).

pub mod lookup;
pub mod not_null;
mod notices;
pub mod row_changes;
pub mod s3;
pub mod scan_exec;
pub mod sink;
pub mod source;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::options::parse_bytes;
pub use notices::Notices;
pub use row_changes::RowChanges;
pub use sink::{
    Claim, Committable, NoCommit, OpenedSink, Shared, Sink, SinkChangelog, SinkCommitter, SinkContext,
    SinkIdentity, SinkWriter, WriteMode,
};
pub use source::{
    BatchScan, CountRows, ScanRequest, Source, SourceChangelog, SourceEvent, SourceMetrics, SourceReader,
    SplitId, SplitState, project,
};

/// The option behind `--memory`.
pub const PROCESS_MEMORY: &str = "taskmanager.memory.process.size";

/// What a connector may use of its surroundings.
#[derive(Debug, Clone)]
pub struct ConnectorEnv {
    /// `SET` options of the session.
    pub config: Arc<BTreeMap<String, String>>,
    /// The session zone `table.local-time-zone`.
    pub time_zone: chrono_tz::Tz,
    /// Whether the query runs in batch mode (`CURRENT_TIMESTAMP` fixed, no row kinds printed).
    pub batch: bool,
    /// Folder that relative paths are relative to: the working directory.
    pub base_dir: std::path::PathBuf,
    /// What the job has to tell while it runs.
    pub notices: Notices,
}

impl ConnectorEnv {
    /// Bytes that the process may hold, if somebody has said so: what a client buffers has to fit.
    pub fn memory(&self) -> Option<u64> {
        self.config.get(PROCESS_MEMORY).and_then(|size| parse_bytes(size))
    }
}
