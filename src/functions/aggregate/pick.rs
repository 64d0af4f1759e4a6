//! `FIRST_VALUE` and `LAST_VALUE` in order of arrival; NULLs are skipped.
//!
//! State per group: one value of any type. Chosen rows are copied out of each batch into chunks, a group points at
//! its row, and chunks are merged when more than half of their rows are no longer pointed at.

use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array, new_null_array};
use arrow::compute::{interleave, take};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

use super::for_each_valid;
use super::value::{GroupValues, Value, ValueGroups, ValueOne};
use crate::error::Result;
use crate::stream::BATCH_ROWS;

/// Chunk 0 is a single NULL: where groups without a value point.
const NOTHING: (usize, usize) = (0, 0);

#[derive(Debug)]
struct PickGroups {
    last: bool,
    chunks: Vec<ArrayRef>,
    rows: usize,
    groups: Vec<(usize, usize)>,
}

impl PickGroups {
    fn gather(&self, pointers: &[(usize, usize)]) -> DfResult<ArrayRef> {
        let chunks: Vec<&dyn Array> = self.chunks.iter().map(|c| c.as_ref()).collect();
        Ok(interleave(&chunks, pointers)?)
    }

    fn compact(&mut self) -> DfResult<()> {
        let live: Vec<usize> =
            self.groups.iter().enumerate().filter(|(_, p)| **p != NOTHING).map(|(g, _)| g).collect();
        let pointers: Vec<(usize, usize)> = live.iter().map(|g| self.groups[*g]).collect();
        let merged = self.gather(&pointers)?;
        self.chunks.truncate(1);
        self.chunks.push(merged);
        self.rows = live.len();
        for (row, g) in live.into_iter().enumerate() {
            self.groups[g] = (1, row);
        }
        Ok(())
    }
}

impl GroupValues for PickGroups {
    fn add(
        &mut self,
        values: &ArrayRef,
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> DfResult<()> {
        self.groups.resize(total, NOTHING);
        let chunk = self.chunks.len();
        let (last, groups) = (self.last, self.groups.as_mut_slice());
        let mut chosen: Vec<u32> = Vec::new();
        let nulls = values.logical_nulls();
        for_each_valid(group_indices, nulls.as_ref(), filter, |g, row| {
            let p = groups[g];
            if p.0 == chunk {
                if last {
                    chosen[p.1] = row as u32;
                }
            } else if last || p == NOTHING {
                groups[g] = (chunk, chosen.len());
                chosen.push(row as u32);
            }
        });
        if chosen.is_empty() {
            return Ok(());
        }
        self.rows += chosen.len();
        self.chunks.push(take(values, &UInt32Array::from(chosen), None)?);
        if self.rows > 2 * self.groups.len() + BATCH_ROWS || self.chunks.len() > 512 {
            self.compact()?;
        }
        Ok(())
    }

    fn take(&mut self, emit: EmitTo) -> DfResult<ArrayRef> {
        let pointers = emit.take_needed(&mut self.groups);
        let out = self.gather(&pointers)?;
        if self.groups.is_empty() {
            self.chunks.truncate(1);
            self.rows = 0;
        }
        Ok(out)
    }

    fn size(&self) -> usize {
        self.groups.capacity() * size_of::<(usize, usize)>()
            + self.chunks.iter().map(|c| c.get_array_memory_size()).sum::<usize>()
    }
}

pub(super) fn groups(last: bool, ty: &DataType) -> Box<dyn GroupsAccumulator> {
    let chunks = vec![new_null_array(ty, 1)];
    Box::new(ValueGroups(PickGroups { last, chunks, rows: 0, groups: Vec::new() }))
}

pub(super) fn accumulator(last: bool, ty: &DataType) -> Result<Box<dyn Accumulator>> {
    Ok(Box::new(ValueOne(PickOne { last, value: ScalarValue::try_from(ty)? })))
}

#[derive(Debug)]
struct PickOne {
    last: bool,
    value: ScalarValue,
}

impl Value for PickOne {
    fn add(&mut self, values: &ArrayRef) -> DfResult<()> {
        if !self.last && !self.value.is_null() {
            return Ok(());
        }
        let row = if self.last {
            (0..values.len()).rev().find(|i| values.is_valid(*i))
        } else {
            (0..values.len()).find(|i| values.is_valid(*i))
        };
        if let Some(row) = row {
            self.value = ScalarValue::try_from_array(values, row)?;
        }
        Ok(())
    }

    fn get(&self) -> ScalarValue {
        self.value.clone()
    }

    fn heap_size(&self) -> usize {
        self.value.size()
    }
}
