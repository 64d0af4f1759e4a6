//! Any other DataFusion aggregate over append-only input.
//!
//! ```text
//!  touched groups' state columns ─► merge ─┐
//!                                          ├─► fresh accumulator ─► state columns ─► new chunk
//!  new rows ──────────────────────► update ┘
//!                                                slot ─► (chunk, row)
//! ```
//!
//! DataFusion's accumulators can only be emptied, so their states rest as Arrow columns and pass through a fresh
//! accumulator for each update and each evaluation. Old rows of chunks are dropped when they are more than half.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::interleave;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::logical_expr::EmitTo;

use super::{GroupedState, Rows};
use crate::error::{Error, Result};
use crate::functions::room::in_parts;
use crate::operators::group_aggregate::AggregateCall;

const NONE: (u32, u32) = (u32::MAX, 0);

pub(super) struct ScratchState {
    call: AggregateCall,
    schema: SchemaRef,
    chunks: Vec<RecordBatch>,
    /// Chunk and row of each slot.
    places: Vec<(u32, u32)>,
    /// Slots that have a state.
    live: usize,
    rows: usize,
}

impl ScratchState {
    pub(super) fn new(call: &AggregateCall) -> Result<Self> {
        let fields: Vec<Field> = call
            .expr
            .state_fields()?
            .iter()
            .enumerate()
            .map(|(i, f)| Field::new(format!("state_{i}"), f.data_type().clone(), true))
            .collect();
        Ok(ScratchState {
            call: call.clone(),
            schema: Arc::new(Schema::new(fields)),
            chunks: Vec::new(),
            places: Vec::new(),
            live: 0,
            rows: 0,
        })
    }

    /// The state columns of those of `slots` that have one, and their positions in `slots`.
    fn stored(&self, slots: &[u32]) -> Result<(Vec<ArrayRef>, Vec<usize>)> {
        let (mut indices, mut positions) = (Vec::new(), Vec::new());
        for (position, slot) in slots.iter().enumerate() {
            let (chunk, row) = self.places[*slot as usize];
            if chunk != NONE.0 {
                indices.push((chunk as usize, row as usize));
                positions.push(position);
            }
        }
        if indices.is_empty() {
            return Ok((Vec::new(), positions));
        }
        let columns = (0..self.schema.fields().len())
            .map(|i| {
                let chunks: Vec<&dyn Array> = self.chunks.iter().map(|c| c.column(i).as_ref()).collect();
                Ok(interleave(&chunks, &indices)?)
            })
            .collect::<Result<_>>()?;
        Ok((columns, positions))
    }

    fn store(&mut self, slots: &[u32], columns: Vec<ArrayRef>) -> Result<()> {
        let options = RecordBatchOptions::new().with_row_count(Some(slots.len()));
        self.chunks.push(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?);
        let chunk = (self.chunks.len() - 1) as u32;
        for (row, slot) in slots.iter().enumerate() {
            let place = &mut self.places[*slot as usize];
            self.live += usize::from(place.0 == NONE.0);
            *place = (chunk, row as u32);
        }
        self.rows += slots.len();
        if self.rows > 1024 && self.rows > self.live * 2 || self.chunks.len() > 1024 {
            self.compact()?;
        }
        Ok(())
    }

    fn compact(&mut self) -> Result<()> {
        let slots: Vec<u32> =
            (0..self.places.len() as u32).filter(|s| self.places[*s as usize].0 != NONE.0).collect();
        let parts = if slots.is_empty() {
            Vec::new()
        } else {
            in_parts(slots.len(), |part| Ok((part.clone(), self.stored(&slots[part])?.0)))?
        };
        self.chunks.clear();
        self.rows = slots.len();
        for (chunk, (part, columns)) in parts.into_iter().enumerate() {
            let options = RecordBatchOptions::new().with_row_count(Some(part.len()));
            self.chunks.push(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?);
            for (row, slot) in slots[part].iter().enumerate() {
                self.places[*slot as usize] = (chunk as u32, row as u32);
            }
        }
        Ok(())
    }
}

impl GroupedState for ScratchState {
    fn resize(&mut self, slots: usize) {
        self.places.resize(slots, NONE);
    }

    fn update(&mut self, rows: &Rows<'_>, args: &[ArrayRef]) -> Result<()> {
        if rows.signs.is_some_and(|s| s.iter().any(|s| *s < 0)) {
            return Err(Error::internal("a value over append-only input was taken back"));
        }
        // Touched slots, and the rows' groups numbered by them.
        let mut touched = rows.slots.to_vec();
        touched.sort_unstable();
        touched.dedup();
        let groups: Vec<usize> =
            rows.slots.iter().map(|s| touched.binary_search(s).unwrap_or_default()).collect();
        let mut accumulator = self.call.accumulator()?;
        let (stored, positions) = self.stored(&touched)?;
        if !positions.is_empty() {
            accumulator.merge_batch(&stored, &positions, None, touched.len())?;
        }
        let filter: Option<&BooleanArray> = rows.filter;
        accumulator.update_batch(args, &groups, filter, touched.len())?;
        let columns = accumulator.state(EmitTo::All)?;
        self.store(&touched, columns)
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        let mut accumulator = self.call.accumulator()?;
        let (stored, positions) = self.stored(slots)?;
        if positions.is_empty() {
            // Groups without rows: the default row of a global aggregate.
            return Ok(self.call.expr.create_accumulator()?.evaluate()?.to_array_of_size(slots.len())?);
        }
        accumulator.merge_batch(&stored, &positions, None, slots.len())?;
        Ok(accumulator.evaluate(EmitTo::All)?)
    }

    fn clear(&mut self, slots: &[u32]) {
        for slot in slots {
            let place = &mut self.places[*slot as usize];
            self.live -= usize::from(place.0 != NONE.0);
            *place = NONE;
        }
    }

    fn write(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let (columns, positions) = self.stored(slots)?;
        if positions.len() < slots.len() {
            return Err(Error::internal("an aggregate was asked for a group it does not know"));
        }
        if slots.is_empty() {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.schema)).columns().to_vec());
        }
        Ok(columns)
    }

    fn read(&mut self, slots: &[u32], columns: &[ArrayRef]) -> Result<()> {
        self.store(slots, columns.to_vec())
    }

    fn size(&self) -> usize {
        self.places.capacity() * 8 + self.chunks.iter().map(RecordBatch::get_array_memory_size).sum::<usize>()
    }
}
