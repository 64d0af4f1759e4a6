//! `COLLECT(x)`: the multiset of the values, NULLs ignored, as a map from value to count.
//!
//! State: the multiset itself.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, MapArray, StructArray, new_empty_array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Int32Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::Accumulator;

use super::first;
use crate::error::Error;
use crate::types::{LogicalType, TypeRoot};

/// MULTISET of a type.
pub(super) fn result_type(t: &DataType) -> Option<DataType> {
    let element = LogicalType::from_arrow(t, true).ok()?;
    Some(LogicalType::nullable(TypeRoot::Multiset(Box::new(element))).to_arrow())
}

/// Values in order of arrival with their counts.
#[derive(Debug)]
pub(super) struct Collect {
    counts: HashMap<ScalarValue, usize>,
    values: Vec<(ScalarValue, i32)>,
    out: DataType,
}

impl Collect {
    pub(super) fn new(out: DataType) -> Self {
        Collect { counts: HashMap::new(), values: Vec::new(), out }
    }

    fn add(&mut self, v: ScalarValue, n: i32) {
        match self.counts.get(&v).and_then(|at| self.values.get_mut(*at)) {
            Some((_, count)) => *count += n,
            None => {
                self.counts.insert(v.clone(), self.values.len());
                self.values.push((v, n));
            }
        }
    }
}

impl Accumulator for Collect {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let a = Arc::clone(first(values)?);
        for i in 0..a.len() {
            if a.is_valid(i) {
                self.add(ScalarValue::try_from_array(&a, i)?, 1);
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        let m = first(states)?.as_map().clone();
        for entries in m.iter().flatten() {
            let counts = entries.column(1).as_primitive::<Int32Type>();
            for i in 0..entries.len() {
                self.add(ScalarValue::try_from_array(entries.column(0), i)?, counts.value(i));
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        let DataType::Map(field, sorted) = &self.out else {
            return Err(Error::internal("COLLECT gives a multiset").into());
        };
        let DataType::Struct(fields) = field.data_type() else {
            return Err(Error::internal("a multiset has entries").into());
        };
        // In order, as streaming has them.
        let mut by_value: Vec<&(ScalarValue, i32)> = self.values.iter().collect();
        by_value.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(std::cmp::Ordering::Equal));
        let keys = match by_value.first() {
            Some(_) => ScalarValue::iter_to_array(by_value.iter().map(|(v, _)| v.clone()))?,
            None => new_empty_array(fields.first().map_or(&DataType::Null, |f| f.data_type())),
        };
        let counts: ArrayRef = Arc::new(Int32Array::from_iter_values(by_value.iter().map(|(_, n)| *n)));
        let entries = StructArray::try_new(fields.clone(), vec![keys, counts], None)?;
        let offsets = OffsetBuffer::from_lengths([self.values.len()]);
        Ok(ScalarValue::Map(Arc::new(MapArray::try_new(Arc::clone(field), offsets, entries, None, *sorted)?)))
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn size(&self) -> usize {
        size_of_val(self) + 2 * self.values.iter().map(|(v, _)| v.size() + 8).sum::<usize>()
    }
}
