//! Aggregates over the ordered multiset of a group's values: MIN and MAX over updating input, COLLECT, PERCENTILE,
//! BITMAP_*_AGG.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int32Array, Int64Array, ListArray, MapArray, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int32Type};
use roaring::RoaringBitmap;

use super::multiset::{End, Multiset};
use super::{Entries, GroupedState, Rows};
use crate::error::{Error, Result};
use crate::functions::aggregate::bitmap::Op;
use crate::functions::aggregate::percentile::interpolate;
use crate::functions::bitmap::{Bitmaps, build};
use crate::types::bitmap_type;

/// What is made of the values.
enum Finish {
    End(End),
    /// The values with their counts, as a map of this type.
    Collect(DataType),
    /// One bitmap of them, or how many are in it.
    Bitmap {
        op: Op,
        counts: bool,
    },
    /// Values at these fractions of the order, as a number or as a list.
    Percentile {
        fractions: Vec<f64>,
        list: bool,
    },
}

pub(super) fn end(ty: &DataType, end: End) -> Option<Box<dyn GroupedState>> {
    let plain = crate::state::ordinal::is_ordinal(ty)
        || matches!(ty, DataType::Decimal128(..) | DataType::Utf8 | DataType::Binary);
    let values = if plain { Multiset::new(ty)? } else { return None };
    Some(Box::new(MultisetState { values, finish: Finish::End(end) }))
}

pub(super) fn collect(ty: &DataType, out: &DataType) -> Option<Box<dyn GroupedState>> {
    let finish = Finish::Collect(out.clone());
    Some(Box::new(MultisetState { values: Multiset::new(ty)?, finish }))
}

pub(super) fn percentile(fractions: Vec<f64>, list: bool) -> Option<Box<dyn GroupedState>> {
    let finish = Finish::Percentile { fractions, list };
    Some(Box::new(MultisetState { values: Multiset::new(&DataType::Float64)?, finish }))
}

pub(super) fn bitmap(op: Op, counts: bool) -> Option<Box<dyn GroupedState>> {
    let ty = if op == Op::Build { DataType::Int32 } else { bitmap_type() };
    Some(Box::new(MultisetState { values: Multiset::new(&ty)?, finish: Finish::Bitmap { op, counts } }))
}

struct MultisetState {
    values: Multiset,
    finish: Finish,
}

impl MultisetState {
    /// The bitmap of each slot; none where there is no value.
    fn bitmaps(&self, slots: &[u32], op: Op) -> Result<Vec<Option<RoaringBitmap>>> {
        let (values, counts, lengths) = self.values.all(slots)?;
        let mut out = Vec::with_capacity(slots.len());
        let mut from = 0;
        if op == Op::Build {
            let values = values.as_primitive::<Int32Type>().values();
            for length in lengths {
                let all = || values[from..from + length].iter().map(|v| *v as u32).collect();
                out.push((length > 0).then(all));
                from += length;
            }
            return Ok(out);
        }
        let bitmaps = Bitmaps::of(&values)?;
        for length in lengths {
            let mut so_far = None;
            for (i, times) in counts.iter().enumerate().skip(from).take(length) {
                if let Some(b) = bitmaps.get(i)? {
                    op.add(&mut so_far, b, *times);
                }
            }
            out.push(so_far);
            from += length;
        }
        Ok(out)
    }
}

impl GroupedState for MultisetState {
    fn resize(&mut self, _slots: usize) {}

    fn update(&mut self, rows: &Rows<'_>, args: &[ArrayRef]) -> Result<()> {
        match (&self.finish, args) {
            (Finish::Bitmap { op: Op::Build, .. }, [arg]) => {
                self.values.update(rows, &cast(arg, &DataType::Int32)?, None)
            }
            (Finish::End(_) | Finish::Collect(_) | Finish::Bitmap { .. }, [arg]) => {
                self.values.update(rows, arg, None)
            }
            (Finish::Percentile { .. }, [arg]) => {
                self.values.update(rows, &cast(arg, &DataType::Float64)?, None)
            }
            (Finish::Percentile { .. }, [arg, times]) => {
                let times = cast(times, &DataType::Int64)?;
                let times: &Int64Array = times.as_primitive();
                let counted = (0..times.len()).map(|i| times.is_valid(i) && times.value(i) > 0);
                let counted: NullBuffer = counted.collect();
                let arg = cast(arg, &DataType::Float64)?;
                let numbers: &Float64Array = arg.as_primitive::<Float64Type>();
                let nulls = NullBuffer::union(numbers.nulls(), Some(&counted));
                let arg: ArrayRef = Arc::new(Float64Array::new(numbers.values().clone(), nulls));
                self.values.update(rows, &arg, Some(times))
            }
            _ => Err(Error::internal("an aggregate over values got other arguments")),
        }
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        match &self.finish {
            Finish::End(end) => self.values.ends(slots, *end),
            Finish::Collect(out) => {
                let (DataType::Map(entry, sorted), (values, counts, lengths)) =
                    (out, self.values.all(slots)?)
                else {
                    return Err(Error::internal("COLLECT gives a multiset"));
                };
                let DataType::Struct(fields) = entry.data_type() else {
                    return Err(Error::internal("a multiset has entries"));
                };
                let counts: ArrayRef =
                    Arc::new(Int32Array::from_iter_values(counts.iter().map(|c| *c as i32)));
                let entries = StructArray::try_new(fields.clone(), vec![values, counts], None)?;
                let offsets = OffsetBuffer::from_lengths(lengths);
                Ok(Arc::new(MapArray::try_new(Arc::clone(entry), offsets, entries, None, *sorted)?))
            }
            Finish::Bitmap { op, counts } => {
                let bitmaps = self.bitmaps(slots, *op)?;
                if *counts {
                    let sizes = bitmaps.iter().map(|b| b.as_ref().map(|b| b.len() as i64));
                    return Ok(Arc::new(sizes.collect::<Int64Array>()));
                }
                build(bitmaps.len(), |i| Ok(bitmaps.get(i).cloned().flatten()))
            }
            Finish::Percentile { fractions, list } => {
                let (values, counts, lengths) = self.values.all(slots)?;
                let values = values.as_primitive::<Float64Type>().values();
                let mut results: Vec<Option<f64>> = Vec::with_capacity(slots.len() * fractions.len());
                let mut from = 0;
                for length in &lengths {
                    let (v, c) = (&values[from..from + length], &counts[from..from + length]);
                    results.extend(fractions.iter().map(|f| interpolate(v, c, *f)));
                    from += length;
                }
                if !list {
                    return Ok(Arc::new(Float64Array::from(results)));
                }
                let nulls: NullBuffer = lengths.iter().map(|n| *n > 0).collect();
                let offsets = OffsetBuffer::from_lengths(lengths.iter().map(|_| fractions.len()));
                let item = Arc::new(Field::new_list_field(DataType::Float64, true));
                let results = Arc::new(Float64Array::from(results));
                Ok(Arc::new(ListArray::try_new(item, offsets, results, Some(nulls))?))
            }
        }
    }

    fn clear(&mut self, slots: &[u32]) {
        self.values.clear(slots);
    }

    fn write(&self, _slots: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(Vec::new())
    }

    fn read(&mut self, _slots: &[u32], _columns: &[ArrayRef]) -> Result<()> {
        Ok(())
    }

    fn write_entries(&self) -> Result<Vec<Entries>> {
        self.values.write_entries()
    }

    fn read_entries(&mut self, entries: &Entries) -> Result<()> {
        self.values.read_entries(entries)
    }

    fn is_extreme(&self) -> bool {
        matches!(self.finish, Finish::End(_))
    }

    fn size(&self) -> usize {
        self.values.size()
    }
}
