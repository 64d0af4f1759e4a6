//! `DISTINCT` for any of these aggregates: the set of values is the state, the aggregate runs over it at the end.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::Accumulator;

use super::first;

/// Values seen once, and what aggregates them.
#[derive(Debug)]
pub(crate) struct Distinct {
    inner: Box<dyn Accumulator>,
    seen: HashSet<ScalarValue>,
    /// The same values in order of arrival.
    order: Vec<ScalarValue>,
    ty: DataType,
    nulls: bool,
    fed: usize,
}

impl Distinct {
    /// `nulls`: whether NULL is a value like others.
    pub(crate) fn new(inner: Box<dyn Accumulator>, ty: DataType, nulls: bool) -> Self {
        Distinct { inner, nulls, seen: HashSet::new(), order: Vec::new(), ty, fed: 0 }
    }

    fn add(&mut self, a: &ArrayRef) -> DfResult<()> {
        for i in 0..a.len() {
            if self.nulls || a.is_valid(i) {
                let v = ScalarValue::try_from_array(a, i)?;
                if self.seen.insert(v.clone()) {
                    self.order.push(v);
                }
            }
        }
        Ok(())
    }
}

impl Accumulator for Distinct {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.add(first(values)?)
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        let fresh = self.order.split_at(self.fed.min(self.order.len())).1;
        if !fresh.is_empty() {
            let a = ScalarValue::iter_to_array(fresh.iter().cloned())?;
            self.inner.update_batch(&[a])?;
            self.fed = self.order.len();
        }
        self.inner.evaluate()
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::List(ScalarValue::new_list_nullable(&self.order, &self.ty))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        let lists = Arc::clone(first(states)?);
        for list in lists.as_list::<i32>().iter().flatten() {
            self.add(&list)?;
        }
        Ok(())
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.inner.size() + 2 * self.order.iter().map(ScalarValue::size).sum::<usize>()
    }
}
