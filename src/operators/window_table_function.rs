//! A window table function on its own: each row once per window it belongs to, with the window's columns.
//!
//! ```text
//!  row(ts) ─► row ++ window_start, window_end, window_time   (HOP: size/slide rows, CUMULATE: up to size/step rows)
//! ```
//!
//! | | |
//! |---|---|
//! | state | none |
//! | changelog | any in; TUMBLE keeps kinds, otherwise the copies of an update pair become `-D` and `+I` |
//! | late rows | never dropped here |
//! | NULL row time | dropped and counted |

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, TimestampMillisecondArray, UInt8Array, UInt32Array,
};
use arrow::compute::{cast, take, take_arrays};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit, TimestampMillisecondType};

use crate::error::{Error, Result};
use crate::operators::window_aggregate::assign::to_millis;
use crate::operators::window_aggregate::{WallClock, WindowKind, WindowSpec};
use crate::runtime::operator::{Operator, OperatorMetrics, Output, Progress};
use crate::stream::bytes::{cut, row_bytes};
use crate::stream::{BATCH_BYTES, BATCH_ROWS, ChangeBatch, RowKinds, Timestamp};

/// The windows of rows.
#[derive(Debug, Default)]
pub struct AssignedWindows {
    /// Row number for each (row, window).
    pub rows: Vec<u32>,
    /// Window starts, wall-clock milliseconds.
    pub starts: Vec<i64>,
    /// Window ends, wall-clock milliseconds.
    pub ends: Vec<i64>,
}

/// Times (any timestamp type) as the wall clock that windows go by.
///
/// # Errors
/// Internal if `times` are not timestamps.
pub fn wall_clock(window: &WindowSpec, times: &ArrayRef) -> Result<ArrayRef> {
    let mut millis = Vec::new();
    to_millis(times, &mut millis)?;
    if let Some(mut clock) = window.zone.map(WallClock::new) {
        millis.iter_mut().for_each(|t| *t = clock.shift(*t));
    }
    Ok(Arc::new(TimestampMillisecondArray::new(millis.into(), times.nulls().cloned())))
}

/// Assigns the windows of each time in `times` (any timestamp type); NULL times get none.
///
/// # Errors
/// Internal if `times` are not timestamps.
pub fn assign_windows(window: &WindowSpec, times: &ArrayRef) -> Result<AssignedWindows> {
    let zone = match times.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        other => return Err(Error::internal(format!("windows over {other}"))),
    };
    let millis = cast(times, &DataType::Timestamp(TimeUnit::Millisecond, zone))?;
    let millis = millis.as_primitive::<TimestampMillisecondType>();
    let mut clock = window.zone.map(WallClock::new);
    let mut assigned = AssignedWindows::default();
    assigned.rows.reserve(millis.len());
    assigned.starts.reserve(millis.len());
    assigned.ends.reserve(millis.len());
    for row in 0..millis.len() {
        if millis.is_null(row) {
            continue;
        }
        let instant = millis.value(row);
        let wall = clock.as_mut().map_or(instant, |c| c.shift(instant));
        let first_end = window.slice_end(wall);
        match window.kind {
            WindowKind::Hop { size, slide } if !window.has_slices() => {
                // Windows that contain the row start in (wall - size, wall].
                let last = first_end - slide;
                let mut start = last - (last - (wall - size) - 1).div_euclid(slide) * slide;
                while start <= last {
                    assigned.rows.push(row as u32);
                    assigned.starts.push(start);
                    assigned.ends.push(start + size);
                    start += slide;
                }
            }
            WindowKind::Hop { size, slide } => {
                // Windows that contain the row end at the slice ends in (wall, wall + size].
                let mut end = first_end;
                while end - size <= wall {
                    assigned.rows.push(row as u32);
                    assigned.starts.push(end - size);
                    assigned.ends.push(end);
                    end += slide;
                }
            }
            WindowKind::Cumulate { step, .. } => {
                let last = window.last_window_end(first_end);
                let start = window.window_start(first_end);
                let mut end = first_end;
                while end <= last {
                    assigned.rows.push(row as u32);
                    assigned.starts.push(start);
                    assigned.ends.push(end);
                    end += step;
                }
            }
            WindowKind::Tumble { .. } | WindowKind::Session { .. } | WindowKind::Attached { .. } => {
                assigned.rows.push(row as u32);
                assigned.starts.push(window.window_start(first_end));
                assigned.ends.push(first_end);
            }
        }
    }
    Ok(assigned)
}

impl AssignedWindows {
    /// `window_start`, `window_end` and `window_time` as columns.
    pub fn columns(self, window: &WindowSpec) -> (Vec<u32>, [ArrayRef; 3]) {
        let times: Vec<i64> = self.ends.iter().map(|e| window.window_time(*e)).collect();
        let time = TimestampMillisecondArray::from(times);
        let time: ArrayRef = match window.time_type() {
            DataType::Timestamp(_, Some(zone)) => Arc::new(time.with_timezone(zone)),
            _ => Arc::new(time),
        };
        let start: ArrayRef = Arc::new(TimestampMillisecondArray::from(self.starts));
        let end: ArrayRef = Arc::new(TimestampMillisecondArray::from(self.ends));
        (self.rows, [start, end, time])
    }
}

/// Expands rows to their windows.
#[derive(Debug)]
pub struct WindowTableFunctionOperator {
    window: WindowSpec,
    time_column: usize,
    schema: SchemaRef,
    /// The processing time, if rows are of that.
    now: Option<i64>,
    null_times: u64,
    pending: Option<Pending>,
}

/// A batch that has not been sent on whole.
#[derive(Debug)]
struct Pending {
    batch: ChangeBatch,
    /// The row that each window is of.
    rows: UInt32Array,
    window_columns: [ArrayRef; 3],
    /// Those that make a batch each.
    runs: VecDeque<Range<usize>>,
}

impl WindowTableFunctionOperator {
    /// Windows over `time_column`; `schema` is the input's with the three window columns appended.
    pub fn new(window: WindowSpec, time_column: usize, schema: SchemaRef) -> Self {
        WindowTableFunctionOperator { window, time_column, schema, now: None, null_times: 0, pending: None }
    }

    /// The same for rows that are of the processing time at which they come.
    #[must_use]
    pub fn by_proctime(self) -> Self {
        WindowTableFunctionOperator { now: Some(0), ..self }
    }
}

impl Operator for WindowTableFunctionOperator {
    fn name(&self) -> &'static str {
        "WindowTableFunction"
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        let of_now: ArrayRef;
        let times = match self.now {
            Some(now) => {
                let now = TimestampMillisecondArray::from_value(now, batch.num_rows());
                of_now = Arc::new(now.with_timezone("UTC"));
                &of_now
            }
            None => batch.rows.column(self.time_column),
        };
        self.null_times += times.null_count() as u64;
        let (rows, window_columns) = assign_windows(&self.window, times)?.columns(&self.window);
        if rows.is_empty() {
            return Ok(Progress::Done);
        }
        let same = rows.len() == batch.num_rows()
            && times.null_count() == 0
            && matches!(self.window.kind, WindowKind::Tumble { .. });
        if same {
            let mut columns = batch.rows.columns().to_vec();
            columns.extend(window_columns);
            let rows = RecordBatch::try_new(self.schema.clone(), columns)?;
            out.emit(ChangeBatch { rows, kinds: batch.kinds });
            return Ok(Progress::Done);
        }
        let widths = row_bytes(batch.rows.columns(), batch.num_rows());
        let widths: Vec<usize> = rows.iter().map(|row| widths[*row as usize]).collect();
        let runs = cut(&widths, BATCH_BYTES, |_| false).into();
        self.pending = Some(Pending { batch, rows: UInt32Array::from(rows), window_columns, runs });
        self.resume(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        let Some(pending) = &mut self.pending else { return Ok(Progress::Done) };
        while let Some(run) = pending.runs.pop_front() {
            let indices = pending.rows.slice(run.start, run.len());
            let mut columns = take_arrays(pending.batch.rows.columns(), &indices, None)?;
            columns.extend(pending.window_columns.iter().map(|c| c.slice(run.start, run.len())));
            let rows = RecordBatch::try_new(self.schema.clone(), columns)?;
            let kinds = match &pending.batch.kinds {
                Some(kinds) => {
                    let taken = take(&kinds.to_array(), &indices, None)?;
                    let taken: &UInt8Array = taken.as_primitive();
                    // Copies of the two halves are no longer adjacent per window.
                    let codes = taken.values().iter().map(|c| if c & 1 == 1 { 3 } else { 0 });
                    Some(RowKinds::new(codes.collect()))
                }
                None => None,
            };
            out.emit(ChangeBatch { rows, kinds });
            if out.is_full(4 * BATCH_ROWS) && !pending.runs.is_empty() {
                return Ok(Progress::More);
            }
        }
        self.pending = None;
        Ok(Progress::Done)
    }

    fn takes_time(&self) -> bool {
        self.now.is_some()
    }

    fn on_timer(&mut self, now: Timestamp, _out: &mut Output) -> Result<Progress> {
        self.now = self.now.map(|before| before.max(now.0));
        Ok(Progress::Done)
    }

    fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics { null_times_dropped: self.null_times, ..OperatorMetrics::default() }
    }
}
