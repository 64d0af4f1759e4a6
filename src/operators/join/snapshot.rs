//! State of a join in snapshots: a table per side.
//!
//! | columns | where |
//! |---|---|
//! | join key | always |
//! | number of rows | bags, and sides that are only counted |
//! | stored columns | unless only counted |
//! | degree | where degrees are kept |
//! | last write, ms | with a TTL |
//!
//! Of a side whose rows stay as they are, checkpoints hold the new rows; of others, all rows of the keys that have changed.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;

use super::null_aware::RightRows;
use super::side::{Layout, News, SideState};
use super::{JoinOperator, Shape};
use crate::error::{Error, Result};
use crate::state::{GroupDirectory, anonymous};
use crate::stream::BATCH_ROWS;
use crate::stream::snapshot::{SnapshotMode, SnapshotReader, SnapshotWriter};

const TABLES: [&str; 2] = ["left", "right"];

fn broken() -> Error {
    Error::internal("the state of a join has other columns than it should")
}

impl SideState {
    /// Whether the table has: counts, degrees, times.
    fn extras(&self) -> [bool; 3] {
        [matches!(self.layout, Layout::Bag | Layout::Count), self.degrees.is_some(), self.expiry.is_some()]
    }
}

impl JoinOperator {
    pub(super) fn write(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        if self.work.is_some() {
            return Err(Error::internal("a barrier reached a join within a batch"));
        }
        write_sides(&mut self.directory, &mut self.sides, &TABLES, writer)
    }

    pub(super) fn read(&mut self, reader: &SnapshotReader) -> Result<()> {
        let nulls = (self.shape == Shape::NullAware).then_some(&mut self.right_rows);
        read_sides(&mut self.directory, &mut self.sides, &TABLES, nulls, reader)
    }
}

/// Writes the rows of the sides of a join, each into a table.
///
/// # Errors
/// Internal; kernels' errors.
pub(super) fn write_sides<T: AsRef<str>>(
    directory: &mut GroupDirectory,
    sides: &mut [SideState],
    tables: &[T],
    writer: &mut SnapshotWriter,
) -> Result<()> {
    // What expires does so without its key.
    let expires = sides.iter().any(|side| side.expiry.is_some());
    let mode = if expires { SnapshotMode::Whole } else { writer.mode() };
    let written = directory.to_write(mode)?;
    let live = &written.slots;
    let key: Vec<usize> = (0..directory.types().len()).collect();
    let directory = &*directory;
    for (side, table) in sides.iter_mut().zip(tables) {
        let table = table.as_ref();
        if side.only_grows() && mode != SnapshotMode::Whole {
            let news = side.take_news();
            if mode == SnapshotMode::Changes {
                let news = news.ok_or_else(|| Error::internal("new rows of a join were not noted"))?;
                write_news(directory, table, side, &news, writer)?;
                continue;
            }
        }
        let side = &*side;
        let has_rows = |slot: u32| side.rows[slot as usize] > 0;
        directory.void(writer, table, (&key, key.len()), &written, has_rows)?;
        let rows = Rows { directory, table, side, expires };
        let (mut slots, mut ids): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
        for slot in live.iter().filter(|s| side.rows[**s as usize] > 0) {
            if side.layout == Layout::Count {
                slots.push(*slot);
            } else {
                let from = ids.len();
                ids.extend(side.chain(*slot));
                // Oldest first, so that a restored chain has its old order.
                ids[from..].reverse();
                slots.resize(ids.len(), *slot);
            }
            if slots.len() >= BATCH_ROWS {
                rows.write(&slots, &ids, writer)?;
                slots.clear();
                ids.clear();
            }
        }
        rows.write(&slots, &ids, writer)?;
    }
    Ok(())
}

/// Rows that no snapshot holds, beside those that one does: they cost what they are, whatever else their keys have.
fn write_news(
    directory: &GroupDirectory,
    table: &str,
    side: &SideState,
    news: &News,
    writer: &mut SnapshotWriter,
) -> Result<()> {
    let mut write = |slots: &[u32], stored: &[ArrayRef]| -> Result<()> {
        for part in directory.cut(slots, BATCH_ROWS) {
            let slots = &slots[part.clone()];
            let mut columns = directory.keys(slots)?;
            columns.extend(stored.iter().map(|c| c.slice(part.start, part.len())));
            writer.append(table, anonymous(columns, slots.len())?, directory.key_groups(slots))?;
        }
        Ok(())
    };
    if side.store.types().is_empty() {
        return write(&news.slots, &[]);
    }
    for (ids, stored) in side.store.since(news.from) {
        let slots: Vec<u32> = ids.iter().map(|id| news.slots[(id - news.from) as usize]).collect();
        write(&slots, &stored)?;
    }
    Ok(())
}

/// Rows of one side on their way into a table.
struct Rows<'a> {
    directory: &'a GroupDirectory,
    table: &'a str,
    side: &'a SideState,
    /// Whether rows of the join expire.
    expires: bool,
}

impl Rows<'_> {
    fn write(&self, slots: &[u32], ids: &[u32], writer: &mut SnapshotWriter) -> Result<()> {
        if self.side.layout == Layout::Count {
            for run in self.directory.cut(slots, BATCH_ROWS) {
                self.write_part(&slots[run], ids, writer)?;
            }
            return Ok(());
        }
        for run in self.side.store.runs(ids) {
            // The key of a row comes as often as it has rows.
            for part in self.directory.cut(&slots[run.clone()], BATCH_ROWS) {
                let part = run.start + part.start..run.start + part.end;
                self.write_part(&slots[part.clone()], &ids[part], writer)?;
            }
        }
        Ok(())
    }

    fn write_part(&self, slots: &[u32], ids: &[u32], writer: &mut SnapshotWriter) -> Result<()> {
        let Rows { directory, table, side, expires } = *self;
        let mut columns = directory.keys(slots)?;
        let numbers =
            |of: &mut dyn Iterator<Item = i64>| -> ArrayRef { Arc::new(of.collect::<Int64Array>()) };
        let [counts, _, _] = side.extras();
        if counts {
            columns.push(if side.layout == Layout::Count {
                numbers(&mut slots.iter().map(|s| i64::from(side.rows[*s as usize])))
            } else {
                numbers(&mut ids.iter().map(|id| i64::from(side.count(*id))))
            });
        }
        let all: Vec<usize> = (0..side.store.types().len()).collect();
        columns.extend(side.store.gather(&all, ids)?);
        if let Some(degrees) = &side.degrees {
            columns.push(numbers(&mut ids.iter().map(|id| i64::from(degrees[*id as usize]))));
        }
        if side.expiry.is_some() {
            columns.push(Arc::new(Int64Array::from(side.touched(ids))));
        }
        let rows = anonymous(columns, slots.len())?;
        let groups = directory.key_groups(slots);
        if expires {
            return writer.keyed(table, rows, groups);
        }
        let key: Vec<usize> = (0..directory.types().len()).collect();
        writer.increment(table, rows, groups, &key)
    }
}

/// Reads what [`write_sides`] wrote. `nulls` are the right rows of a null-aware join.
///
/// # Errors
/// Internal for tables of another shape; kernels' errors.
pub(super) fn read_sides<T: AsRef<str>>(
    directory: &mut GroupDirectory,
    sides: &mut [SideState],
    tables: &[T],
    mut nulls: Option<&mut RightRows>,
    reader: &SnapshotReader,
) -> Result<()> {
    let key_types = directory.types().to_vec();
    for (at, table) in tables.iter().enumerate() {
        for batch in reader.table(table.as_ref())? {
            let [counts, degrees, touched] = sides[at].extras();
            let types = sides[at].store.types();
            let width =
                key_types.len() + types.len() + [counts, degrees, touched].iter().filter(|e| **e).count();
            if batch.num_columns() != width {
                return Err(broken());
            }
            let mut rest = batch.columns().iter();
            let keys: Vec<ArrayRef> = rest.by_ref().take(key_types.len()).cloned().collect();
            let counts = counts.then(|| rest.next()).flatten();
            let stored: Vec<ArrayRef> = rest.by_ref().take(types.len()).cloned().collect();
            let fits = keys.iter().zip(&key_types).chain(stored.iter().zip(types));
            if fits.into_iter().any(|(c, t)| c.data_type() != t) {
                return Err(broken());
            }
            let degrees = degrees.then(|| rest.next()).flatten();
            let touched = touched.then(|| rest.next()).flatten();
            let numbers = |c: Option<&'_ ArrayRef>| -> Result<Option<Vec<i64>>> {
                let Some(c) = c else { return Ok(None) };
                let c = c.as_primitive_opt::<Int64Type>().ok_or_else(broken)?;
                Ok(Some(c.values().to_vec()))
            };
            let (counts, degrees, touched) = (numbers(counts)?, numbers(degrees)?, numbers(touched)?);
            let mut slots = Vec::new();
            directory.intern(&keys, batch.num_rows(), &mut slots)?;
            sides.iter_mut().for_each(|s| s.grow_slots(directory.capacity()));
            let is_count = sides[at].layout == Layout::Count;
            if let Some(nulls) = &mut nulls {
                note_restored_nulls(nulls, &keys, &slots, counts.as_deref().filter(|_| is_count));
            }
            if is_count {
                let counts = counts.ok_or_else(broken)?;
                for (slot, count) in slots.iter().zip(counts) {
                    sides[at].restore_count(*slot, count as u32);
                }
            } else {
                sides[at].restore(
                    &stored,
                    &slots,
                    counts.as_deref(),
                    degrees.as_deref(),
                    touched.as_deref(),
                )?;
            }
        }
        sides[at].finish_restore();
    }
    Ok(())
}

/// `counts`: of right rows.
fn note_restored_nulls(right_rows: &mut RightRows, keys: &[ArrayRef], slots: &[u32], counts: Option<&[i64]>) {
    let Some(key) = keys.first() else { return };
    for (row, slot) in slots.iter().enumerate() {
        let is_null = key.is_null(row);
        if is_null {
            right_rows.null_slot = Some(*slot);
        }
        if let Some(counts) = counts {
            right_rows.add(counts[row] as u64, is_null);
        }
    }
}
