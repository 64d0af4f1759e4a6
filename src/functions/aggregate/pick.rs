//! `FIRST_VALUE` and `LAST_VALUE` in order of arrival; NULLs are skipped.
//!
//! State per group: one value of any type. Chosen rows are copied out of each batch into chunks, a group points at
//! its row, and chunks are merged when more than half of their rows are no longer pointed at.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array, new_null_array};
use arrow::compute::{interleave, take};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

use super::{first, for_each_valid, masked};
use crate::error::Result;
use crate::stream::BATCH_ROWS;

/// Chunk 0 is a single NULL: where groups without a value point.
const NOTHING: (usize, usize) = (0, 0);

#[derive(Debug)]
pub(super) struct PickGroups {
    last: bool,
    chunks: Vec<ArrayRef>,
    rows: usize,
    groups: Vec<(usize, usize)>,
}

impl PickGroups {
    pub(super) fn new(last: bool, ty: DataType) -> Self {
        PickGroups { last, chunks: vec![new_null_array(&ty, 1)], rows: 0, groups: Vec::new() }
    }

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

impl GroupsAccumulator for PickGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> DfResult<()> {
        let a = first(values)?;
        self.groups.resize(total, NOTHING);
        let chunk = self.chunks.len();
        let (last, groups) = (self.last, self.groups.as_mut_slice());
        let mut chosen: Vec<u32> = Vec::new();
        let nulls = a.logical_nulls();
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
        self.chunks.push(take(a, &UInt32Array::from(chosen), None)?);
        if self.rows > 2 * self.groups.len() + BATCH_ROWS || self.chunks.len() > 512 {
            self.compact()?;
        }
        Ok(())
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> DfResult<()> {
        self.update_batch(values, group_indices, filter, total)
    }

    fn evaluate(&mut self, emit: EmitTo) -> DfResult<ArrayRef> {
        let pointers = emit.take_needed(&mut self.groups);
        let out = self.gather(&pointers)?;
        if self.groups.is_empty() {
            self.chunks.truncate(1);
            self.rows = 0;
        }
        Ok(out)
    }

    fn state(&mut self, emit: EmitTo) -> DfResult<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit)?])
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> DfResult<Vec<ArrayRef>> {
        Ok(vec![masked(first(values)?, filter)?])
    }

    fn supports_convert_to_state(&self) -> bool {
        true
    }

    fn size(&self) -> usize {
        self.groups.capacity() * size_of::<(usize, usize)>()
            + self.chunks.iter().map(|c| c.get_array_memory_size()).sum::<usize>()
    }
}

pub(super) fn accumulator(last: bool, ty: &DataType) -> Result<Box<dyn Accumulator>> {
    Ok(Box::new(PickOne { last, value: ScalarValue::try_from(ty)? }))
}

#[derive(Debug)]
struct PickOne {
    last: bool,
    value: ScalarValue,
}

impl Accumulator for PickOne {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let a = Arc::clone(first(values)?);
        if !self.last && !self.value.is_null() {
            return Ok(());
        }
        let row = if self.last {
            (0..a.len()).rev().find(|i| a.is_valid(*i))
        } else {
            (0..a.len()).find(|i| a.is_valid(*i))
        };
        if let Some(row) = row {
            self.value = ScalarValue::try_from_array(&a, row)?;
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        self.update_batch(states)
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        Ok(self.value.clone())
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        Ok(vec![self.value.clone()])
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.value.size()
    }
}
