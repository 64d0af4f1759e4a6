//! Window aggregates: `GROUP BY window_start, window_end [, keys]` over TUMBLE, HOP and CUMULATE.
//!
//! ```text
//!  Single:  rows ─► slices ─► watermark ≥ window end − 1 ms ─► one row per key and window
//!
//!  Local:   rows ─► slices of this bundle ─► flush: keys, slice end, state columns
//!  Global:         exchange by key ─► slices ─► watermark ─► one row per key and window
//! ```
//!
//! | state | dropped |
//! |---|---|
//! | slice end, key → partial aggregates | when the last window with the slice has fired |
//! | watermark up to which windows have fired | never |
//!
//! Input: append-only, or any changelog in phase `Single` (`updating`); output: append-only, in order of window ends. A
//! row is late, dropped and counted when the last window that holds it has fired; before that it still counts into
//! the windows that have not. Rows without a time are dropped and counted as well. By processing time rows are of the time at
//! which they come, windows fire by timers, and those that are open at the end are lost, as in Flink. At a barrier the slices are frozen
//! into typed columns (`slices`: keys, slice end, states; `watermark`); at the end of input the last watermark has
//! fired everything.

pub(in crate::operators) mod assign;
mod config;
mod partial;
mod slices;
mod sliding;
mod updating;
mod window;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, TimestampMillisecondArray, UInt32Array,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use crate::error::{Error, Result};
use crate::operators::emit::emit_in_slices;
use crate::operators::group_aggregate::evaluate_all;
use crate::runtime::operator::{Operator, OperatorMetrics, Output, Progress, Spillable};
use crate::state::key::key_groups;
use crate::stream::bytes::joined;
use crate::stream::key_group::KeyGroupRange;
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{BATCH_BYTES, BATCH_ROWS, ChangeBatch, Timestamp};
use assign::{Assigner, Assignment, by_slice_end, to_millis};
pub use config::{SLICE_END, WindowAggregateConfig, WindowOutput, WindowPhase};
use partial::{Columns, Shape};
use slices::{Fired, Slices};
use updating::UpdatingWindows;
pub use window::{WallClock, WindowKind, WindowSpec};

/// Groups a local phase gathers before it emits without being asked, so that it stays in the processor's caches.
const LOCAL_GROUPS: usize = 65_536;

/// Bytes likewise.
const LOCAL_BYTES: usize = 4 * BATCH_BYTES;

/// Rows of output after which firing pauses.
const PAUSE_ROWS: usize = 16 * BATCH_ROWS;

/// State table of partial aggregates.
const SLICES: &str = "slices";

/// Where rows wait for their windows.
enum Core {
    /// Partial aggregates per slice.
    Slices(Box<Slices>),
    /// Groups per window.
    Windows(Box<UpdatingWindows>),
}

macro_rules! core {
    ($core:expr, $c:ident => $body:expr) => {
        match $core {
            Core::Slices($c) => $body,
            Core::Windows($c) => $body,
        }
    };
}

/// The operator; see the module.
pub struct WindowAggregateOperator {
    config: WindowAggregateConfig,
    shape: Arc<Shape>,
    assigner: Assigner,
    core: Core,
    partial_schema: SchemaRef,
    /// The processing time.
    now: i64,
    late_rows_dropped: u64,
    null_times_dropped: u64,
}

impl std::fmt::Debug for WindowAggregateOperator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WindowAggregateOperator").field("config", &self.config).finish_non_exhaustive()
    }
}

impl WindowAggregateOperator {
    /// An instance that owns the key groups `_range`.
    ///
    /// # Errors
    /// What [`WindowAggregateConfig::validate`] finds.
    pub fn new(config: WindowAggregateConfig, _range: KeyGroupRange) -> Result<Self> {
        config.validate()?;
        let shape =
            Arc::new(Shape::new(config.aggregates.clone(), config.key_fields()?, config.state_fields()?)?);
        let partial_schema = config.partial_schema()?;
        let core = if config.keeps_groups() {
            Core::Windows(Box::new(UpdatingWindows::new(&config)?))
        } else {
            Core::Slices(Box::new(Slices::new(config.window, Arc::clone(&shape))))
        };
        Ok(WindowAggregateOperator {
            assigner: Assigner::new(config.window),
            core,
            shape,
            partial_schema,
            config,
            now: i64::MIN,
            late_rows_dropped: 0,
            null_times_dropped: 0,
        })
    }

    fn column<'a>(&self, rows: &'a RecordBatch, index: usize) -> Result<&'a ArrayRef> {
        rows.columns()
            .get(index)
            .ok_or_else(|| Error::internal("window aggregate: the input has no such column"))
    }

    /// Input rows into slices or windows.
    fn add_rows(&mut self, batch: &ChangeBatch) -> Result<()> {
        let rows = &batch.rows;
        let (time, starts) = match self.config.window.kind {
            WindowKind::Attached { start_column, end_column } => {
                let mut starts = Vec::new();
                to_millis(self.column(rows, start_column)?, &mut starts)?;
                (end_column, Some(starts))
            }
            _ => (self.config.time_column, None),
        };
        let mut assignment = if self.takes_time() {
            let times = TimestampMillisecondArray::from_value(self.now, rows.num_rows());
            self.assigner.assign(&times.with_timezone("UTC"))?
        } else {
            self.assigner.assign(self.column(rows, time)?)?
        };
        self.null_times_dropped += assignment.without_time;
        self.drop_late(&mut assignment);
        if assignment.slices.is_empty() {
            return Ok(());
        }
        let slices = match &mut self.core {
            Core::Slices(slices) => slices,
            Core::Windows(windows) => {
                return windows.add(rows, batch.kinds.as_ref(), &assignment, starts.as_deref());
            }
        };
        let calls = &self.config.aggregates;
        let columns = Columns {
            keys: evaluate_all(&self.config.keys, rows)?,
            args: calls.iter().map(|c| c.evaluate_args(rows)).collect::<Result<_>>()?,
            filters: calls.iter().map(|c| c.evaluate_filter(rows)).collect::<Result<_>>()?,
            rows: rows.num_rows(),
        };
        for (slice_end, indices) in assignment.slices {
            let first = indices.first().map_or(0, |i| *i as usize);
            let start = starts.as_ref().and_then(|s| s.get(first).copied());
            if indices.len() == rows.num_rows() {
                slices.update(slice_end, start, &columns)?;
            } else {
                slices.update(slice_end, start, &columns.take(&UInt32Array::from(indices))?)?;
            }
        }
        Ok(())
    }

    /// Partial results into slices.
    fn add_partials(&mut self, rows: &RecordBatch) -> Result<()> {
        let at = self.shape.key_count();
        let ends = self.column(rows, at)?.as_primitive_opt::<Int64Type>();
        let ends = ends.ok_or_else(|| Error::internal("window aggregate: the input has no slice end"))?;
        let mut assignment = by_slice_end(ends, ends.values());
        self.drop_late(&mut assignment);
        let Core::Slices(slices) = &mut self.core else {
            return Err(Error::internal("window aggregate: partial results without slices"));
        };
        let mut columns = rows.columns().to_vec();
        columns.remove(at);
        for (slice_end, indices) in assignment.slices {
            if indices.len() == rows.num_rows() {
                slices.merge(slice_end, &columns, indices.len())?;
            } else {
                let indices = UInt32Array::from(indices);
                let own: Vec<ArrayRef> =
                    columns.iter().map(|c| Ok(take(c, &indices, None)?)).collect::<Result<_>>()?;
                slices.merge(slice_end, &own, indices.len())?;
            }
        }
        Ok(())
    }

    /// Drops and counts the slices that came too late. A local phase leaves that to the global one.
    fn drop_late(&mut self, assignment: &mut Assignment) {
        // The clock goes on while rows with their windows are on the way.
        if self.config.by_proctime {
            return;
        }
        let (core, dropped) = (&self.core, &mut self.late_rows_dropped);
        assignment.slices.retain(|(end, rows)| {
            let late = core!(core, c => c.is_late(*end));
            if late {
                *dropped += rows.len() as u64;
            }
            !late
        });
    }

    fn fire(&mut self, out: &mut Output) -> Result<Progress> {
        while !out.is_full(PAUSE_ROWS) {
            match core!(&mut self.core, c => c.fire()?) {
                Some(fired) => fired.iter().try_for_each(|fired| self.emit(fired, out))?,
                None => return Ok(Progress::Done),
            }
        }
        Ok(if core!(&self.core, c => c.has_due()) { Progress::More } else { Progress::Done })
    }

    fn emit(&self, fired: &Fired, out: &mut Output) -> Result<()> {
        let constant =
            |value: i64| Arc::new(TimestampMillisecondArray::from_value(value, fired.rows)) as ArrayRef;
        let mut columns = Vec::with_capacity(self.config.output.len());
        for column in &self.config.output {
            columns.push(match *column {
                WindowOutput::Key(i) => Arc::clone(&fired.keys[i]),
                WindowOutput::Start => constant(fired.start),
                WindowOutput::End => constant(fired.end),
                WindowOutput::Time => {
                    let time = TimestampMillisecondArray::from_value(
                        self.config.window.window_time(fired.end),
                        fired.rows,
                    );
                    Arc::new(time.with_timezone_opt(self.config.window.zone.map(|_| "UTC")))
                }
                WindowOutput::Aggregate(i) => Arc::clone(&fired.results[i]),
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(fired.rows));
        let rows =
            RecordBatch::try_new_with_options(Arc::clone(&self.config.output_schema), columns, &options)?;
        emit_in_slices(&ChangeBatch::insert_only(rows), out);
        Ok(())
    }

    /// Emits the slices of a local phase.
    fn emit_partials(&mut self, out: &mut Output) -> Result<()> {
        let Core::Slices(slices) = &mut self.core else { return Ok(()) };
        let drained = slices.drain()?;
        let batches = drained
            .iter()
            .map(|(end, batch)| self.with_slice_end(batch, *end))
            .collect::<Result<Vec<_>>>()?;
        for batch in joined(&self.partial_schema, batches)? {
            emit_in_slices(&ChangeBatch::insert_only(batch), out);
        }
        Ok(())
    }

    fn with_slice_end(&self, partial: &RecordBatch, end: i64) -> Result<RecordBatch> {
        let mut columns = partial.columns().to_vec();
        columns.insert(self.shape.key_count(), Arc::new(Int64Array::from_value(end, partial.num_rows())));
        Ok(RecordBatch::try_new(Arc::clone(&self.partial_schema), columns)?)
    }
}

impl Operator for WindowAggregateOperator {
    fn name(&self) -> &'static str {
        match self.config.phase {
            WindowPhase::Single => "WindowAggregate",
            WindowPhase::Local => "LocalWindowAggregate",
            WindowPhase::Global => "GlobalWindowAggregate",
        }
    }

    fn remembers(&self) -> bool {
        self.config.phase != WindowPhase::Local
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        if batch.kinds.is_some() && !self.config.input_retracts {
            return Err(Error::internal(format!("{}: updates in append-only input", self.name())));
        }
        match self.config.phase {
            WindowPhase::Single => self.add_rows(&batch)?,
            WindowPhase::Global => self.add_partials(&batch.rows)?,
            WindowPhase::Local => {
                self.add_rows(&batch)?;
                let core = &self.core;
                if core!(core, c => c.entries() > LOCAL_GROUPS || c.size() > LOCAL_BYTES) {
                    self.emit_partials(out)?;
                }
            }
        }
        Ok(Progress::Done)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        self.fire(out)
    }

    fn on_watermark(&mut self, watermark: Timestamp, out: &mut Output) -> Result<Progress> {
        if self.config.phase == WindowPhase::Local {
            return self.flush(out);
        }
        if self.config.by_proctime {
            return Ok(Progress::Done);
        }
        core!(&mut self.core, c => c.advance(watermark.0));
        self.fire(out)
    }

    fn takes_time(&self) -> bool {
        self.config.by_proctime && !self.config.window.is_attached()
    }

    fn on_timer(&mut self, now: Timestamp, out: &mut Output) -> Result<Progress> {
        if !self.config.by_proctime {
            return Ok(Progress::Done);
        }
        // A clock that was set back stands still.
        self.now = self.now.max(now.0);
        core!(&mut self.core, c => c.advance(self.now));
        self.fire(out)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        if !self.config.by_proctime {
            return None;
        }
        let end = core!(&self.core, c => c.next_end())?;
        Some(Timestamp(self.config.window.due(end)))
    }

    fn on_end(&mut self, out: &mut Output) -> Result<Progress> {
        self.flush(out)
    }

    fn flush(&mut self, out: &mut Output) -> Result<Progress> {
        if self.config.phase == WindowPhase::Local {
            self.emit_partials(out)?;
        }
        Ok(Progress::Done)
    }

    fn next_due(&self) -> Timestamp {
        let end = core!(&self.core, c => c.next_end());
        end.map_or(Timestamp::MAX, |end| Timestamp(self.config.window.due(end)))
    }

    fn spillable(&self) -> Spillable {
        if self.config.phase == WindowPhase::Local || self.config.by_proctime {
            return Spillable::No;
        }
        Spillable::ByWatermark.if_keyed(!self.config.keys.is_empty())
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        if self.config.phase == WindowPhase::Local {
            if core!(&self.core, c => c.entries()) > 0 {
                return Err(Error::internal("a local window aggregate was not flushed before a barrier"));
            }
            return Ok(());
        }
        let keys = self.shape.key_count();
        let frozen = match &mut self.core {
            Core::Slices(slices) => slices.freeze(writer.mode())?,
            Core::Windows(windows) => {
                windows.snapshot(writer)?;
                Vec::new()
            }
        };
        for (end, start, batch) in frozen {
            let groups = key_groups(&batch.columns()[..keys], batch.num_rows())?;
            let rows = self.with_slice_end(&batch, end)?;
            let rows = with_start(rows, start)?;
            // Slices whose windows have fired are told by the watermark.
            match &self.core {
                Core::Slices(slices) if slices.appends() => writer.append(SLICES, rows, groups)?,
                _ => writer.keyed(SLICES, rows, groups)?,
            }
        }
        writer.watermark(core!(&self.core, c => c.fired_up_to()))
    }

    fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        // Subtasks may differ in what they had fired.
        let watermark = reader.watermark()?;
        core!(&mut self.core, c => c.advance(watermark.unwrap_or(i64::MIN)));
        if let Core::Windows(windows) = &mut self.core {
            return windows.restore(reader);
        }
        let at = self.shape.key_count();
        for batch in reader.table(SLICES)? {
            let ends = self.column(&batch, at)?.as_primitive_opt::<Int64Type>();
            let ends = ends.ok_or_else(|| Error::internal("state of a window aggregate has no slice end"))?;
            let start = batch.column_by_name(WINDOW_START).and_then(|c| c.as_primitive_opt::<Int64Type>());
            // Every written batch is of one slice.
            let Some(end) = ends.values().first() else { continue };
            let mut columns = batch.columns()[..self.partial_schema.fields().len()].to_vec();
            columns.remove(at);
            let fields: Vec<_> = self
                .partial_schema
                .fields()
                .iter()
                .enumerate()
                .filter(|(i, _)| *i != at)
                .map(|(_, f)| Arc::clone(f))
                .collect();
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let partial =
                RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?;
            if let Core::Slices(slices) = &mut self.core
                && !slices.is_late(*end)
            {
                slices.thaw(*end, start.and_then(|s| s.values().first().copied()), partial);
            }
        }
        Ok(())
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics {
            late_rows_dropped: self.late_rows_dropped,
            null_times_dropped: self.null_times_dropped,
            state_entries: core!(&self.core, c => c.entries()) as u64,
            state_bytes: core!(&self.core, c => c.size()) as u64,
            ..OperatorMetrics::default()
        }
    }
}

/// Name of the state column with the start of an attached window.
const WINDOW_START: &str = "__window_start";

fn with_start(rows: RecordBatch, start: Option<i64>) -> Result<RecordBatch> {
    let Some(start) = start else { return Ok(rows) };
    let mut fields: Vec<_> = rows.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(WINDOW_START, DataType::Int64, false)));
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(Int64Array::from_value(start, rows.num_rows())));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

#[cfg(test)]
mod tests;
