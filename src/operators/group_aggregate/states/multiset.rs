//! Values of all groups with their counts, in one ordered map keyed (slot, value).
//!
//! One map for all groups rather than a map per group: a group of one value costs one entry. A value taken back
//! before it came (two changes that overtook each other) has a negative count until it does and is never shown.
//! Values without an ordinal are kept as bytes: strings and binaries as they are, others in arrow-row's encoding (in
//! memory only; snapshots get typed columns).

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Int64Array};
use arrow::datatypes::{DataType, Decimal128Type};
use arrow::row::{RowConverter, SortField};

use super::value::bytes_array;
use super::{Entries, Rows, column};
use crate::error::{Error, Result};
use crate::functions::room::check_column;
use crate::operators::keyed_rows::PART_ROWS;
use crate::state::ordinal::{from_ordinals, is_ordinal, to_exact_ordinals};
use crate::stream::BATCH_BYTES;
use crate::stream::bytes::cut;

/// Which end of the values is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Least,
    Greatest,
}

/// See the module.
pub(super) struct Multiset {
    ty: DataType,
    values: Values,
    /// Bytes of values that are not in the map's entries themselves.
    heap: usize,
}

enum Values {
    Ordinals(Counts<i64>),
    Decimals(Counts<i128>),
    Bytes(Counts<Box<[u8]>>),
    Encoded(Counts<Box<[u8]>>, RowConverter),
}

macro_rules! each_kind {
    ($values:expr, $m:ident => $body:expr) => {
        match $values {
            Values::Ordinals($m) => $body,
            Values::Decimals($m) => $body,
            Values::Bytes($m) | Values::Encoded($m, _) => $body,
        }
    };
}

struct Counts<T> {
    counts: BTreeMap<(u32, T), i64>,
}

impl<T> Default for Counts<T> {
    fn default() -> Self {
        Counts { counts: BTreeMap::new() }
    }
}

impl<T: Ord + Clone + Least> Counts<T> {
    /// Adds to a count; +1 if the map got an entry more, −1 if one less.
    fn add(&mut self, slot: u32, value: T, by: i64) -> i64 {
        use std::collections::btree_map::Entry;
        match self.counts.entry((slot, value)) {
            Entry::Vacant(e) => {
                e.insert(by);
                1
            }
            Entry::Occupied(mut e) => {
                *e.get_mut() += by;
                if *e.get() == 0 {
                    e.remove();
                    return -1;
                }
                0
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

    fn present(&self, slot: u32) -> impl DoubleEndedIterator<Item = (&T, i64)> {
        self.of_slot(slot).filter(|(_, count)| *count > 0)
    }

    fn end(&self, slot: u32, end: End) -> Option<&T> {
        let mut present = self.present(slot).map(|(value, _)| value);
        match end {
            End::Least => present.next(),
            End::Greatest => present.next_back(),
        }
    }

    fn clear(&mut self, slot: u32) -> Vec<T> {
        let values: Vec<T> = self.of_slot(slot).map(|(value, _)| value.clone()).collect();
        values
            .into_iter()
            .map(|value| {
                let key = (slot, value);
                self.counts.remove(&key);
                key.1
            })
            .collect()
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

impl Least for Box<[u8]> {
    fn least() -> Self {
        Box::default()
    }
}

impl Multiset {
    /// For values of a type, `None` if it has no order.
    pub(super) fn new(ty: &DataType) -> Option<Self> {
        let values = match ty {
            ty if is_ordinal(ty) => Values::Ordinals(Counts::default()),
            DataType::Decimal128(..) => Values::Decimals(Counts::default()),
            DataType::Utf8 | DataType::Binary => Values::Bytes(Counts::default()),
            other => {
                let fields = vec![SortField::new(other.clone())];
                if !RowConverter::supports_fields(&fields) {
                    return None;
                }
                Values::Encoded(Counts::default(), RowConverter::new(fields).ok()?)
            }
        };
        Some(Multiset { ty: ty.clone(), values, heap: 0 })
    }

    /// Adds rows, or takes them back, `times` each.
    pub(super) fn update(
        &mut self,
        rows: &Rows<'_>,
        arg: &ArrayRef,
        times: Option<&Int64Array>,
    ) -> Result<()> {
        let times = |row: usize| times.map_or(1, |t| t.value(row));
        let nulls = arg.logical_nulls();
        self.add(arg, |f| rows.each(nulls.as_ref(), |row, slot, sign| f(row, slot, sign * times(row))))
    }

    fn add(&mut self, arg: &ArrayRef, mut each: impl FnMut(&mut dyn FnMut(usize, usize, i64))) -> Result<()> {
        let mut heap = 0;
        match &mut self.values {
            Values::Ordinals(m) => {
                let mut values = Vec::new();
                to_exact_ordinals(arg, &mut values)?;
                each(&mut |row, slot, by| {
                    m.add(slot as u32, values[row], by);
                });
            }
            Values::Decimals(m) => {
                let values = arg.as_primitive::<Decimal128Type>();
                each(&mut |row, slot, by| {
                    m.add(slot as u32, values.value(row), by);
                });
            }
            Values::Bytes(m) => {
                let mut add = |slot: usize, value: &[u8], by| {
                    heap += m.add(slot as u32, value.into(), by) * value.len() as i64;
                };
                if self.ty == DataType::Utf8 {
                    let values = arg.as_string::<i32>();
                    each(&mut |row, slot, by| add(slot, values.value(row).as_bytes(), by));
                } else {
                    let values = arg.as_binary::<i32>();
                    each(&mut |row, slot, by| add(slot, values.value(row), by));
                }
            }
            Values::Encoded(m, converter) => {
                let values = converter.convert_columns(std::slice::from_ref(arg))?;
                each(&mut |row, slot, by| {
                    let value = values.row(row);
                    heap += m.add(slot as u32, value.data().into(), by) * value.data().len() as i64;
                });
            }
        }
        self.heap = (self.heap as i64 + heap).max(0) as usize;
        Ok(())
    }

    /// The least or greatest value of each slot.
    pub(super) fn ends(&self, slots: &[u32], end: End) -> Result<ArrayRef> {
        Ok(match &self.values {
            Values::Ordinals(m) => {
                let found: Vec<Option<i64>> = slots.iter().map(|s| m.end(*s, end).copied()).collect();
                let nulls = found.iter().map(Option::is_some).collect();
                from_ordinals(&self.ty, found.iter().map(|v| v.unwrap_or(0)).collect(), Some(nulls))?
            }
            Values::Decimals(m) => {
                let array: Decimal128Array = slots.iter().map(|s| m.end(*s, end).copied()).collect();
                Arc::new(array.with_data_type(self.ty.clone()))
            }
            Values::Bytes(m) => {
                bytes_array(&self.ty, slots.iter().map(|s| m.end(*s, end).map(|v| v.as_ref())))?
            }
            Values::Encoded(..) => return Err(Error::internal("values without an end")),
        })
    }

    /// All values of slots with their counts, slot by slot in order, and how many each slot has.
    pub(super) fn all(&self, slots: &[u32]) -> Result<(ArrayRef, Vec<i64>, Vec<usize>)> {
        let mut counts = Vec::new();
        let mut lengths = Vec::with_capacity(slots.len());
        each_kind!(&self.values, m => {
            for slot in slots {
                let before = counts.len();
                counts.extend(m.present(*slot).map(|(_, count)| count));
                lengths.push(counts.len() - before);
            }
        });
        Ok((self.values_of(slots)?, counts, lengths))
    }

    fn values_of(&self, slots: &[u32]) -> Result<ArrayRef> {
        Ok(match &self.values {
            Values::Ordinals(m) => {
                let values = slots.iter().flat_map(|s| m.present(*s).map(|(v, _)| *v)).collect();
                from_ordinals(&self.ty, values, None)?
            }
            Values::Decimals(m) => {
                let values = slots.iter().flat_map(|s| m.present(*s).map(|(v, _)| *v));
                Arc::new(Decimal128Array::from_iter_values(values).with_data_type(self.ty.clone()))
            }
            Values::Bytes(m) => bytes_array(
                &self.ty,
                slots.iter().flat_map(|s| m.present(*s).map(|(v, _)| Some(v.as_ref()))),
            )?,
            Values::Encoded(m, converter) => {
                decode(converter, slots.iter().flat_map(|s| m.present(*s).map(|(v, _)| v.as_ref())))?
            }
        })
    }

    /// Forgets the values of slots.
    pub(super) fn clear(&mut self, slots: &[u32]) {
        for slot in slots {
            let gone = match &mut self.values {
                Values::Ordinals(m) => {
                    m.clear(*slot);
                    0
                }
                Values::Decimals(m) => {
                    m.clear(*slot);
                    0
                }
                Values::Bytes(m) | Values::Encoded(m, _) => m.clear(*slot).iter().map(|v| v.len()).sum(),
            };
            self.heap = self.heap.saturating_sub(gone);
        }
    }

    /// Every value with its count, in parts.
    pub(super) fn write_entries(&self) -> Result<Vec<Entries>> {
        let slots: Vec<u32> = each_kind!(&self.values, m => m.counts.keys().map(|(slot, _)| *slot).collect());
        let counts: Vec<i64> = each_kind!(&self.values, m => m.counts.values().copied().collect());
        let mut widths = vec![BATCH_BYTES / PART_ROWS; slots.len()];
        let values: Box<dyn Fn(Range<usize>) -> Result<ArrayRef> + '_> = match &self.values {
            Values::Ordinals(m) => {
                let values: Vec<i64> = m.counts.keys().map(|(_, value)| *value).collect();
                Box::new(move |part| from_ordinals(&self.ty, values[part].to_vec(), None))
            }
            Values::Decimals(m) => {
                let values: Vec<i128> = m.counts.keys().map(|(_, value)| *value).collect();
                Box::new(move |part| {
                    let array = Decimal128Array::from_iter_values(values[part].iter().copied());
                    Ok(Arc::new(array.with_data_type(self.ty.clone())) as ArrayRef)
                })
            }
            Values::Bytes(m) | Values::Encoded(m, _) => {
                let values: Vec<&[u8]> = m.counts.keys().map(|(_, value)| value.as_ref()).collect();
                widths.iter_mut().zip(&values).for_each(|(width, value)| *width = value.len().max(*width));
                Box::new(move |part| match &self.values {
                    Values::Encoded(_, converter) => decode(converter, values[part].iter().copied()),
                    _ => bytes_array(&self.ty, values[part].iter().map(|v| Some(*v))),
                })
            }
        };
        let entries = |part: Range<usize>| {
            let counts: ArrayRef = Arc::new(Int64Array::from(counts[part.clone()].to_vec()));
            Ok(Entries { slots: slots[part.clone()].to_vec(), columns: vec![values(part)?, counts] })
        };
        cut(&widths, BATCH_BYTES, |_| false).into_iter().map(entries).collect()
    }

    /// Inverse of [`Multiset::write_entries`].
    pub(super) fn read_entries(&mut self, entries: &Entries) -> Result<()> {
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

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        // A B-tree is about two thirds full.
        self.heap
            + match &self.values {
                Values::Ordinals(m) => m.counts.len() * 36,
                Values::Decimals(m) => m.counts.len() * 60,
                Values::Bytes(m) | Values::Encoded(m, _) => m.counts.len() * 60,
            }
    }
}

fn decode<'a>(converter: &RowConverter, values: impl Iterator<Item = &'a [u8]>) -> Result<ArrayRef> {
    let (parser, mut length) = (converter.parser(), 0);
    // Encoded values are longer than the values.
    let rows: Vec<_> = values.inspect(|bytes| length += bytes.len()).map(|b| parser.parse(b)).collect();
    check_column(length)?;
    let mut columns = converter.convert_rows(rows)?;
    columns.pop().ok_or_else(|| Error::internal("a value column got lost"))
}
