//! Aggregates whose state is the values themselves: `PERCENTILE`, `JSON_ARRAYAGG`, `JSON_OBJECTAGG`, `SINGLE_VALUE`.
//!
//! State: a list for each argument that differs from row to row.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StringArray, new_empty_array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::Accumulator;
use datafusion::physical_plan::PhysicalExpr;

use super::{json, percentile};
use crate::error::{Error, Result};

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Keeper {
    Percentile,
    Single,
    JsonArray { nulls: bool },
    JsonObject { nulls: bool },
}

impl Keeper {
    pub(super) fn usage(self) -> &'static str {
        match self {
            Keeper::Percentile => "PERCENTILE(<NUMERIC>, <NUMERIC or ARRAY>[, <INTEGER>])",
            Keeper::Single => "SINGLE_VALUE(<ANY>)",
            Keeper::JsonArray { .. } => "JSON_ARRAYAGG(<ANY>)",
            Keeper::JsonObject { .. } => "JSON_OBJECTAGG(KEY <CHARACTER> VALUE <ANY>)",
        }
    }

    pub(super) fn result_type(self, types: &[DataType]) -> Option<DataType> {
        match (self, types) {
            (Keeper::Percentile, [_, p] | [_, p, _]) => Some(match p {
                DataType::List(_) => DataType::List(Arc::new(Field::new_list_field(DataType::Float64, true))),
                _ => DataType::Float64,
            }),
            (Keeper::Single, [t]) => Some(t.clone()),
            (Keeper::JsonArray { .. }, [DataType::Utf8])
            | (Keeper::JsonObject { .. }, [DataType::Utf8, DataType::Utf8]) => Some(DataType::Utf8),
            _ => None,
        }
    }

    /// The arguments that are kept.
    pub(super) fn kept_columns(self, args: usize) -> Vec<usize> {
        let constant = (self == Keeper::Percentile).then_some(1);
        (0..args).filter(|i| Some(*i) != constant).collect()
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Kept {
    keeper: Keeper,
    /// Types of the kept arguments.
    types: Vec<DataType>,
    /// Which arguments those are.
    columns: Vec<usize>,
    pieces: Vec<Vec<ArrayRef>>,
    fractions: Vec<f64>,
    list: bool,
    out: DataType,
}

impl Kept {
    pub(super) fn new(
        keeper: Keeper,
        types: &[DataType],
        args: &[Arc<dyn PhysicalExpr>],
        distinct: bool,
    ) -> Result<Self> {
        let mut columns = keeper.kept_columns(types.len());
        if distinct && columns.len() > 1 {
            return Err(Error::unsupported("DISTINCT in an aggregate of two arguments is not supported"));
        }
        let (fractions, list) = match keeper {
            Keeper::Percentile => percentile::fractions(args)?,
            _ => (Vec::new(), false),
        };
        let out = keeper.result_type(types).ok_or_else(|| Error::internal("arguments of other types"))?;
        let types = columns.iter().filter_map(|i| types.get(*i).cloned()).collect();
        let pieces = vec![Vec::new(); columns.len()];
        if distinct {
            // Only the values come.
            columns = vec![0];
        }
        Ok(Kept { keeper, types, columns, pieces, fractions, list, out })
    }

    /// All kept values of an argument.
    fn whole(&self, i: usize) -> DfResult<ArrayRef> {
        let pieces: Vec<&dyn Array> = self.pieces.get(i).into_iter().flatten().map(|p| p.as_ref()).collect();
        match (pieces.is_empty(), self.types.get(i)) {
            (true, Some(ty)) => Ok(new_empty_array(ty)),
            _ => Ok(concat(&pieces)?),
        }
    }

    fn percentile(&self) -> DfResult<ScalarValue> {
        let x = self.whole(0)?;
        let x = x.as_primitive::<Float64Type>();
        let times = if self.types.len() > 1 { Some(self.whole(1)?) } else { None };
        let times = times.as_ref().map(|t| t.as_primitive::<Int64Type>());
        let count = |i: usize| match times {
            None => 1,
            Some(t) => {
                if t.is_valid(i) {
                    t.value(i).max(0)
                } else {
                    0
                }
            }
        };
        let mut rows: Vec<(f64, i64)> =
            (0..x.len()).filter(|i| x.is_valid(*i)).map(|i| (x.value(i), count(i))).collect();
        rows.retain(|(_, n)| *n > 0);
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (values, counts): (Vec<f64>, Vec<i64>) = rows.into_iter().unzip();
        let results: Vec<ScalarValue> = self
            .fractions
            .iter()
            .map(|f| ScalarValue::Float64(percentile::interpolate(&values, &counts, *f)))
            .collect();
        if !self.list {
            return Ok(results.into_iter().next().unwrap_or(ScalarValue::Float64(None)));
        }
        if values.is_empty() {
            return ScalarValue::try_from(&self.out);
        }
        Ok(ScalarValue::List(ScalarValue::new_list(&results, &DataType::Float64, true)))
    }
}

fn texts(a: &ArrayRef) -> DfResult<&StringArray> {
    Ok(a.as_string_opt::<i32>().ok_or_else(|| Error::internal("JSON from something that is no text"))?)
}

impl Accumulator for Kept {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        for (pieces, column) in self.pieces.iter_mut().zip(&self.columns) {
            pieces.extend(values.get(*column).filter(|v| !v.is_empty()).cloned());
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        for (pieces, lists) in self.pieces.iter_mut().zip(states) {
            pieces.extend(lists.as_list::<i32>().iter().flatten().filter(|v| !v.is_empty()));
        }
        Ok(())
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        match self.keeper {
            Keeper::Percentile => self.percentile(),
            Keeper::Single => {
                let all = self.whole(0)?;
                match all.len() {
                    0 => ScalarValue::try_from(&self.out),
                    1 => ScalarValue::try_from_array(&all, 0),
                    _ => Err(Error::validation("SINGLE_VALUE received more than one row").into()),
                }
            }
            Keeper::JsonArray { nulls } => {
                let all = self.whole(0)?;
                let mut out = String::new();
                json::write_array(texts(&all)?.iter().filter(|t| nulls || t.is_some()), &mut out)?;
                Ok(ScalarValue::Utf8(Some(out)))
            }
            Keeper::JsonObject { nulls } => {
                let (keys, values) = (self.whole(0)?, self.whole(1)?);
                let fields: Option<Vec<(&str, Option<&str>)>> = texts(&keys)?
                    .iter()
                    .zip(texts(&values)?)
                    .filter(|(_, v)| nulls || v.is_some())
                    .map(|(k, v)| Some((k?, v)))
                    .collect();
                let fields = fields.ok_or_else(|| Error::validation("a key of JSON_OBJECTAGG is NULL"))?;
                Ok(ScalarValue::Utf8(Some(json::object(fields)?)))
            }
        }
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        (0..self.types.len())
            .map(|i| {
                let all = self.whole(i)?;
                let item = Arc::new(Field::new_list_field(all.data_type().clone(), true));
                let offsets = OffsetBuffer::from_lengths([all.len()]);
                Ok(ScalarValue::List(Arc::new(ListArray::try_new(item, offsets, all, None)?)))
            })
            .collect()
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.pieces.iter().flatten().map(|p| p.get_array_memory_size()).sum::<usize>()
    }
}
