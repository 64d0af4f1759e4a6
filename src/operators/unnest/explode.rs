//! Elements of collections: which there are, and where.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, StructArray, UInt32Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int32Type};

use crate::error::{Error, Result};
use crate::stream::bytes::row_bytes;
use crate::types::sql_name;

/// What a collection type gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The columns of an element with Flink's names.
    pub fields: Vec<FieldRef>,
    kind: Kind,
    plain: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Array,
    Map,
    Multiset,
}

impl Shape {
    /// Whether the elements are values of one column and no rows.
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    /// The shape of a type.
    ///
    /// # Errors
    /// Validation for types that are no collections.
    pub fn of(ty: &DataType) -> Result<Shape> {
        let element = |item: &FieldRef| -> Vec<FieldRef> {
            match item.data_type() {
                DataType::Struct(fields) => fields
                    .iter()
                    .map(|f| {
                        Arc::new(f.as_ref().clone().with_nullable(f.is_nullable() || item.is_nullable()))
                    })
                    .collect(),
                other => vec![Arc::new(Field::new("EXPR$0", other.clone(), item.is_nullable()))],
            }
        };
        match ty {
            DataType::List(item) => {
                Ok(Shape { fields: element(item), kind: Kind::Array, plain: !is_row(item) })
            }
            DataType::Map(entries, _) => {
                let DataType::Struct(kv) = entries.data_type() else { return Err(broken()) };
                let [key, value] = kv.iter().as_slice() else { return Err(broken()) };
                // A multiset is a map to counts, which are never NULL; see `types`.
                if *value.data_type() == DataType::Int32 && !value.is_nullable() {
                    let plain = !is_row(key);
                    return Ok(Shape { fields: element(key), kind: Kind::Multiset, plain });
                }
                let named = |name: &str, f: &FieldRef| Arc::new(f.as_ref().clone().with_name(name));
                let fields = vec![named("KEY", key), named("VALUE", value)];
                Ok(Shape { fields, kind: Kind::Map, plain: false })
            }
            other => Err(Error::validation(format!(
                "Cannot apply 'UNNEST' to an argument of type {}",
                sql_name(other)
            ))
            .hint("UNNEST takes an ARRAY, a MAP or a MULTISET")),
        }
    }
}

fn is_row(item: &FieldRef) -> bool {
    matches!(item.data_type(), DataType::Struct(_))
}

fn broken() -> Error {
    Error::internal("a map has entries of a key and a value")
}

/// The collections of a batch.
pub struct Collections {
    offsets: OffsetBuffer<i32>,
    nulls: Option<NullBuffer>,
    /// Columns of all elements.
    columns: Vec<ArrayRef>,
    /// Elements that are rows and NULL: as in Flink they are passed over.
    elements: Option<NullBuffer>,
    /// How often each element is there; only of multisets.
    counts: Option<Int32Array>,
    outer: bool,
    /// Bytes of each element, where they differ.
    widths: Vec<usize>,
}

/// Some of the rows that come out.
#[derive(Default)]
pub struct Part {
    /// Input row of each.
    pub rows: Vec<u32>,
    /// Place of its element; `None` in the row of NULLs of a LEFT JOIN.
    places: Vec<Option<u32>>,
    /// Number of the element from 1; 0 in the row of NULLs.
    numbers: Vec<i32>,
}

/// How far a batch has been unnested.
#[derive(Debug, Default, Clone, Copy)]
pub struct Cursor {
    row: usize,
    /// Elements of that row that have been given, each of a multiset counted once.
    element: usize,
    /// Copies of the element that have been given.
    copies: i32,
    /// Rows given for that row.
    given: i32,
}

impl Collections {
    /// The collections of an array.
    ///
    /// # Errors
    /// As [`Shape::of`].
    pub fn try_new(array: &ArrayRef, outer: bool) -> Result<Self> {
        let shape = Shape::of(array.data_type())?;
        let nulls = array.nulls().cloned();
        let (offsets, (columns, elements), counts) = match shape.kind {
            Kind::Array => {
                let list = array.as_list::<i32>();
                (list.offsets().clone(), spread(list.values()), None)
            }
            Kind::Map => {
                let map = array.as_map();
                let columns = vec![Arc::clone(map.keys()), Arc::clone(map.values())];
                (map.offsets().clone(), (columns, None), None)
            }
            Kind::Multiset => {
                let map = array.as_map();
                let counts = map.values().as_primitive::<Int32Type>().clone();
                (map.offsets().clone(), spread(map.keys()), Some(counts))
            }
        };
        let elements_len = columns.first().map_or(0, |c| c.len());
        // Elements of a fixed width are too small to count beside the number of rows.
        let is_wide = columns.iter().any(|c| c.data_type().primitive_width().is_none());
        let widths = if is_wide { row_bytes(&columns, elements_len) } else { Vec::new() };
        Ok(Collections { offsets, nulls, columns, elements, counts, outer, widths })
    }

    fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// First element and number of elements of a row.
    #[inline]
    fn range(&self, row: usize) -> (usize, usize) {
        if self.nulls.as_ref().is_some_and(|n| n.is_null(row)) {
            return (0, 0);
        }
        let (from, to) = (self.offsets[row] as usize, self.offsets[row + 1] as usize);
        (from, to - from)
    }

    /// Rows that a row gives.
    pub(super) fn rows_of(&self, row: usize) -> usize {
        let (from, n) = self.range(row);
        let n = match (&self.counts, &self.elements) {
            (Some(counts), _) => counts.values()[from..from + n].iter().map(|c| (*c).max(0) as usize).sum(),
            (None, Some(elements)) => n - elements.slice(from, n).null_count(),
            (None, None) => n,
        };
        if self.outer { n.max(1) } else { n }
    }

    /// Bytes of the element at a place.
    pub(crate) fn element_bytes(&self, place: usize) -> usize {
        self.widths.get(place).copied().unwrap_or(0)
    }

    /// Everything, and the number of rows that each row gives.
    pub(crate) fn all(&self) -> (Part, Vec<usize>) {
        let part = Cursor::default().next(self, (usize::MAX, usize::MAX), |_, _| 0, |_| false);
        (part, (0..self.len()).map(|row| self.rows_of(row)).collect())
    }

    /// Columns of the elements of a part, and their numbers.
    ///
    /// # Errors
    /// From `take`.
    pub(crate) fn elements(&self, part: &Part, ordinality: bool) -> Result<Vec<ArrayRef>> {
        let mut columns = match part.consecutive() {
            Some(from) => self.columns.iter().map(|c| c.slice(from, part.places.len())).collect(),
            None => {
                let places: UInt32Array = part.places.iter().copied().collect();
                self.columns.iter().map(|c| Ok(take(c, &places, None)?)).collect::<Result<Vec<_>>>()?
            }
        };
        if ordinality {
            let numbers: Int32Array = part.numbers.iter().map(|n| (*n > 0).then_some(*n)).collect();
            columns.push(Arc::new(numbers));
        }
        Ok(columns)
    }
}

impl Part {
    fn push(&mut self, row: usize, place: Option<usize>, number: i32) {
        self.rows.push(row as u32);
        self.places.push(place.map(|p| p as u32));
        self.numbers.push(number);
    }

    /// The first place if the places follow each other, as they do unless something is NULL or repeated.
    fn consecutive(&self) -> Option<usize> {
        let first = (*self.places.first()?)?;
        let follow = self.places.iter().zip(first..).all(|(place, expected)| *place == Some(expected));
        follow.then_some(first as usize)
    }
}

impl Cursor {
    /// The next rows, about as many as `limit` says, in number and in bytes: it does not stop behind a row for which
    /// `joined` holds. `bytes` are those of a row with the element at a place.
    pub(crate) fn next(
        &mut self,
        collections: &Collections,
        limit: (usize, usize),
        bytes: impl Fn(usize, Option<usize>) -> usize,
        joined: impl Fn(usize) -> bool,
    ) -> Part {
        let mut part = Part::default();
        let mut taken = 0_usize;
        while self.row < collections.len() {
            let (from, n) = collections.range(self.row);
            let place = (self.element < n).then_some(from + self.element);
            let more = bytes(self.row, place);
            let full = part.rows.len() >= limit.0 || (!part.rows.is_empty() && taken + more > limit.1);
            if full && !(part.rows.last().is_some_and(|last| joined(*last as usize))) {
                break;
            }
            if self.element >= n {
                if self.given == 0 && collections.outer {
                    part.push(self.row, None, 0);
                    taken += more;
                }
                *self = Cursor { row: self.row + 1, ..Cursor::default() };
                continue;
            }
            let place = from + self.element;
            let copies = match (&collections.counts, &collections.elements) {
                (Some(counts), _) => counts.value(place),
                (None, Some(elements)) if elements.is_null(place) => 0,
                (None, _) => 1,
            };
            if self.copies < copies {
                self.copies += 1;
                self.given += 1;
                let number = if collections.counts.is_some() { self.given } else { self.element as i32 + 1 };
                part.push(self.row, Some(place), number);
                taken += more;
            }
            if self.copies >= copies {
                self.element += 1;
                self.copies = 0;
            }
        }
        part
    }

    pub(crate) fn is_at_end(&self, collections: &Collections) -> bool {
        self.row >= collections.len()
    }
}

/// The columns of elements: the fields of rows. NULL rows are of no account.
fn spread(elements: &ArrayRef) -> (Vec<ArrayRef>, Option<NullBuffer>) {
    match elements.as_struct_opt() {
        Some(rows) => (rows.columns().to_vec(), rows.nulls().filter(|n| n.null_count() > 0).cloned()),
        None => (vec![Arc::clone(elements)], None),
    }
}

/// Elements of a part as rows.
pub(crate) fn as_rows(fields: Fields, columns: Vec<ArrayRef>, rows: usize) -> Result<StructArray> {
    if columns.is_empty() {
        return Ok(StructArray::new_empty_fields(rows, None));
    }
    Ok(StructArray::try_new(fields, columns, None)?)
}
