//! Values in order of arrival: LISTAGG, ARRAY_AGG, JSON_ARRAYAGG, JSON_OBJECTAGG, SINGLE_VALUE, and FIRST_VALUE and
//! LAST_VALUE over updating input.
//!
//! ```text
//!  value ─► number (ordinal, or of the dictionary) ─┬─► order: (slot, arrival) → number
//!                                                   └─► index: (slot, number, arrival)      updating input only
//! ```
//!
//! Taking a value back removes its earliest occurrence. A value taken back before it came is owed: its next arrival
//! settles that and is not shown.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, ListArray, StringArray, StringBuilder, UInt32Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::take;
use arrow::datatypes::DataType;

use super::{Entries, GroupedState, Rows, column};
use crate::error::{Error, Result};
use crate::functions::aggregate::json::{object, write_array};
use crate::functions::room::{append, check_value};
use crate::operators::group_aggregate::dictionary::{Dictionary, parts};
use crate::state::ordinal::{from_ordinals, is_ordinal, to_exact_ordinals};

/// What is made of the values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finish {
    /// Joined by a separator.
    Join(String),
    /// A list of this type.
    List(DataType),
    /// The earliest.
    First,
    /// The latest.
    Last,
    /// The only one; two are an error.
    Single,
    /// A JSON array of texts that are JSON.
    JsonArray,
    /// A JSON object of keys and texts that are JSON.
    JsonObject,
}

pub(super) fn build(
    types: &[DataType],
    finish: Finish,
    nulls: bool,
    retracts: bool,
) -> Result<Box<dyn GroupedState>> {
    let dictionary = match types {
        [ty] if is_ordinal(ty) && !nulls => None,
        _ => Some(Dictionary::new(types)?),
    };
    Ok(Box::new(SequenceState {
        types: types.to_vec(),
        finish,
        nulls,
        dictionary,
        order: BTreeMap::new(),
        index: retracts.then(BTreeSet::new),
        owed: BTreeMap::new(),
        next: 0,
        scratch: Vec::new(),
    }))
}

struct SequenceState {
    types: Vec<DataType>,
    finish: Finish,
    /// Whether NULL is a value.
    nulls: bool,
    dictionary: Option<Dictionary>,
    order: BTreeMap<(u32, u64), i64>,
    index: Option<BTreeSet<(u32, i64, u64)>>,
    /// How often a value of a group was taken back too early.
    owed: BTreeMap<(u32, i64), i64>,
    /// The next arrival.
    next: u64,
    scratch: Vec<i64>,
}

impl SequenceState {
    /// Writes the numbers of the rows' values to `scratch`.
    fn number(&mut self, args: &[ArrayRef], rows: usize) -> Result<()> {
        match (&mut self.dictionary, args) {
            (None, [arg]) => to_exact_ordinals(arg, &mut self.scratch),
            (None, _) => Err(Error::internal("an aggregate over values got other arguments")),
            (Some(dictionary), _) => {
                dictionary.intern(args, rows)?;
                self.scratch.clear();
                self.scratch.extend(dictionary.rows.iter().map(|n| i64::from(*n)));
                Ok(())
            }
        }
    }

    fn hold(&mut self, value: i64) {
        if let Some(dictionary) = &mut self.dictionary {
            dictionary.hold(value);
        }
    }

    fn release(&mut self, value: i64) {
        if let Some(dictionary) = &mut self.dictionary {
            dictionary.release(value);
        }
    }

    fn arrive(&mut self, slot: u32, value: i64, at: u64) {
        self.order.insert((slot, at), value);
        if let Some(index) = &mut self.index {
            index.insert((slot, value, at));
        }
        self.hold(value);
    }

    fn add(&mut self, slot: u32, value: i64) {
        if !self.owed.is_empty()
            && let Some(owed) = self.owed.get_mut(&(slot, value))
        {
            *owed -= 1;
            if *owed == 0 {
                self.owed.remove(&(slot, value));
            }
            self.release(value);
            return;
        }
        let at = self.next;
        self.next += 1;
        self.arrive(slot, value, at);
    }

    fn owe(&mut self, slot: u32, value: i64, times: i64) {
        *self.owed.entry((slot, value)).or_default() += times;
        for _ in 0..times {
            self.hold(value);
        }
    }

    fn take_back(&mut self, slot: u32, value: i64) {
        let Some(index) = &mut self.index else { return };
        let found = index.range((slot, value, 0)..=(slot, value, u64::MAX)).next().copied();
        match found {
            Some(entry) => {
                index.remove(&entry);
                self.order.remove(&(slot, entry.2));
                self.release(value);
            }
            None => self.owe(slot, value, 1),
        }
    }

    fn of_slot(&self, slot: u32) -> impl DoubleEndedIterator<Item = i64> {
        self.order.range((slot, 0)..=(slot, u64::MAX)).map(|(_, value)| *value)
    }

    /// The columns of values by their numbers.
    fn columns(&self, numbers: &[i64]) -> Result<Vec<ArrayRef>> {
        match (&self.dictionary, self.types.as_slice()) {
            (Some(dictionary), _) => {
                dictionary.values(&numbers.iter().map(|n| *n as u32).collect::<Vec<_>>())
            }
            (None, [ty]) => Ok(vec![from_ordinals(ty, numbers.to_vec(), None)?]),
            (None, _) => Err(Error::internal("values without a type")),
        }
    }

    /// One value per slot, NULL where there is none.
    fn one_each(&self, slots: &[u32], pick: impl Fn(u32) -> Result<Option<i64>>) -> Result<ArrayRef> {
        let mut numbers = Vec::new();
        let mut places: Vec<Option<u32>> = Vec::with_capacity(slots.len());
        for slot in slots {
            places.push(match pick(*slot)? {
                Some(number) => {
                    numbers.push(number);
                    Some(numbers.len() as u32 - 1)
                }
                None => None,
            });
        }
        let columns = self.columns(&numbers)?;
        let [column] = columns.as_slice() else { return Err(Error::internal("values without a type")) };
        Ok(take(column, &UInt32Array::from(places), None)?)
    }

    /// All values of slots, one after the other, and how many each slot has.
    fn all(&self, slots: &[u32]) -> Result<(Vec<ArrayRef>, Vec<usize>)> {
        let mut numbers = Vec::new();
        let mut lengths = Vec::with_capacity(slots.len());
        for slot in slots {
            let before = numbers.len();
            numbers.extend(self.of_slot(*slot));
            lengths.push(numbers.len() - before);
        }
        Ok((self.columns(&numbers)?, lengths))
    }

    fn texts(columns: &[ArrayRef], at: usize) -> Result<&StringArray> {
        columns
            .get(at)
            .and_then(|c| c.as_string_opt::<i32>())
            .ok_or_else(|| Error::internal("an aggregate over texts got something else"))
    }
}

impl GroupedState for SequenceState {
    fn resize(&mut self, _slots: usize) {}

    fn update(&mut self, rows: &Rows<'_>, args: &[ArrayRef]) -> Result<()> {
        self.number(args, rows.slots.len())?;
        let numbers = std::mem::take(&mut self.scratch);
        let mut nulls: Option<NullBuffer> = None;
        if self.finish == Finish::JsonObject {
            // NULL is no key, but it may be a value.
            if let [keys, values] = args {
                if rows.any(keys.logical_nulls().map(|n| !n.inner())) {
                    return Err(Error::validation("a key of JSON_OBJECTAGG is NULL")
                        .hint("leave such rows out: JSON_OBJECTAGG(…) FILTER (WHERE key IS NOT NULL)"));
                }
                nulls = if self.nulls { None } else { values.logical_nulls() };
            }
        } else if !self.nulls {
            for arg in args {
                nulls = NullBuffer::union(nulls.as_ref(), arg.logical_nulls().as_ref());
            }
        }
        rows.each(nulls.as_ref(), |row, slot, sign| {
            if sign > 0 {
                self.add(slot as u32, numbers[row]);
            } else {
                self.take_back(slot as u32, numbers[row]);
            }
        });
        if let Some(dictionary) = &mut self.dictionary {
            numbers.iter().for_each(|n| dictionary.passed_by(*n as u32));
            dictionary.sweep();
        }
        self.scratch = numbers;
        Ok(())
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        Ok(match &self.finish {
            Finish::First => self.one_each(slots, |s| Ok(self.of_slot(s).next()))?,
            Finish::Last => self.one_each(slots, |s| Ok(self.of_slot(s).next_back()))?,
            Finish::Single => self.one_each(slots, |s| {
                let mut values = self.of_slot(s);
                let first = values.next();
                match values.next() {
                    None => Ok(first),
                    Some(_) => Err(Error::validation("SINGLE_VALUE received more than one row")),
                }
            })?,
            Finish::List(ty) => {
                let (columns, lengths) = self.all(slots)?;
                let (DataType::List(item), [values]) = (ty, columns.as_slice()) else {
                    return Err(Error::internal("ARRAY_AGG gives a list"));
                };
                let nulls: NullBuffer = lengths.iter().map(|n| *n > 0).collect();
                let offsets = OffsetBuffer::from_lengths(lengths);
                Arc::new(ListArray::try_new(Arc::clone(item), offsets, Arc::clone(values), Some(nulls))?)
            }
            Finish::Join(separator) => {
                let (columns, lengths) = self.all(slots)?;
                let texts = Self::texts(&columns, 0)?;
                let mut out = StringBuilder::with_capacity(slots.len(), texts.values().len());
                let (mut from, mut text) = (0, String::new());
                for length in lengths {
                    if length == 0 {
                        out.append_null();
                        continue;
                    }
                    text.clear();
                    for i in from..from + length {
                        check_value(text.len() + separator.len() + texts.value(i).len())?;
                        if i > from {
                            text.push_str(separator);
                        }
                        text.push_str(texts.value(i));
                    }
                    append(&mut out, &text)?;
                    from += length;
                }
                Arc::new(out.finish())
            }
            Finish::JsonArray => {
                let (columns, lengths) = self.all(slots)?;
                let texts = Self::texts(&columns, 0)?;
                let (mut from, mut out) = (0, StringBuilder::new());
                for length in lengths {
                    let mut text = String::new();
                    write_array(
                        (from..from + length).map(|i| texts.is_valid(i).then(|| texts.value(i))),
                        &mut text,
                    )?;
                    append(&mut out, text)?;
                    from += length;
                }
                Arc::new(out.finish())
            }
            Finish::JsonObject => {
                let (columns, lengths) = self.all(slots)?;
                let (keys, values) = (Self::texts(&columns, 0)?, Self::texts(&columns, 1)?);
                let (mut from, mut out) = (0, StringBuilder::new());
                for length in lengths {
                    let fields = (from..from + length)
                        .map(|i| (keys.value(i), values.is_valid(i).then(|| values.value(i))))
                        .collect();
                    append(&mut out, object(fields)?)?;
                    from += length;
                }
                Arc::new(out.finish())
            }
        })
    }

    fn clear(&mut self, slots: &[u32]) {
        for slot in slots {
            let gone: Vec<(u64, i64)> =
                self.order.range((*slot, 0)..=(*slot, u64::MAX)).map(|((_, at), v)| (*at, *v)).collect();
            for (at, value) in gone {
                self.order.remove(&(*slot, at));
                if let Some(index) = &mut self.index {
                    index.remove(&(*slot, value, at));
                }
                self.release(value);
            }
            let owed: Vec<(i64, i64)> =
                self.owed.range((*slot, i64::MIN)..=(*slot, i64::MAX)).map(|((_, v), n)| (*v, *n)).collect();
            for (value, times) in owed {
                self.owed.remove(&(*slot, value));
                (0..times).for_each(|_| self.release(value));
            }
        }
        if let Some(dictionary) = &mut self.dictionary {
            dictionary.sweep();
        }
    }

    fn write(&self, _slots: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(Vec::new())
    }

    fn read(&mut self, _slots: &[u32], _columns: &[ArrayRef]) -> Result<()> {
        Ok(())
    }

    fn write_entries(&self) -> Result<Vec<Entries>> {
        // What is owed has the negative count of how often.
        let arrived = self.order.iter().map(|((slot, at), value)| (*slot, *value, *at as i64, 1));
        let owed = self.owed.iter().map(|((slot, value), times)| (*slot, *value, 0, -times));
        let mut slots = Vec::with_capacity(self.order.len() + self.owed.len());
        let (mut numbers, mut at, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for (slot, value, arrival, count) in arrived.chain(owed) {
            slots.push(slot);
            numbers.push(value);
            at.push(arrival);
            counts.push(count);
        }
        let entries = |part: Range<usize>| {
            let mut columns = self.columns(&numbers[part.clone()])?;
            columns.push(Arc::new(Int64Array::from(at[part.clone()].to_vec())));
            columns.push(Arc::new(Int64Array::from(counts[part.clone()].to_vec())));
            Ok(Entries { slots: slots[part].to_vec(), columns })
        };
        parts(self.dictionary.as_ref(), &numbers).into_iter().map(entries).collect()
    }

    fn read_entries(&mut self, entries: &Entries) -> Result<()> {
        let broken = || Error::internal("the state of an aggregate has other columns than it should");
        let (values, rest) = entries.columns.split_at_checked(self.types.len()).ok_or_else(broken)?;
        let (at, counts): (&Int64Array, &Int64Array) = (column(rest, 0)?, column(rest, 1)?);
        self.number(values, entries.slots.len())?;
        let numbers = std::mem::take(&mut self.scratch);
        for (row, slot) in entries.slots.iter().enumerate() {
            let (value, arrival, count) = (numbers[row], at.value(row) as u64, counts.value(row));
            if count < 0 {
                self.owe(*slot, value, -count);
            } else {
                self.arrive(*slot, value, arrival);
                self.next = self.next.max(arrival + 1);
            }
        }
        self.scratch = numbers;
        Ok(())
    }

    fn size(&self) -> usize {
        // A B-tree is about two thirds full.
        self.order.len() * 36
            + self.index.as_ref().map_or(0, |i| i.len() * 36)
            + self.owed.len() * 36
            + self.scratch.capacity() * 8
            + self.dictionary.as_ref().map_or(0, Dictionary::size)
    }
}
