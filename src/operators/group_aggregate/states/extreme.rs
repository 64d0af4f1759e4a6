//! MIN and MAX over updating input: every value with its count, in one ordered map keyed (slot, value).
//!
//! One map for all groups rather than a map per group: a group of one value costs one entry. A value taken back
//! before it came (two changes that overtook each other) has a negative count until it does and is never shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Int64Array};
use arrow::datatypes::{DataType, Decimal128Type};

use super::value::bytes_array;
use super::{Entries, GroupedState, Rows, column};
use crate::error::{Error, Result};
use crate::state::ordinal::{from_ordinals, is_ordinal, to_exact_ordinals};

/// Which end of the values is the result.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Least,
    Greatest,
}

pub(super) fn build(ty: &DataType, end: End) -> Option<Box<dyn GroupedState>> {
    let values = match ty {
        ty if is_ordinal(ty) => Values::Ordinals(Multiset::default()),
        DataType::Decimal128(..) => Values::Decimals(Multiset::default()),
        DataType::Utf8 | DataType::Binary => Values::Bytes(Multiset::default()),
        _ => return None,
    };
    Some(Box::new(ExtremeState { ty: ty.clone(), end, values }))
}

struct ExtremeState {
    ty: DataType,
    end: End,
    values: Values,
}

enum Values {
    Ordinals(Multiset<i64>),
    Decimals(Multiset<i128>),
    Bytes(Multiset<Vec<u8>>),
}

macro_rules! each_kind {
    ($values:expr, $m:ident => $body:expr) => {
        match $values {
            Values::Ordinals($m) => $body,
            Values::Decimals($m) => $body,
            Values::Bytes($m) => $body,
        }
    };
}

struct Multiset<T> {
    counts: BTreeMap<(u32, T), i64>,
}

impl<T> Default for Multiset<T> {
    fn default() -> Self {
        Multiset { counts: BTreeMap::new() }
    }
}

impl<T: Ord + Clone + Least> Multiset<T> {
    fn add(&mut self, slot: u32, value: T, by: i64) {
        use std::collections::btree_map::Entry;
        match self.counts.entry((slot, value)) {
            Entry::Vacant(e) => {
                e.insert(by);
            }
            Entry::Occupied(mut e) => {
                *e.get_mut() += by;
                if *e.get() == 0 {
                    e.remove();
                }
            }
        }
    }

    fn of_slot(&self, slot: u32) -> impl DoubleEndedIterator<Item = (&T, i64)> {
        // Up to the next slot's least value: there is no greatest string.
        let from = (slot, T::least());
        let range = match slot.checked_add(1) {
            Some(next) => self.counts.range(from..(next, T::least())),
            None => self.counts.range(from..),
        };
        range.map(|((_, value), count)| (value, *count))
    }

    fn extreme(&self, slot: u32, end: End) -> Option<&T> {
        let mut present = self.of_slot(slot).filter(|(_, count)| *count > 0).map(|(value, _)| value);
        match end {
            End::Least => present.next(),
            End::Greatest => present.next_back(),
        }
    }

    fn clear(&mut self, slot: u32) {
        let values: Vec<T> = self.of_slot(slot).map(|(value, _)| value.clone()).collect();
        for value in values {
            self.counts.remove(&(slot, value));
        }
    }
}

/// The least value of a type.
trait Least {
    fn least() -> Self;
}

impl Least for i64 {
    fn least() -> Self {
        i64::MIN
    }
}

impl Least for i128 {
    fn least() -> Self {
        i128::MIN
    }
}

impl Least for Vec<u8> {
    fn least() -> Self {
        Vec::new()
    }
}

impl ExtremeState {
    fn add(&mut self, arg: &ArrayRef, mut each: impl FnMut(&mut dyn FnMut(usize, usize, i64))) -> Result<()> {
        match &mut self.values {
            Values::Ordinals(m) => {
                let mut values = Vec::new();
                to_exact_ordinals(arg, &mut values)?;
                each(&mut |row, slot, by| m.add(slot as u32, values[row], by));
            }
            Values::Decimals(m) => {
                let values = arg.as_primitive::<Decimal128Type>();
                each(&mut |row, slot, by| m.add(slot as u32, values.value(row), by));
            }
            Values::Bytes(m) if self.ty == DataType::Utf8 => {
                let values = arg.as_string::<i32>();
                each(&mut |row, slot, by| m.add(slot as u32, values.value(row).as_bytes().to_vec(), by));
            }
            Values::Bytes(m) => {
                let values = arg.as_binary::<i32>();
                each(&mut |row, slot, by| m.add(slot as u32, values.value(row).to_vec(), by));
            }
        }
        Ok(())
    }
}

impl GroupedState for ExtremeState {
    fn resize(&mut self, _slots: usize) {}

    fn update(&mut self, rows: &Rows<'_>, args: &[ArrayRef]) -> Result<()> {
        let [arg] = args else { return Err(Error::internal("MIN and MAX take one value")) };
        self.add(arg, |f| rows.each(arg.nulls(), f))
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        let end = self.end;
        Ok(match &self.values {
            Values::Ordinals(m) => {
                let found: Vec<Option<i64>> = slots.iter().map(|s| m.extreme(*s, end).copied()).collect();
                let nulls = found.iter().map(Option::is_some).collect();
                from_ordinals(&self.ty, found.iter().map(|v| v.unwrap_or(0)).collect(), Some(nulls))?
            }
            Values::Decimals(m) => {
                let array: Decimal128Array = slots.iter().map(|s| m.extreme(*s, end).copied()).collect();
                Arc::new(array.with_data_type(self.ty.clone()))
            }
            Values::Bytes(m) => {
                bytes_array(&self.ty, slots.iter().map(|s| m.extreme(*s, end).map(Vec::as_slice)))?
            }
        })
    }

    fn clear(&mut self, slots: &[u32]) {
        for slot in slots {
            each_kind!(&mut self.values, m => m.clear(*slot));
        }
    }

    fn write(&self, _slots: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(Vec::new())
    }

    fn read(&mut self, _slots: &[u32], _columns: &[ArrayRef]) -> Result<()> {
        Ok(())
    }

    fn write_entries(&self) -> Result<Option<Entries>> {
        let slots = each_kind!(&self.values, m => m.counts.keys().map(|(slot, _)| *slot).collect());
        let counts: Int64Array = each_kind!(&self.values, m => m.counts.values().copied().collect());
        let values = match &self.values {
            Values::Ordinals(m) => {
                from_ordinals(&self.ty, m.counts.keys().map(|(_, value)| *value).collect(), None)?
            }
            Values::Decimals(m) => {
                let array = Decimal128Array::from_iter_values(m.counts.keys().map(|(_, value)| *value));
                Arc::new(array.with_data_type(self.ty.clone()))
            }
            Values::Bytes(m) => {
                bytes_array(&self.ty, m.counts.keys().map(|(_, value)| Some(value.as_slice())))?
            }
        };
        Ok(Some(Entries { slots, columns: vec![values, Arc::new(counts)] }))
    }

    fn read_entries(&mut self, entries: &Entries) -> Result<()> {
        let counts: &Int64Array = column(&entries.columns, 1)?;
        let Some(values) = entries.columns.first().filter(|c| c.data_type() == &self.ty) else {
            return Err(Error::internal("the state of an aggregate has other columns than it should"));
        };
        self.add(values, |f| {
            for (row, slot) in entries.slots.iter().enumerate() {
                f(row, *slot as usize, counts.value(row));
            }
        })
    }

    fn size(&self) -> usize {
        // A B-tree is about two thirds full.
        match &self.values {
            Values::Ordinals(m) => m.counts.len() * 36,
            Values::Decimals(m) => m.counts.len() * 60,
            Values::Bytes(m) => m.counts.keys().map(|(_, v)| 60 + v.len()).sum(),
        }
    }
}
