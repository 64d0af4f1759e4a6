//! `ARRAY_AGG`: DataFusion's, but with DISTINCT in order of arrival, which its own gives in the order of a hash table.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::functions_aggregate::array_agg::ArrayAgg;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, Signature,
};

use super::first;

pub(super) fn function() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(FlinkArrayAgg { inner: ArrayAgg::default() }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct FlinkArrayAgg {
    inner: ArrayAgg,
}

impl AggregateUDFImpl for FlinkArrayAgg {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> DfResult<DataType> {
        self.inner.return_type(arg_types)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> DfResult<Vec<FieldRef>> {
        self.inner.state_fields(args)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner.order_sensitivity()
    }

    fn with_beneficial_ordering(
        self: Arc<Self>,
        beneficial_ordering: bool,
    ) -> DfResult<Option<Arc<dyn AggregateUDFImpl>>> {
        Arc::new(ArrayAgg::default()).with_beneficial_ordering(beneficial_ordering)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> DfResult<Box<dyn Accumulator>> {
        if !args.is_distinct || !args.order_bys.is_empty() {
            return self.inner.accumulator(args);
        }
        let ty = args.expr_fields.first().map_or(DataType::Null, |f| f.data_type().clone());
        Ok(Box::new(DistinctList { nulls: !args.ignore_nulls, ty, seen: HashSet::new(), order: Vec::new() }))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> DfResult<Box<dyn GroupsAccumulator>> {
        self.inner.create_groups_accumulator(args)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::NotSupported
    }

    fn supports_null_handling_clause(&self) -> bool {
        true
    }
}

/// Values seen once, in order of arrival.
#[derive(Debug)]
struct DistinctList {
    /// Whether NULL is a value.
    nulls: bool,
    ty: DataType,
    seen: HashSet<ScalarValue>,
    order: Vec<ScalarValue>,
}

impl Accumulator for DistinctList {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let a = Arc::clone(first(values)?);
        for i in 0..a.len() {
            if self.nulls || a.is_valid(i) {
                let v = ScalarValue::try_from_array(&a, i)?;
                if self.seen.insert(v.clone()) {
                    self.order.push(v);
                }
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        for list in Arc::clone(first(states)?).as_list::<i32>().iter().flatten() {
            self.update_batch(&[list])?;
        }
        Ok(())
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        if self.order.is_empty() {
            return Ok(ScalarValue::new_null_list(self.ty.clone(), true, 1));
        }
        Ok(ScalarValue::List(ScalarValue::new_list_nullable(&self.order, &self.ty)))
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn size(&self) -> usize {
        size_of_val(self) + 2 * self.order.iter().map(ScalarValue::size).sum::<usize>()
    }
}
