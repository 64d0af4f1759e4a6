//! Which keys have changed since the last snapshot, so that the next one need not write the others.
//!
//! ```text
//!  intern, touch ─► marked ─┐
//!  remove ─► its key is kept ┴─► next snapshot: rows of marked keys; keys that have no rows any more are void
//! ```
//!
//! Nothing is kept before a snapshot asks for it, so that jobs without checkpoints pay nothing.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema};

use super::GroupDirectory;
use crate::error::{Error, Result};
use crate::state::key::key_groups;
use crate::stream::snapshot::{SnapshotMode, SnapshotWriter};

/// Keys of one batch of a snapshot.
const PART_ROWS: usize = 32_768;

/// What has changed since the last snapshot.
#[derive(Default)]
pub(super) struct Changes {
    /// By slot.
    marks: Vec<bool>,
    slots: Vec<u32>,
    /// Keys that were removed.
    gone: Vec<Vec<ArrayRef>>,
    /// What prevented keys from being kept.
    failure: Option<Error>,
}

impl Changes {
    pub(super) fn touch(&mut self, slots: &[u32]) {
        for slot in slots {
            let at = *slot as usize;
            if at >= self.marks.len() {
                self.marks.resize((at + 1).next_power_of_two(), false);
            }
            if !std::mem::replace(&mut self.marks[at], true) {
                self.slots.push(*slot);
            }
        }
    }

    pub(super) fn size(&self) -> usize {
        let gone = self.gone.iter().flatten().map(|c| c.get_array_memory_size()).sum::<usize>();
        self.marks.capacity() + self.slots.capacity() * 4 + gone
    }
}

/// What a snapshot writes of a directory's keys.
pub struct Written {
    /// Slots: all, or those whose keys have changed; ascending.
    pub slots: Vec<u32>,
    /// Keys that were removed since the last snapshot.
    gone: Vec<Vec<ArrayRef>>,
    /// Whether these are the changes alone.
    pub is_changes: bool,
}

impl GroupDirectory {
    /// Notes that the state of some keys changes. Interning does it by itself.
    pub fn touch(&mut self, slots: &[u32]) {
        if let Some(changes) = &mut self.changes {
            changes.touch(slots);
        }
    }

    /// Keeps the keys of slots that are about to be removed.
    pub(super) fn keep_gone(&mut self, slots: &[u32]) {
        let Some(mut changes) = self.changes.take() else { return };
        for run in self.cut(slots, PART_ROWS) {
            match self.keys(&slots[run]) {
                Ok(keys) => changes.gone.push(keys),
                Err(e) => changes.failure = Some(e),
            }
        }
        for slot in slots {
            if let Some(mark) = changes.marks.get_mut(*slot as usize) {
                *mark = false;
            }
        }
        self.changes = Some(changes);
    }

    /// What a snapshot of this kind has to write. After one that others follow, changes are noted.
    ///
    /// # Errors
    /// Internal if changes are asked for that nobody has noted.
    pub fn to_write(&mut self, mode: SnapshotMode) -> Result<Written> {
        if mode != SnapshotMode::Changes {
            if mode == SnapshotMode::First {
                self.changes = Some(Changes::default());
            }
            return Ok(Written { slots: self.slots(), gone: Vec::new(), is_changes: false });
        }
        let Changes { mut marks, slots, gone, failure } =
            self.changes.take().ok_or_else(|| Error::internal("changes of a directory were not noted"))?;
        if let Some(e) = failure {
            return Err(e);
        }
        // A slot that was given back and out again comes twice.
        let mut changed = Vec::with_capacity(slots.len());
        for slot in slots {
            if std::mem::replace(&mut marks[slot as usize], false) {
                changed.push(slot);
            }
        }
        changed.sort_unstable();
        self.changes = Some(Changes { marks, ..Changes::default() });
        Ok(Written { slots: changed, gone, is_changes: true })
    }

    /// Says of a table what earlier snapshots hold in vain: keys that were removed, and those that have changed and have no
    /// rows in it. `key` are its columns with the key, of which the first `hashed` decide on the key group.
    ///
    /// # Errors
    /// From Arrow.
    pub fn void(
        &self,
        writer: &mut SnapshotWriter,
        table: &str,
        (key, hashed): (&[usize], usize),
        written: &Written,
        has_rows: impl Fn(u32) -> bool,
    ) -> Result<()> {
        if !written.is_changes {
            return Ok(());
        }
        let empty: Vec<u32> = written.slots.iter().copied().filter(|slot| !has_rows(*slot)).collect();
        let mut all = written.gone.clone();
        for run in self.cut(&empty, PART_ROWS) {
            all.push(self.keys(&empty[run])?);
        }
        for keys in all {
            // Without key columns there is one key.
            let rows = keys.first().map_or(1, |c| c.len());
            let groups = key_groups(&keys[..hashed], rows)?;
            writer.void(table, anonymous(keys, rows)?, groups, key)?;
        }
        Ok(())
    }
}

/// Columns of a state table, which are known by their place.
///
/// # Errors
/// From Arrow, if their lengths differ.
pub fn anonymous(columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let field = |(i, c): (usize, &ArrayRef)| Field::new(format!("c{i}"), c.data_type().clone(), true);
    let fields: Vec<Field> = columns.iter().enumerate().map(field).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
}
