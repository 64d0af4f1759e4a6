//! What the generating sources (datagen, nexmark) share: numbered rows, made anew from their number.
//!
//! ```text
//!  row numbers 0, 1, 2, …  ─► lanes (blocks dealt out to readers) ─► pace (when a row is due) ─► RowGenerator::rows(range)
//! ```
//!
//! A row is a pure function of the seed and its number. So any reader can make any range, a snapshot is the next
//! number of each lane, and batch, streaming and every parallelism give the same rows.
//!
//! | state | dropped |
//! |---|---|
//! | per lane: block size, place in the deal, next row number | never |
//! | per source: seed and base time, so that a restored job goes on with the same rows | never |

pub mod clock;
pub mod lanes;
pub mod pace;
pub mod random;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::catalog::ResolvedTable;
use crate::edges::{ScanRequest, SourceEvent, SourceReader, SplitState};
use crate::error::{Error, Result};
use crate::stream::{BATCH_BYTES, ChangeBatch, Timestamp};

use lanes::{Lane, Lanes};
use pace::Pace;

/// Rows per block at full speed: one batch.
pub const BLOCK_ROWS: u64 = 8192;

/// Makes rows from their numbers.
pub trait RowGenerator: Send + Sync {
    /// The rows of a range, already projected. May leave out rows that the pushed-down filters drop.
    ///
    /// # Errors
    /// Internal, or Data when a value does not fit its type.
    fn rows(&self, numbers: Range<u64>) -> Result<RecordBatch>;

    /// Bytes that no row has more of; 0 where rows are narrow.
    fn row_bytes(&self) -> u64 {
        0
    }

    /// The latest row time of the rows `numbers`, if some of them are left out by filters behind the watermark.
    fn dropped_row_time(&self, _numbers: Range<u64>) -> Option<Timestamp> {
        None
    }
}

/// What makes the rows of a source reproducible; kept in snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Seed of all random choices.
    pub seed: u64,
    /// Time of row 0 in milliseconds, where the source has one.
    pub base_time: i64,
}

/// Position of one lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    #[serde(flatten)]
    lane: Lane,
    #[serde(flatten)]
    origin: Origin,
}

/// The lanes and the origin of a snapshot.
///
/// # Errors
/// Data if it was not written by a generating source.
pub fn restore(splits: &[SplitState]) -> Result<Option<(Vec<Lane>, Origin)>> {
    let mut lanes = Vec::with_capacity(splits.len());
    let mut origin = None;
    for split in splits {
        let position: Position = serde_json::from_str(&split.position)
            .map_err(|e| Error::data(format!("cannot read the position of split {}: {e}", split.split)))?;
        origin = Some(position.origin);
        lanes.push(position.lane);
    }
    Ok(origin.map(|o| (lanes, o)))
}

/// How a source is dealt out to its readers.
pub struct Plan {
    /// Makes the rows.
    pub generator: Arc<dyn RowGenerator>,
    /// For snapshots.
    pub origin: Origin,
    /// One past the last row; `u64::MAX` if there is none.
    pub end: u64,
    /// Whether readers end at `end` or wait there for ever.
    pub keep_alive: bool,
    /// When rows are due.
    pub pace: Pace,
    /// Rows per block.
    pub block: u64,
}

impl Plan {
    /// Opens `parallelism` readers.
    pub fn readers(
        self,
        scan: &ScanRequest,
        parallelism: usize,
        restored: Option<Vec<Lane>>,
    ) -> Vec<Box<dyn SourceReader>> {
        let dealt = match restored {
            Some(lanes) => Lanes::redeal(lanes, parallelism),
            None => Lanes::deal(self.block, parallelism),
        };
        let max_rows = if scan.batch_rows == 0 { BLOCK_ROWS } else { scan.batch_rows as u64 };
        let max_rows = max_rows.min(BATCH_BYTES as u64 / self.generator.row_bytes().max(1)).max(1);
        dealt
            .into_iter()
            .map(|lanes| {
                Box::new(GeneratorReader {
                    generator: self.generator.clone(),
                    origin: self.origin,
                    end: self.end,
                    keep_alive: self.keep_alive,
                    pace: self.pace.of_reader(parallelism),
                    lanes,
                    max_rows,
                    left: scan.limit.map(|l| l as u64),
                    dropped: None,
                    stage: Stage::New,
                }) as Box<dyn SourceReader>
            })
            .collect()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    Running,
    Finished,
}

/// Reads the rows of its lanes in the order of their numbers, as one split.
struct GeneratorReader {
    generator: Arc<dyn RowGenerator>,
    origin: Origin,
    end: u64,
    keep_alive: bool,
    pace: Pace,
    lanes: Lanes,
    max_rows: u64,
    /// Rows still wanted under a LIMIT.
    left: Option<u64>,
    /// The latest row time among rows left out, to be told next.
    dropped: Option<Timestamp>,
    stage: Stage,
}

#[async_trait]
impl SourceReader for GeneratorReader {
    async fn next(&mut self) -> Result<SourceEvent> {
        match self.stage {
            Stage::New => {
                self.stage = Stage::Running;
                return Ok(SourceEvent::SplitsStarted(vec![0]));
            }
            Stage::Finished => return Ok(SourceEvent::End),
            Stage::Running => {}
        }
        if let Some(row_time) = self.dropped.take() {
            return Ok(SourceEvent::Dropped { split: 0, row_time });
        }
        let wanted = self.left.unwrap_or(u64::MAX);
        let next = if wanted == 0 { None } else { self.lanes.peek(self.max_rows, self.end) };
        let Some(mut range) = next else {
            if self.keep_alive && wanted > 0 {
                std::future::pending::<()>().await;
            }
            self.stage = Stage::Finished;
            return Ok(SourceEvent::SplitFinished(0));
        };
        range.end = self.pace.wait(&range).await;
        // From here on nothing awaits: a dropped future has changed nothing.
        let rows = self.generator.rows(range.clone())?;
        self.dropped = self.generator.dropped_row_time(range.clone());
        self.pace.took(range.end - range.start);
        self.lanes.advance(range.end);
        let rows = match &mut self.left {
            Some(left) => {
                let rows = rows.slice(0, rows.num_rows().min(*left as usize));
                *left -= rows.num_rows() as u64;
                rows
            }
            None => rows,
        };
        Ok(SourceEvent::Batch { split: 0, batch: ChangeBatch::insert_only(rows) })
    }

    fn snapshot(&self) -> Result<Vec<SplitState>> {
        self.lanes
            .iter()
            .map(|lane| {
                let position = Position { lane: lane.clone(), origin: self.origin };
                let position = serde_json::to_string(&position)
                    .map_err(|e| Error::internal(format!("cannot write a position: {e}")))?;
                Ok(SplitState { split: lane.name(), position })
            })
            .collect()
    }
}

/// Refuses metadata columns for connectors that have none.
///
/// # Errors
/// Validation naming the first one.
pub fn refuse_metadata(table: &ResolvedTable, connector: &str) -> Result<()> {
    match table.metadata.first() {
        None => Ok(()),
        Some(m) => Err(Error::validation(format!(
            "table {} declares the metadata column `{}`, but the connector '{connector}' has no metadata",
            table.def.path,
            m.field.name()
        ))
        .at(table.def.location)),
    }
}

/// A time given as an option: milliseconds since the epoch, or `YYYY-MM-DD[ HH:MM:SS[.fff]]` (a wall clock).
pub fn parse_time(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(ms) = text.parse::<i64>() {
        return Some(ms);
    }
    let text = text.replacen('T', " ", 1);
    chrono::NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S%.f")
        .ok()
        .or_else(|| {
            chrono::NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok().and_then(|d| d.and_hms_opt(0, 0, 0))
        })
        .map(|t| t.and_utc().timestamp_millis())
}

#[cfg(test)]
pub(crate) mod tests;
