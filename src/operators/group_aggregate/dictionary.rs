//! Values of any type as numbers, each kept once for all groups, with a count of who uses them.

use std::ops::Range;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use crate::error::Result;
use crate::operators::keyed_rows::PART_ROWS;
use crate::state::GroupDirectory;

/// Cuts numbers of values into runs whose values make a batch.
pub(super) fn parts(dictionary: Option<&Dictionary>, numbers: &[i64]) -> Vec<Range<usize>> {
    match dictionary {
        Some(d) => d.values.cut(&numbers.iter().map(|n| *n as u32).collect::<Vec<_>>(), PART_ROWS),
        None => (0..numbers.len())
            .step_by(PART_ROWS)
            .map(|from| from..numbers.len().min(from + PART_ROWS))
            .collect(),
    }
}

/// See the module.
pub(super) struct Dictionary {
    pub(super) values: GroupDirectory,
    /// Uses by value.
    uses: Vec<u32>,
    /// Numbers of the rows at hand.
    pub(super) rows: Vec<u32>,
    /// Values that may be unused. They go when the batch is done: its later rows may name them.
    idle: Vec<u32>,
}

impl Dictionary {
    /// For values of several columns.
    pub(super) fn new(types: &[DataType]) -> Result<Self> {
        Ok(Dictionary {
            values: GroupDirectory::new(types)?,
            uses: Vec::new(),
            rows: Vec::new(),
            idle: Vec::new(),
        })
    }

    /// Writes the number of each row's value to `rows`.
    pub(super) fn intern(&mut self, columns: &[ArrayRef], rows: usize) -> Result<()> {
        self.values.intern(columns, rows, &mut self.rows)?;
        self.uses.resize(self.values.capacity(), 0);
        Ok(())
    }

    /// The values of these numbers.
    pub(super) fn values(&self, numbers: &[u32]) -> Result<Vec<ArrayRef>> {
        self.values.keys(numbers)
    }

    /// One more use.
    pub(super) fn hold(&mut self, value: i64) {
        self.uses[value as usize] += 1;
    }

    /// One use less.
    pub(super) fn release(&mut self, value: i64) {
        let uses = &mut self.uses[value as usize];
        *uses -= 1;
        if *uses == 0 {
            self.idle.push(value as u32);
        }
    }

    /// A value that a row named and nobody may have kept.
    pub(super) fn passed_by(&mut self, value: u32) {
        self.idle.push(value);
    }

    /// Forgets unused values.
    pub(super) fn sweep(&mut self) {
        if self.idle.is_empty() {
            return;
        }
        self.idle.sort_unstable();
        self.idle.dedup();
        self.idle.retain(|v| self.uses[*v as usize] == 0);
        self.values.remove(&self.idle);
        self.idle.clear();
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        self.values.size() + (self.uses.capacity() + self.rows.capacity()) * 4
    }
}
