//! `f(…) OVER (PARTITION BY … ORDER BY time …)`: aggregates, ranks and LAG over the rows up to each row.
//!
//! ```text
//!  by row time          rows ══ partition ══► wait ─► watermark ─► in the order of their time ─┐
//!  by processing time   rows ══ partition ═══════════════════════════════════════════════════ ─┤
//!                                                                                              ▼
//!                                                    frames (aggregates) · ranks · LAG ─► row + results, +I
//! ```
//!
//! | state | key → value | dropped |
//! |---|---|---|
//! | waiting | partition → rows | when the watermark has passed them |
//! | frames | partition → states of the aggregates; the rows of the frame where rows leave it | RANGE with a bound: when the last row has left; others: by the TTL |
//! | ranks | partition → number, rank and time of the last row | by the TTL |
//! | LAG | partition → the last rows | by the TTL |
//!
//! Input and output: append-only; every row comes out once, with all columns, so that its row time stays one. Rows at or
//! below the watermark are late and dropped; rows of one time stand in the order of their arrival, and see each other in
//! a RANGE frame. RANK and LAG go by single rows as in batch: Flink's streaming ones count the peers of a row before it.
//! Any number of functions and frames over one partition and order share the operator. A barrier writes what waits and
//! the states; after a restore the TTL of a partition begins anew. The end is the last watermark.

mod config;
mod frame;
mod history;
mod lag;
mod ranks;
mod waiting;

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::DataType;

pub use config::{FrameBounds, LagCall, OverAggregateConfig, OverFrame, OverOrder, OverOutput};

use crate::error::{Error, Result};
use crate::runtime::operator::{Operator, OperatorMetrics, Output, Progress, Spillable};
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{BATCH_ROWS, ChangeBatch, Timestamp};
use frame::{Chunk, Frame};
use lag::Lags;
use ranks::Ranks;
use waiting::Waiting;

/// The operator; see the module.
pub struct OverAggregateOperator {
    config: OverAggregateConfig,
    /// By row time.
    waiting: Option<Waiting>,
    frames: Vec<Frame>,
    ranks: Option<Ranks>,
    lags: Option<Lags>,
    /// Rows that go out, a chunk each.
    due: VecDeque<Vec<u32>>,
    watermark: Timestamp,
    now: Timestamp,
}

impl std::fmt::Debug for OverAggregateOperator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OverAggregateOperator").field("config", &self.config).finish_non_exhaustive()
    }
}

impl OverAggregateOperator {
    /// An instance without rows.
    ///
    /// # Errors
    /// What [`OverAggregateConfig::validate`] finds; unsupported for columns that cannot be kept and aggregates that cannot
    /// take rows back.
    pub fn new(config: OverAggregateConfig) -> Result<Self> {
        config.validate()?;
        let partition: Vec<DataType> =
            config.partition.iter().map(|c| config.input_schema.field(*c).data_type().clone()).collect();
        let waiting = match config.order {
            OverOrder::RowTime(time) => {
                Some(Waiting::new(Arc::clone(&config.input_schema), config.partition.clone(), time)?)
            }
            OverOrder::Arrival => None,
        };
        let is_rank =
            |o: &OverOutput| matches!(o, OverOutput::RowNumber | OverOutput::Rank | OverOutput::DenseRank);
        let has_ranks = config.output.iter().any(is_rank);
        Ok(OverAggregateOperator {
            waiting,
            frames: config.frames.iter().map(|f| Frame::new(&config, f)).collect::<Result<_>>()?,
            ranks: if has_ranks { Some(Ranks::new(&partition, config.ttl_ms)?) } else { None },
            lags: if config.lags.is_empty() { None } else { Some(Lags::new(&config, &partition)?) },
            config,
            due: VecDeque::new(),
            watermark: Timestamp::MIN,
            now: Timestamp(0),
        })
    }

    /// The rows of a chunk with their results.
    fn take(&mut self, chunk: &Chunk<'_>) -> Result<RecordBatch> {
        let partition: Vec<ArrayRef> =
            self.config.partition.iter().map(|c| Arc::clone(chunk.rows.column(*c))).collect();
        let of_frames = self.frames.iter_mut().map(|f| f.take(chunk)).collect::<Result<Vec<_>>>()?;
        let ranks = match &mut self.ranks {
            Some(ranks) => ranks.take(chunk, &partition, &self.config.output)?,
            None => Vec::new(),
        };
        let lags = match &mut self.lags {
            Some(lags) => lags.take(chunk, &partition)?,
            None => Vec::new(),
        };
        let mut columns = chunk.rows.columns().to_vec();
        for (i, output) in self.config.output.iter().enumerate() {
            let column = match *output {
                OverOutput::Aggregate { frame, call } => of_frames.get(frame).and_then(|f| f.get(call)),
                OverOutput::Lag(call) => lags.get(call),
                OverOutput::RowNumber | OverOutput::Rank | OverOutput::DenseRank => ranks.get(i),
            };
            columns.push(Arc::clone(column.ok_or_else(|| Error::internal("OVER lost a result"))?));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(chunk.rows.num_rows()));
        let schema = Arc::clone(&self.config.output_schema);
        Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
    }
}

impl Operator for OverAggregateOperator {
    fn name(&self) -> &'static str {
        "OverAggregate"
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        if batch.kinds.is_some() {
            return Err(Error::internal("OverAggregate: updates in append-only input"));
        }
        if let Some(waiting) = &mut self.waiting {
            waiting.keep(batch.rows.columns(), batch.num_rows(), self.watermark.0, None)?;
            return Ok(Progress::Done);
        }
        let times = vec![self.now.0; batch.num_rows()];
        let rows = self.take(&Chunk { rows: &batch.rows, times: &times, has_peers: false })?;
        out.emit(ChangeBatch::insert_only(rows));
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, watermark: Timestamp, out: &mut Output) -> Result<Progress> {
        self.watermark = self.watermark.max(watermark);
        if let Some(waiting) = &mut self.waiting {
            let due = waiting.take_due(self.watermark.0);
            self.due.extend(waiting.chunks(&due, BATCH_ROWS));
        }
        self.resume(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        while let Some(ids) = self.due.pop_front() {
            let Some(waiting) = &mut self.waiting else { break };
            let (rows, times) = waiting.gather(&ids)?;
            waiting.forget(&ids);
            let rows = self.take(&Chunk { rows: &rows, times: &times, has_peers: true })?;
            out.emit(ChangeBatch::insert_only(rows));
            if out.is_full(4 * BATCH_ROWS) && !self.due.is_empty() {
                return Ok(Progress::More);
            }
        }
        if self.waiting.is_some() {
            self.frames.iter_mut().for_each(|f| f.advance(self.watermark.0));
        }
        Ok(Progress::Done)
    }

    fn on_timer(&mut self, now: Timestamp, _out: &mut Output) -> Result<Progress> {
        self.now = self.now.max(now);
        for frame in &mut self.frames {
            frame.expire(now);
            if self.waiting.is_none() {
                // What is to come comes now or later: rows leave as if the time before were a watermark.
                frame.advance(self.now.0.saturating_sub(1));
            }
        }
        if let Some(ranks) = &mut self.ranks {
            ranks.expire(now);
        }
        if let Some(lags) = &mut self.lags {
            lags.expire(now);
        }
        Ok(Progress::Done)
    }

    fn takes_time(&self) -> bool {
        // Rows of a RANGE frame are of the time at which they came.
        self.config.order == OverOrder::Arrival
            && self.config.frames.iter().any(|f| matches!(f.bounds, FrameBounds::Range(Some(_))))
    }

    fn next_timer(&self) -> Option<Timestamp> {
        let frames = self.frames.iter().filter_map(Frame::next_timer);
        let ranks = self.ranks.as_ref().and_then(Ranks::next_timer);
        let lags = self.lags.as_ref().and_then(Lags::next_timer);
        frames.chain(ranks).chain(lags).min()
    }

    fn next_due(&self) -> Timestamp {
        self.waiting.as_ref().map_or(Timestamp::MIN, Waiting::next_due)
    }

    fn spillable(&self) -> Spillable {
        let how = if self.waiting.is_some() { Spillable::ByWatermark } else { Spillable::Timeless };
        how.if_keyed(!self.config.partition.is_empty() && !self.takes_time())
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        if !self.due.is_empty() {
            return Err(Error::internal("a barrier reached OVER within a watermark"));
        }
        if let Some(waiting) = &self.waiting {
            waiting.snapshot(writer)?;
            writer.watermark(self.watermark.0)?;
        }
        for (i, frame) in self.frames.iter_mut().enumerate() {
            writer.within(&format!("frame_{i}"), |writer| frame.snapshot(writer))?;
        }
        if let Some(ranks) = &self.ranks {
            ranks.snapshot(writer)?;
        }
        match &self.lags {
            Some(lags) => writer.within("lag", |writer| lags.snapshot(writer)),
            None => Ok(()),
        }
    }

    fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        if let Some(waiting) = &mut self.waiting {
            waiting.restore(reader)?;
            self.watermark = Timestamp(reader.watermark()?.unwrap_or(i64::MIN));
        }
        for (i, frame) in self.frames.iter_mut().enumerate() {
            reader.within(&format!("frame_{i}"), |reader| frame.restore(reader))?;
        }
        if let Some(ranks) = &mut self.ranks {
            ranks.restore(reader)?;
        }
        match &mut self.lags {
            Some(lags) => reader.within("lag", |reader| lags.restore(reader)),
            None => Ok(()),
        }
    }

    fn metrics(&self) -> OperatorMetrics {
        let waiting = self.waiting.as_ref();
        let entries = waiting.map_or(0, Waiting::len)
            + self.frames.iter().map(Frame::entries).sum::<usize>()
            + self.ranks.as_ref().map_or(0, Ranks::entries)
            + self.lags.as_ref().map_or(0, Lags::entries);
        let bytes = waiting.map_or(0, Waiting::size)
            + self.frames.iter().map(Frame::size).sum::<usize>()
            + self.ranks.as_ref().map_or(0, Ranks::size)
            + self.lags.as_ref().map_or(0, Lags::size);
        OperatorMetrics {
            late_rows_dropped: waiting.map_or(0, |w| w.late_rows),
            null_times_dropped: waiting.map_or(0, |w| w.null_times),
            state_entries: entries as u64,
            state_bytes: bytes as u64,
            ..OperatorMetrics::default()
        }
    }
}

#[cfg(test)]
mod tests;
