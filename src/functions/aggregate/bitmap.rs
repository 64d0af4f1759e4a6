//! `BITMAP_BUILD_AGG(i)`, `BITMAP_AND_AGG(b)`, `BITMAP_OR_AGG(b)`, `BITMAP_XOR_AGG(b)`, and how many are in their results,
//! `BITMAP_…_CARDINALITY_AGG`. NULLs are ignored.
//!
//! State: the bitmap so far.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int32Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::Accumulator;
use roaring::RoaringBitmap;

use super::first;
use crate::error::Result;
use crate::functions::bitmap::{Bitmaps, build};
use crate::types::{bitmap_type, is_bitmap};

/// How bitmaps become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    /// From integers.
    Build,
    And,
    Or,
    Xor,
}

impl Op {
    /// The aggregate of that name, and whether it counts.
    pub(crate) fn of(name: &str) -> Option<(Op, bool)> {
        let rest = name.strip_prefix("bitmap_")?;
        let (op, counts) = match rest.strip_suffix("_cardinality_agg") {
            Some(op) => (op, true),
            None => (rest.strip_suffix("_agg")?, false),
        };
        let op = match op {
            "build" => Op::Build,
            "and" => Op::And,
            "or" => Op::Or,
            "xor" => Op::Xor,
            _ => return None,
        };
        Some((op, counts))
    }

    /// Whether it takes arguments of that type.
    pub(super) fn takes(self, t: &DataType) -> bool {
        match self {
            Op::Build => matches!(t, DataType::Int8 | DataType::Int16 | DataType::Int32),
            _ => is_bitmap(t),
        }
    }

    /// Adds a bitmap, `times` of them.
    pub(crate) fn add(self, so_far: &mut Option<RoaringBitmap>, other: RoaringBitmap, times: i64) {
        match (so_far.as_mut(), self) {
            (_, Op::Xor) if times % 2 == 0 => {
                so_far.get_or_insert_with(RoaringBitmap::new);
            }
            (None, _) => *so_far = Some(other),
            (Some(b), Op::And) => *b &= other,
            (Some(b), Op::Xor) => *b ^= other,
            (Some(b), Op::Or | Op::Build) => *b |= other,
        }
    }
}

/// The result type.
pub(super) fn result_type(counts: bool) -> DataType {
    if counts { DataType::Int64 } else { bitmap_type() }
}

/// See the module.
#[derive(Debug)]
pub(super) struct BitmapAggregate {
    op: Op,
    counts: bool,
    so_far: Option<RoaringBitmap>,
}

impl BitmapAggregate {
    pub(super) fn new(op: Op, counts: bool) -> Self {
        BitmapAggregate { op, counts, so_far: None }
    }

    fn add_bitmaps(&mut self, a: &ArrayRef) -> Result<()> {
        let bitmaps = Bitmaps::of(a)?;
        for i in 0..a.len() {
            if let Some(b) = bitmaps.get(i)? {
                self.op.add(&mut self.so_far, b, 1);
            }
        }
        Ok(())
    }
}

/// One bitmap as a value.
fn scalar(bitmap: Option<&RoaringBitmap>) -> DfResult<ScalarValue> {
    ScalarValue::try_from_array(&build(1, |_| Ok(bitmap.cloned()))?, 0)
}

impl Accumulator for BitmapAggregate {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let a = first(values)?;
        if self.op != Op::Build {
            return Ok(self.add_bitmaps(a)?);
        }
        let ints = arrow::compute::cast(a, &DataType::Int32)?;
        if ints.null_count() < ints.len() {
            let bitmap = self.so_far.get_or_insert_with(RoaringBitmap::new);
            bitmap.extend(ints.as_primitive::<Int32Type>().iter().flatten().map(|v| v as u32));
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        Ok(self.add_bitmaps(first(states)?)?)
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        if self.counts {
            return Ok(ScalarValue::Int64(self.so_far.as_ref().map(|b| b.len() as i64)));
        }
        scalar(self.so_far.as_ref())
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        Ok(vec![scalar(self.so_far.as_ref())?])
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.so_far.as_ref().map_or(0, RoaringBitmap::serialized_size)
    }
}
