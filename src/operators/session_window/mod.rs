//! Session windows: rows of a key without a gap between them, `SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), gap)`.
//!
//! ```text
//!  time ─►     ·  · ·        ·   ·                  · a row that is less than, or exactly, the gap away joins the session
//!             [ session )   [ session )             start: first row; end, exclusive: last row + gap
//!
//!  SessionWindow     row ─► kept ─────────────────► session has ended ─► its rows ++ window_start, window_end, window_time
//!  SessionAggregate  row ─► aggregates of its ────► session has ended ─► one row per key and session
//!                           piece of the session
//! ```
//!
//! | operator | state | dropped |
//! |---|---|---|
//! | `SessionWindow` | partition key → open sessions → rows | when the session has ended |
//! | `SessionAggregate` | key → open sessions → pieces; (key, piece) → aggregates | when the session has ended |
//!
//! A row that lies between two sessions makes one of them. Aggregates stay in the pieces as they were and are merged when the
//! session has ended: most have one piece.
//!
//! Input and output: append-only. A session has ended when the watermark reaches its end − 1 ms (by processing time: when the
//! clock does). A row is late, dropped and counted, if a session of its own would have ended and no open one is near. Rows
//! without a time are dropped and counted as well. At a barrier rows, or pieces and sessions, are written as typed columns; the
//! end of input is the last watermark, which ends every session by row time. By processing time, what is open then is lost, as
//! in Flink.

mod aggregate;
mod rows;
mod sessions;

pub use aggregate::SessionAggregateOperator;
pub use rows::{SessionWindowConfig, SessionWindowOperator};

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::DataType;

use crate::error::{Error, Result};
use crate::operators::window_aggregate::assign::to_millis;
use crate::operators::window_aggregate::{WallClock, WindowSpec};
use crate::stream::{BATCH_ROWS, Timestamp};

/// Rows of output after which an operator pauses.
const PAUSE_ROWS: usize = 16 * BATCH_ROWS;

/// The times of rows, as wall-clock milliseconds.
#[derive(Debug)]
struct Times {
    clock: Option<WallClock>,
    column: usize,
    /// The processing time, if rows are of that.
    now: Option<i64>,
    millis: Vec<i64>,
}

impl Times {
    fn new(window: &WindowSpec, column: usize, by_proctime: bool) -> Self {
        Times {
            clock: window.zone.map(WallClock::new),
            column,
            now: by_proctime.then_some(i64::MIN),
            millis: Vec::new(),
        }
    }

    fn is_by_proctime(&self) -> bool {
        self.now.is_some()
    }

    /// A clock that was set back stands still.
    fn set_now(&mut self, now: Timestamp) {
        self.now = self.now.map(|before| before.max(now.0));
    }

    /// Computes the time of each row; gives the column whose NULLs have none.
    fn of_rows<'a>(&mut self, rows: &'a RecordBatch) -> Result<Option<&'a ArrayRef>> {
        let column = match self.now {
            Some(now) => {
                self.millis.clear();
                self.millis.resize(rows.num_rows(), now);
                None
            }
            None => {
                let column = rows.columns().get(self.column);
                let column =
                    column.ok_or_else(|| Error::internal("session window: the input has no such column"))?;
                to_millis(column, &mut self.millis)?;
                (column.null_count() > 0).then_some(column)
            }
        };
        if let Some(clock) = &mut self.clock {
            self.millis.iter_mut().for_each(|t| *t = clock.shift(*t));
        }
        Ok(column)
    }
}

/// `window_start`, `window_end` and `window_time` of rows.
fn window_columns(window: &WindowSpec, starts: Vec<i64>, ends: Vec<i64>) -> [ArrayRef; 3] {
    let times: TimestampMillisecondArray = ends.iter().map(|end| Some(window.window_time(*end))).collect();
    let time: ArrayRef = match window.time_type() {
        DataType::Timestamp(_, Some(zone)) => Arc::new(times.with_timezone(zone)),
        _ => Arc::new(times),
    };
    [Arc::new(TimestampMillisecondArray::from(starts)), Arc::new(TimestampMillisecondArray::from(ends)), time]
}

fn broken() -> Error {
    Error::internal("the state of a session window has other columns than it should")
}

#[cfg(test)]
mod tests;
