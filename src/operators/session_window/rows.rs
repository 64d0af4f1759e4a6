//! The window function itself: rows are kept until their session has ended, as its bounds are known only then.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};

use super::sessions::{Place, Sessions};
use super::{PAUSE_ROWS, Times, broken, window_columns};
use crate::error::{Error, Result};
use crate::operators::keyed_rows::{PART_ROWS, anonymous};
use crate::operators::window_aggregate::{WindowKind, WindowSpec};
use crate::runtime::operator::{Operator, OperatorMetrics, Output, Progress, Spillable};
use crate::state::key::key_groups;
use crate::state::{GroupDirectory, RowStore};
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{BATCH_ROWS, ChangeBatch, Timestamp};

const ROWS: &str = "rows";

/// `SESSION(TABLE t PARTITION BY keys, DESCRIPTOR(ts), gap)`.
#[derive(Debug, Clone)]
pub struct SessionWindowConfig {
    /// Columns of the input.
    pub input_schema: SchemaRef,
    /// The same with the three columns of the window.
    pub output_schema: SchemaRef,
    /// The windows; a [`WindowKind::Session`].
    pub window: WindowSpec,
    /// The time attribute.
    pub time_column: usize,
    /// Columns that partition the input.
    pub partition: Vec<usize>,
    /// Rows are of the processing time at which they come.
    pub by_proctime: bool,
}

/// The operator; see the module above.
pub struct SessionWindowOperator {
    config: SessionWindowConfig,
    times: Times,
    keys: GroupDirectory,
    sessions: Sessions,
    rows: RowStore,
    capacity: u32,
    free: Vec<u32>,
    /// What goes out next.
    due: VecDeque<Due>,
    key_slots: Vec<u32>,
    late_rows: u64,
    null_times: u64,
}

/// Rows that make a batch, and the sessions they are of.
struct Due {
    ids: Vec<u32>,
    starts: Vec<i64>,
    ends: Vec<i64>,
}

impl std::fmt::Debug for SessionWindowOperator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionWindowOperator").field("config", &self.config).finish_non_exhaustive()
    }
}

impl SessionWindowOperator {
    /// An instance without rows.
    ///
    /// # Errors
    /// Internal if the window is no session; unsupported for columns that cannot be kept or be keys.
    pub fn new(config: SessionWindowConfig) -> Result<Self> {
        let WindowKind::Session { gap } = config.window.kind else {
            return Err(Error::internal("a session window of another kind"));
        };
        config.window.validate()?;
        let types: Vec<DataType> =
            config.input_schema.fields().iter().map(|f| f.data_type().clone()).collect();
        let key_types = config.partition.iter().map(|c| types.get(*c).cloned().ok_or_else(broken));
        Ok(SessionWindowOperator {
            times: Times::new(&config.window, config.time_column, config.by_proctime),
            keys: GroupDirectory::new(&key_types.collect::<Result<Vec<_>>>()?)?,
            sessions: Sessions::new(config.window, gap),
            rows: RowStore::new(&types)?,
            config,
            capacity: 0,
            free: Vec::new(),
            due: VecDeque::new(),
            key_slots: Vec::new(),
            late_rows: 0,
            null_times: 0,
        })
    }

    fn keep(&mut self, batch: &RecordBatch) -> Result<()> {
        let nulls = self.times.of_rows(batch)?.and_then(|c| c.nulls());
        let keys: Vec<_> = self.config.partition.iter().map(|c| Arc::clone(batch.column(*c))).collect();
        let mut key_slots = std::mem::take(&mut self.key_slots);
        self.keys.intern(&keys, batch.num_rows(), &mut key_slots)?;
        let (mut ids, mut kept, mut dropped) = (Vec::new(), Vec::new(), Vec::new());
        let millis = std::mem::take(&mut self.times.millis);
        for (row, (key, t)) in key_slots.iter().zip(&millis).enumerate() {
            if nulls.is_some_and(|n| n.is_null(row)) {
                self.null_times += 1;
                dropped.push(*key);
                continue;
            }
            let number = match self.sessions.add(*key, *t) {
                Place::Late => {
                    self.late_rows += 1;
                    dropped.push(*key);
                    continue;
                }
                Place::New(number) | Place::In(number) => number,
            };
            let id = self.new_id();
            if let Some(session) = self.sessions.session(*key, number) {
                session.members.push(id);
            }
            ids.push(id);
            kept.push(row as u32);
        }
        let source = self.rows.source(batch.columns())?;
        self.rows.put(&ids, &source, &kept);
        self.times.millis = millis;
        self.key_slots = key_slots;
        self.forget_idle(dropped);
        Ok(())
    }

    fn new_id(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.capacity += 1;
            self.capacity - 1
        })
    }

    /// Forgets those keys that have no session.
    fn forget_idle(&mut self, mut keys: Vec<u32>) {
        keys.retain(|key| self.sessions.is_idle(*key));
        keys.sort_unstable();
        keys.dedup();
        self.keys.remove(&keys);
    }

    /// Takes out the sessions that have ended.
    fn end_sessions(&mut self, out: &mut Output) -> Result<Progress> {
        let ended = self.sessions.take_ended();
        let mut all = Due { ids: Vec::new(), starts: Vec::new(), ends: Vec::new() };
        let mut keys = Vec::with_capacity(ended.len());
        for (key, session) in ended {
            keys.push(key);
            all.starts.extend(std::iter::repeat_n(session.start, session.members.len()));
            all.ends.extend(std::iter::repeat_n(session.end, session.members.len()));
            all.ids.extend(session.members);
        }
        self.forget_idle(keys);
        for run in self.rows.cut(&all.ids, BATCH_ROWS) {
            let part = (all.ids.get(run.clone()), all.starts.get(run.clone()), all.ends.get(run));
            let (Some(ids), Some(starts), Some(ends)) = part else { return Err(broken()) };
            self.due.push_back(Due { ids: ids.to_vec(), starts: starts.to_vec(), ends: ends.to_vec() });
        }
        self.resume(out)
    }
}

impl Operator for SessionWindowOperator {
    fn name(&self) -> &'static str {
        "SessionWindow"
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, _out: &mut Output) -> Result<Progress> {
        if batch.kinds.is_some() {
            return Err(Error::internal("SessionWindow: updates in append-only input"));
        }
        self.keep(&batch.rows)?;
        Ok(Progress::Done)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        while let Some(Due { ids, starts, ends }) = self.due.pop_front() {
            let options = RecordBatchOptions::new().with_row_count(Some(ids.len()));
            let mut columns = self.rows.gather(&ids)?;
            columns.extend(window_columns(&self.config.window, starts, ends));
            let schema = Arc::clone(&self.config.output_schema);
            out.emit(ChangeBatch::insert_only(RecordBatch::try_new_with_options(schema, columns, &options)?));
            self.rows.free(&ids);
            self.free.extend(ids);
            if out.is_full(PAUSE_ROWS) && !self.due.is_empty() {
                return Ok(Progress::More);
            }
        }
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, watermark: Timestamp, out: &mut Output) -> Result<Progress> {
        if self.times.is_by_proctime() {
            return Ok(Progress::Done);
        }
        self.sessions.advance(watermark.0);
        self.end_sessions(out)
    }

    fn takes_time(&self) -> bool {
        self.times.is_by_proctime()
    }

    fn on_timer(&mut self, now: Timestamp, out: &mut Output) -> Result<Progress> {
        if !self.times.is_by_proctime() {
            return Ok(Progress::Done);
        }
        self.times.set_now(now);
        self.sessions.advance(now.0);
        self.end_sessions(out)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.sessions.next_due().filter(|_| self.times.is_by_proctime()).map(Timestamp)
    }

    fn next_due(&self) -> Timestamp {
        self.sessions.next_due().map_or(Timestamp::MAX, Timestamp)
    }

    fn spillable(&self) -> Spillable {
        Spillable::ByWatermark.if_keyed(!self.config.partition.is_empty() && !self.times.is_by_proctime())
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        let (mut ids, mut starts, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for (_, session) in self.sessions.iter() {
            ids.extend_from_slice(&session.members);
            starts.resize(ids.len(), session.start);
            ends.resize(ids.len(), session.end);
        }
        for run in self.rows.cut(&ids, PART_ROWS) {
            let part = (ids.get(run.clone()), starts.get(run.clone()), ends.get(run));
            let (Some(ids), Some(starts), Some(ends)) = part else { return Err(broken()) };
            let mut columns = self.rows.gather(ids)?;
            let keys: Vec<_> =
                self.config.partition.iter().filter_map(|c| columns.get(*c)).cloned().collect();
            let groups = key_groups(&keys, ids.len())?;
            columns.push(Arc::new(Int64Array::from(starts.to_vec())));
            columns.push(Arc::new(Int64Array::from(ends.to_vec())));
            writer.keyed(ROWS, anonymous(columns, ids.len())?, groups)?;
        }
        writer.watermark(self.sessions.reached())
    }

    fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        for batch in reader.table(ROWS)? {
            let width = self.config.input_schema.fields().len();
            let (columns, bounds) = batch.columns().split_at_checked(width).ok_or_else(broken)?;
            let bound = |i: usize| bounds.get(i).and_then(|c| c.as_primitive_opt::<Int64Type>());
            let (Some(starts), Some(ends)) = (bound(0), bound(1)) else { return Err(broken()) };
            let keys: Vec<_> =
                self.config.partition.iter().filter_map(|c| columns.get(*c)).cloned().collect();
            let mut key_slots = Vec::new();
            self.keys.intern(&keys, batch.num_rows(), &mut key_slots)?;
            let mut ids = Vec::with_capacity(batch.num_rows());
            for (row, key) in key_slots.iter().enumerate() {
                let id = self.new_id();
                self.sessions.restore(*key, starts.value(row), ends.value(row), id);
                ids.push(id);
            }
            let all: Vec<u32> = (0..batch.num_rows() as u32).collect();
            let source = self.rows.source(columns)?;
            self.rows.put(&ids, &source, &all);
        }
        self.sessions.advance(reader.watermark()?.unwrap_or(i64::MIN));
        Ok(())
    }

    fn metrics(&self) -> OperatorMetrics {
        let bytes = self.rows.size()
            + self.keys.size()
            + self.sessions.size()
            + (self.capacity as usize + self.free.capacity()) * 4;
        OperatorMetrics {
            late_rows_dropped: self.late_rows,
            null_times_dropped: self.null_times,
            state_entries: u64::from(self.capacity) - self.free.len() as u64,
            state_bytes: bytes as u64,
            ..OperatorMetrics::default()
        }
    }
}
