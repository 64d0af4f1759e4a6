//! From the time column to slices: which rows of a batch belong to which slice.

use std::collections::HashMap;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};

use crate::error::{Error, Result};
use crate::operators::window_aggregate::window::{WallClock, WindowSpec};

/// Rows of a batch by slice end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Assignment {
    /// Slice end and row numbers, ascending within a slice.
    pub(super) slices: Vec<(i64, Vec<u32>)>,
    /// Rows without a time.
    pub(super) without_time: u64,
}

/// Writes a timestamp column to `out` (cleared first) in milliseconds, rounded down; null rows get any value.
pub(in crate::operators) fn to_millis(column: &dyn Array, out: &mut Vec<i64>) -> Result<()> {
    out.clear();
    match column.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => {
            let a = column.as_primitive::<TimestampSecondType>();
            out.extend(a.values().iter().map(|t| t.saturating_mul(1000)));
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            out.extend_from_slice(column.as_primitive::<TimestampMillisecondType>().values());
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let a = column.as_primitive::<TimestampMicrosecondType>();
            out.extend(a.values().iter().map(|t| t.div_euclid(1000)));
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let a = column.as_primitive::<TimestampNanosecondType>();
            out.extend(a.values().iter().map(|t| t.div_euclid(1_000_000)));
        }
        other => return Err(Error::internal(format!("a window needs a timestamp column, not {other}"))),
    }
    Ok(())
}

/// Assigns rows to slices.
#[derive(Debug)]
pub(super) struct Assigner {
    window: WindowSpec,
    clock: Option<WallClock>,
    millis: Vec<i64>,
}

impl Assigner {
    pub(super) fn new(window: WindowSpec) -> Self {
        Assigner { window, clock: window.zone.map(WallClock::new), millis: Vec::new() }
    }

    /// Rows by slice of their time; `column` holds window ends when windows are attached.
    pub(super) fn assign(&mut self, column: &dyn Array) -> Result<Assignment> {
        to_millis(column, &mut self.millis)?;
        if let (Some(clock), false) = (&mut self.clock, self.window.is_attached()) {
            self.millis.iter_mut().for_each(|t| *t = clock.shift(*t));
        }
        let (width, attached) = (self.window.slice_width(), self.window.is_attached());
        // Rows mostly come in order: remember the slice of the row before.
        let mut current = (0_i64, -1_i64, usize::MAX);
        Ok(group(column, &self.millis, |t, find| {
            if t < current.0 || t >= current.1 {
                let end = if attached { t } else { self.window.slice_end(t) };
                current = (if attached { t } else { end.saturating_sub(width) }, end, find(end));
                if attached {
                    current.1 = t.saturating_add(1);
                }
            }
            current.2
        }))
    }
}

/// Rows by the value of a column of slice ends.
pub(super) fn by_slice_end(column: &dyn Array, ends: &[i64]) -> Assignment {
    let mut current: Option<(i64, usize)> = None;
    group(column, ends, |t, find| match current {
        Some((end, place)) if end == t => place,
        _ => {
            let place = find(t);
            current = Some((t, place));
            place
        }
    })
}

fn group(
    column: &dyn Array,
    values: &[i64],
    mut place_of: impl FnMut(i64, &mut dyn FnMut(i64) -> usize) -> usize,
) -> Assignment {
    let mut slices: Vec<(i64, Vec<u32>)> = Vec::new();
    let mut places: HashMap<i64, usize> = HashMap::new();
    let mut without_time = 0;
    let nulls = column.nulls().filter(|n| n.null_count() > 0);
    for (row, value) in values.iter().enumerate() {
        if nulls.is_some_and(|n| n.is_null(row)) {
            without_time += 1;
            continue;
        }
        let place = place_of(*value, &mut |end| {
            *places.entry(end).or_insert_with(|| {
                slices.push((end, Vec::new()));
                slices.len() - 1
            })
        });
        slices[place].1.push(row as u32);
    }
    Assignment { slices, without_time }
}
