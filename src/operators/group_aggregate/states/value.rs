//! One value per group over append-only input: MIN, MAX, FIRST_VALUE, LAST_VALUE. NULLs are skipped.
//!
//! Fixed-width values are kept as ordinals, decimals as they are, strings and binaries as bytes. For FIRST_VALUE and
//! LAST_VALUE any other type is kept as an arrow-row encoding (in memory only; snapshots get typed columns).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, Decimal128Array, StringBuilder, new_null_array};
use arrow::datatypes::{DataType, Decimal128Type};
use arrow::row::{RowConverter, SortField};

use super::{GroupedState, Rows};
use crate::error::{Error, Result};
use crate::functions::room::{append, check_column};
use crate::state::ordinal::{from_ordinals, is_ordinal, to_exact_ordinals};

/// Which value stays.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Least,
    Greatest,
    First,
    Last,
}

impl Keep {
    #[inline]
    fn replaces<T: Ord + ?Sized>(self, new: &T, old: &T) -> bool {
        match self {
            Keep::Least => new < old,
            Keep::Greatest => new > old,
            Keep::First => false,
            Keep::Last => true,
        }
    }
}

pub(super) fn build(ty: &DataType, keep: Keep) -> Option<Box<dyn GroupedState>> {
    let values = match ty {
        ty if is_ordinal(ty) => Values::Ordinals { values: Vec::new(), scratch: Vec::new() },
        DataType::Decimal128(..) => Values::Decimals(Vec::new()),
        DataType::Utf8 | DataType::Binary => Values::Bytes(Vec::new()),
        other if matches!(keep, Keep::First | Keep::Last) => {
            let fields = vec![SortField::new(other.clone())];
            if !RowConverter::supports_fields(&fields) {
                return None;
            }
            Values::Encoded { values: Vec::new(), converter: RowConverter::new(fields).ok()? }
        }
        _ => return None,
    };
    Some(Box::new(ValueState { ty: ty.clone(), keep, values, heap: 0 }))
}

enum Values {
    Ordinals { values: Vec<Option<i64>>, scratch: Vec<i64> },
    Decimals(Vec<Option<i128>>),
    Bytes(Vec<Option<Vec<u8>>>),
    Encoded { values: Vec<Option<Vec<u8>>>, converter: RowConverter },
}

struct ValueState {
    ty: DataType,
    keep: Keep,
    values: Values,
    /// Bytes of the values that have a buffer of their own.
    heap: usize,
}

#[inline]
fn keep_bytes(keep: Keep, place: &mut Option<Vec<u8>>, new: &[u8], heap: &mut usize) {
    match place {
        None => *heap += place.insert(new.to_vec()).capacity(),
        Some(old) => {
            if keep.replaces(new, old.as_slice()) {
                *heap -= old.capacity();
                old.clear();
                old.extend_from_slice(new);
                *heap += old.capacity();
            }
        }
    }
}

#[inline]
fn keep_value<T: Ord + Copy>(keep: Keep, place: &mut Option<T>, new: T) {
    if place.is_none_or(|old| keep.replaces(&new, &old)) {
        *place = Some(new);
    }
}

impl GroupedState for ValueState {
    fn resize(&mut self, slots: usize) {
        match &mut self.values {
            Values::Ordinals { values, .. } => values.resize(slots, None),
            Values::Decimals(values) => values.resize(slots, None),
            Values::Bytes(values) | Values::Encoded { values, .. } => values.resize(slots, None),
        }
    }

    fn update(&mut self, rows: &Rows<'_>, args: &[ArrayRef]) -> Result<()> {
        let [arg] = args else { return Err(Error::internal("MIN, MAX, FIRST and LAST take one value")) };
        if rows.signs.is_some_and(|s| s.iter().any(|s| *s < 0)) {
            return Err(Error::internal("a value over append-only input was taken back"));
        }
        let (keep, heap) = (self.keep, &mut self.heap);
        match &mut self.values {
            Values::Ordinals { values, scratch } => {
                to_exact_ordinals(arg, scratch)?;
                rows.each(arg.nulls(), |row, slot, _| keep_value(keep, &mut values[slot], scratch[row]));
            }
            Values::Decimals(values) => {
                let new = arg.as_primitive::<Decimal128Type>().values();
                rows.each(arg.nulls(), |row, slot, _| keep_value(keep, &mut values[slot], new[row]));
            }
            Values::Bytes(values) => {
                if *arg.data_type() == DataType::Utf8 {
                    let new = arg.as_string::<i32>();
                    rows.each(arg.nulls(), |row, slot, _| {
                        keep_bytes(keep, &mut values[slot], new.value(row).as_bytes(), heap);
                    });
                } else {
                    let new = arg.as_binary::<i32>();
                    rows.each(arg.nulls(), |row, slot, _| {
                        keep_bytes(keep, &mut values[slot], new.value(row), heap);
                    });
                }
            }
            Values::Encoded { values, converter } => {
                let new = converter.convert_columns(std::slice::from_ref(arg))?;
                rows.each(arg.nulls(), |row, slot, _| {
                    keep_bytes(keep, &mut values[slot], new.row(row).data(), heap);
                });
            }
        }
        Ok(())
    }

    fn running(&mut self, rows: &Rows<'_>, args: &[ArrayRef], ends: &[usize]) -> Result<ArrayRef> {
        let ([arg], Values::Ordinals { values, scratch }) = (args, &mut self.values) else {
            return self.step_by_step(rows, args, ends);
        };
        to_exact_ordinals(arg, scratch)?;
        let keep = self.keep;
        let (mut results, mut known) = (Vec::with_capacity(ends.len()), Vec::with_capacity(ends.len()));
        let add = |values: &mut Vec<Option<i64>>, row: usize, slot: usize, _| {
            keep_value(keep, &mut values[slot], scratch[row]);
        };
        rows.run(values, arg.nulls(), ends, add, |values, slot| {
            results.push(values[slot].unwrap_or(0));
            known.push(values[slot].is_some());
        });
        from_ordinals(&self.ty, results, Some(known.into()))
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        Ok(match &self.values {
            Values::Ordinals { values, .. } => {
                let nulls = slots.iter().map(|s| values[*s as usize].is_some()).collect();
                let values = slots.iter().map(|s| values[*s as usize].unwrap_or(0)).collect();
                from_ordinals(&self.ty, values, Some(nulls))?
            }
            Values::Decimals(values) => {
                let array: Decimal128Array = slots.iter().map(|s| values[*s as usize]).collect();
                Arc::new(array.with_data_type(self.ty.clone()))
            }
            Values::Bytes(values) => {
                bytes_array(&self.ty, slots.iter().map(|s| values[*s as usize].as_deref()))?
            }
            Values::Encoded { values, converter } => {
                // Encoded values are longer than the values.
                check_column(slots.iter().flat_map(|s| &values[*s as usize]).map(Vec::len).sum())?;
                let parser = converter.parser();
                let null = converter.convert_columns(&[new_null_array(&self.ty, 1)])?;
                let rows = slots.iter().map(|s| match &values[*s as usize] {
                    Some(bytes) => parser.parse(bytes),
                    None => null.row(0),
                });
                let mut columns = converter.convert_rows(rows)?;
                columns.pop().ok_or_else(|| Error::internal("a value column got lost"))?
            }
        })
    }

    fn clear(&mut self, slots: &[u32]) {
        for s in slots.iter().map(|s| *s as usize) {
            match &mut self.values {
                Values::Ordinals { values, .. } => values[s] = None,
                Values::Decimals(values) => values[s] = None,
                Values::Bytes(values) | Values::Encoded { values, .. } => {
                    self.heap -= values[s].take().map_or(0, |v| v.capacity());
                }
            }
        }
    }

    fn write(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(slots)?])
    }

    fn read(&mut self, slots: &[u32], columns: &[ArrayRef]) -> Result<()> {
        if columns.first().is_none_or(|c| c.data_type() != &self.ty) {
            return Err(Error::internal("the state of an aggregate has other columns than it should"));
        }
        // Into cleared slots every policy keeps what comes.
        self.update(&Rows { slots, signs: None, filter: None }, columns)
    }

    fn merges(&self) -> bool {
        // The first and the last of all subtasks depend on who sends when.
        matches!(self.keep, Keep::Least | Keep::Greatest)
    }

    fn merge(&mut self, slots: &[u32], columns: &[ArrayRef]) -> Result<()> {
        self.update(&Rows { slots, signs: None, filter: None }, columns)
    }

    fn size(&self) -> usize {
        match &self.values {
            Values::Ordinals { values, scratch } => values.capacity() * 16 + scratch.capacity() * 8,
            Values::Decimals(values) => values.capacity() * size_of::<Option<i128>>(),
            Values::Bytes(values) | Values::Encoded { values, .. } => {
                values.capacity() * size_of::<Option<Vec<u8>>>() + self.heap
            }
        }
    }
}

/// A string or binary array of type `ty`.
pub(super) fn bytes_array<'a>(
    ty: &DataType,
    values: impl Iterator<Item = Option<&'a [u8]>>,
) -> Result<ArrayRef> {
    Ok(if *ty == DataType::Utf8 {
        let mut b = StringBuilder::new();
        for v in values {
            match v.map(std::str::from_utf8).transpose().map_err(|e| Error::internal(e.to_string()))? {
                Some(text) => append(&mut b, text)?,
                None => b.append_null(),
            }
        }
        Arc::new(b.finish())
    } else {
        let mut b = BinaryBuilder::new();
        for v in values {
            match v {
                Some(bytes) => append(&mut b, bytes)?,
                None => b.append_null(),
            }
        }
        Arc::new(b.finish())
    })
}
