//! `table.exec.late-data.table`: tells late rows from others, before the operator that would drop them.
//!
//! ```text
//!  rows ══ key ══► LateRows: row ++ whether it is late ++ the watermark ─┬─ not late ─► the operator
//!                                                                       └─ late ─────► the table for late rows
//! ```
//!
//! | | |
//! |---|---|
//! | state | the watermark, so that a restored job tells the same rows late |
//! | changelog | append-only in and out |
//! | watermark, barrier, end | pass |
//!
//! The operator behind stands behind an exchange of the same key: its watermark is never ahead of the one here, so that it
//! drops none of the rows that are not late here. Rows without a time are not late; it drops and counts them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::error::{Error, Result};
use crate::operators::window_aggregate::assign::to_millis;
use crate::operators::window_aggregate::{WallClock, WindowSpec};
use crate::runtime::operator::{Operator, Output, Progress};
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{ChangeBatch, Timestamp};

/// When a row is late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LateRule {
    /// The watermark has passed its time.
    Passed,
    /// All windows that hold it are over; windows that are attached to rows: the time is their end.
    WindowsOver {
        /// The windows.
        window: WindowSpec,
        /// How long behind their end windows take rows, in ms.
        lateness: i64,
    },
}

/// See the module.
#[derive(Debug)]
pub struct LateRowsOperator {
    rule: LateRule,
    time: usize,
    clock: Option<WallClock>,
    schema: SchemaRef,
    watermark: i64,
    times: Vec<i64>,
}

impl LateRowsOperator {
    /// For rows whose time is column `time`; `schema` is [`LateRowsOperator::schema`] of theirs.
    pub fn new(rule: LateRule, time: usize, schema: SchemaRef) -> Self {
        let clock = match rule {
            LateRule::WindowsOver { window, .. } if !window.is_attached() => window.zone.map(WallClock::new),
            _ => None,
        };
        LateRowsOperator { rule, time, clock, schema, watermark: i64::MIN, times: Vec::new() }
    }

    /// The columns of rows, whether they are late, and the watermark.
    pub fn schema(input: &SchemaRef) -> SchemaRef {
        let mut fields: Vec<_> = input.fields().iter().cloned().collect();
        let instant = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        fields.push(Arc::new(Field::new("__late", DataType::Boolean, false)));
        fields.push(Arc::new(Field::new("__watermark", instant, false)));
        Arc::new(Schema::new(fields))
    }

    /// The instant up to which the watermark may come without a row of `time` being late.
    fn until(&self, time: i64) -> i64 {
        match self.rule {
            LateRule::Passed => time,
            LateRule::WindowsOver { window, lateness } => {
                let end =
                    if window.is_attached() { time } else { window.last_window_end(window.slice_end(time)) };
                window.due(end).saturating_add(lateness)
            }
        }
    }
}

impl Operator for LateRowsOperator {
    fn name(&self) -> &'static str {
        "LateRows"
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        if batch.kinds.is_some() {
            return Err(Error::internal("LateRows: updates in append-only input"));
        }
        let time = batch
            .rows
            .columns()
            .get(self.time)
            .ok_or_else(|| Error::internal("LateRows: the input has no such column"))?;
        to_millis(time, &mut self.times)?;
        if let Some(clock) = &mut self.clock {
            self.times.iter_mut().for_each(|t| *t = clock.shift(*t));
        }
        let is_late = |(row, at): (usize, &i64)| {
            Some(self.watermark != i64::MIN && time.is_valid(row) && self.until(*at) <= self.watermark)
        };
        let late: BooleanArray = self.times.iter().enumerate().map(is_late).collect();
        let watermark = TimestampMillisecondArray::from_value(self.watermark, batch.num_rows());
        let mut columns: Vec<ArrayRef> = batch.rows.columns().to_vec();
        columns.push(Arc::new(late));
        columns.push(Arc::new(watermark.with_timezone("UTC")));
        out.emit(ChangeBatch::insert_only(RecordBatch::try_new(self.schema.clone(), columns)?));
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, watermark: Timestamp, _out: &mut Output) -> Result<Progress> {
        self.watermark = self.watermark.max(watermark.0);
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        writer.watermark(self.watermark)
    }

    fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        self.watermark = reader.watermark()?.unwrap_or(i64::MIN);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::harness::{OperatorHarness, check};
    use crate::operators::window_aggregate::WindowKind;

    fn harness(rule: LateRule) -> OperatorHarness {
        let time = DataType::Timestamp(TimeUnit::Millisecond, None);
        let input: SchemaRef = Arc::new(Schema::new(vec![Field::new("ts", time, true)]));
        let schema = LateRowsOperator::schema(&input);
        OperatorHarness::new(input, &[], move |_| {
            Ok(Box::new(LateRowsOperator::new(rule, 0, schema.clone())))
        })
    }

    /// Whether the rows are late.
    fn late(rule: LateRule, script: &str) -> Vec<bool> {
        let out = harness(rule).run(script);
        out.lines().filter(|l| l.starts_with('+')).map(|l| l.contains("true")).collect()
    }

    #[test]
    fn rows_behind_the_watermark_are_late() {
        let script = "+I 00:00:01\n~ 00:00:10\n+I 00:00:10\n+I 00:00:10.001\n+I null\n| 1 x1\n+I 00:00:09";
        assert_eq!(late(LateRule::Passed, script), [false, true, false, false, true]);
    }

    #[test]
    fn rows_are_late_when_their_last_window_is_over() {
        let of = |kind, lateness| LateRule::WindowsOver {
            window: WindowSpec { kind, offset: 0, zone: None },
            lateness,
        };
        let script =
            "+I 00:00:30\n~ 00:00:59.999\n+I 00:00:30\n+I 00:01:00\n~ 00:01:29.999\n+I 00:00:59\n+I 00:01:00";
        let minute = 60_000;
        assert_eq!(
            late(of(WindowKind::Tumble { size: minute }, 0), script),
            [false, true, false, true, false]
        );
        assert_eq!(
            late(of(WindowKind::Tumble { size: minute }, 30_001), script),
            [false, false, false, false, false]
        );
        let hop = WindowKind::Hop { size: minute, slide: minute / 2 };
        assert_eq!(late(of(hop, 0), script), [false, false, false, true, false]);
    }

    #[test]
    fn the_watermark_stands_beside_the_row() {
        check(
            &mut harness(LateRule::Passed),
            "~ 00:00:10
             +I 00:00:09",
            "~ 00:00:10
             +I 00:00:09 true 00:00:10Z",
        );
    }
}
