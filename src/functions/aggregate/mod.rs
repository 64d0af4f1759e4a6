//! Aggregate functions with Flink's result types, for batch and for windowed slices.
//!
//! ```text
//!  sum        in the argument's type, DECIMAL(38, s)        state: sum
//!  avg        in the argument's type, DECIMAL(38, max(6,s)) state: sum, count
//!  variance   VAR_*, STDDEV_* in the argument's type        state: count, mean, m2
//!  pick       FIRST_VALUE, LAST_VALUE, NULLs skipped        state: value
//!  listagg    strings joined in order of arrival            state: text
//!  collect    the multiset of the values                    state: multiset
//!  bitmap     BITMAP_*_AGG                                  state: bitmap
//!  kept       PERCENTILE, SINGLE_VALUE, JSON_ARRAYAGG,
//!             JSON_OBJECTAGG                                state: the values themselves
//!  array_agg  an array in order of arrival                  state: array
//!  distinct   DISTINCT for those above                      state: the set of the values
//! ```
//!
//! State columns are typed and can be merged. From `sum` to `listagg` each has a `GroupsAccumulator` over flat vectors
//! for grouped input and a small `Accumulator` for whole input and OVER, by `value` for those whose state is one value.
//! `collect`, `bitmap`, `kept` and `distinct` keep values anyway and have the `Accumulator` alone, one for each group. ARRAY_AGG
//! is DataFusion's apart from DISTINCT, which is to keep the order too; COUNT, MIN and MAX are DataFusion's as they are.

mod array_agg;
pub(crate) mod avg;
pub(crate) mod bitmap;
mod collect;
mod distinct;
pub(crate) mod json;
mod kept;
pub(crate) mod listagg;
pub(crate) mod percentile;
mod pick;
pub(crate) mod sliding;
pub(crate) mod sum;
mod value;
pub(crate) mod variance;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature,
    TypeSignature, Volatility,
};

use crate::error::{Error, Result};
use crate::functions::signature::call_text;
use crate::types::bitmap_type;
pub(crate) use distinct::Distinct;
use kept::Keeper;

/// All of them.
pub(crate) fn functions() -> Vec<Arc<AggregateUDF>> {
    let kinds = [
        ("sum", Kind::Sum),
        ("avg", Kind::Avg),
        ("var_pop", Kind::Variance(variance::Form::VarPop)),
        ("var_samp", Kind::Variance(variance::Form::VarSamp)),
        ("stddev_pop", Kind::Variance(variance::Form::StddevPop)),
        ("stddev_samp", Kind::Variance(variance::Form::StddevSamp)),
        ("first_value", Kind::Pick { last: false }),
        ("last_value", Kind::Pick { last: true }),
        ("listagg", Kind::Listagg),
        ("collect", Kind::Collect),
        ("percentile", Kind::Kept(Keeper::Percentile)),
        ("single_value", Kind::Kept(Keeper::Single)),
        ("json_arrayagg", Kind::Kept(Keeper::JsonArray { nulls: false })),
        ("__json_arrayagg_null", Kind::Kept(Keeper::JsonArray { nulls: true })),
        ("json_objectagg", Kind::Kept(Keeper::JsonObject { nulls: true })),
        ("__json_objectagg_absent", Kind::Kept(Keeper::JsonObject { nulls: false })),
    ];
    let bitmaps = [
        "bitmap_build_agg",
        "bitmap_build_cardinality_agg",
        "bitmap_and_agg",
        "bitmap_and_cardinality_agg",
        "bitmap_or_agg",
        "bitmap_or_cardinality_agg",
        "bitmap_xor_agg",
        "bitmap_xor_cardinality_agg",
    ];
    let bitmaps = bitmaps
        .into_iter()
        .filter_map(|name| bitmap::Op::of(name).map(|(op, counts)| (name, Kind::Bitmap { op, counts })));
    kinds
        .into_iter()
        .chain(bitmaps)
        .map(|(name, kind)| {
            Arc::new(AggregateUDF::new_from_impl(Aggregate {
                name,
                kind,
                signature: Signature::new(TypeSignature::UserDefined, Volatility::Immutable),
            }))
        })
        .chain([array_agg::function()])
        .collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Sum,
    Avg,
    Variance(variance::Form),
    Pick { last: bool },
    Listagg,
    Collect,
    Bitmap { op: bitmap::Op, counts: bool },
    Kept(Keeper),
}

/// One of Flink's aggregate functions.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Aggregate {
    name: &'static str,
    kind: Kind,
    signature: Signature,
}

impl Aggregate {
    fn mismatch(&self, types: &[DataType]) -> Error {
        let supported = match self.kind {
            Kind::Kept(keeper) => keeper.usage().to_owned(),
            Kind::Listagg => "LISTAGG(<CHARACTER>[, <CHARACTER>])".to_owned(),
            Kind::Bitmap { op: bitmap::Op::Build, .. } => format!("{}(<INTEGER>)", self.name.to_uppercase()),
            Kind::Bitmap { .. } => format!("{}(<BITMAP>)", self.name.to_uppercase()),
            Kind::Pick { .. } | Kind::Collect => format!("{}(<ANY>)", self.name.to_uppercase()),
            _ => format!("{}(<NUMERIC>)", self.name.to_uppercase()),
        };
        let name = self.name.trim_start_matches("__").to_uppercase();
        Error::validation(format!("cannot apply {name} to arguments of type {}", call_text(&name, types)))
            .hint(format!("supported: {supported}"))
    }

    fn result(&self, types: &[DataType]) -> Result<DataType> {
        let bad = || self.mismatch(types);
        match (self.kind, types) {
            (Kind::Sum, [t]) => sum::result_type(t).ok_or_else(bad),
            (Kind::Avg | Kind::Variance(_), [t]) => avg::result_type(t).ok_or_else(bad),
            (Kind::Pick { .. }, [t]) => Ok(t.clone()),
            (Kind::Kept(keeper), types) => keeper.result_type(types).ok_or_else(bad),
            (Kind::Collect, [t]) => collect::result_type(t).ok_or_else(bad),
            (Kind::Bitmap { op, counts }, [t]) if op.takes(t) => Ok(bitmap::result_type(counts)),
            (Kind::Listagg, [t] | [t, _]) if matches!(t, DataType::Utf8 | DataType::Null) => {
                Ok(DataType::Utf8)
            }
            _ => Err(bad()),
        }
    }

    fn argument<'a>(&self, args: &'a AccumulatorArgs<'_>) -> Result<&'a DataType> {
        args.expr_fields
            .first()
            .map(|f| f.data_type())
            .ok_or_else(|| Error::internal(format!("{} without an argument", self.name)))
    }

    fn plain_accumulator(&self, args: &AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let t = self.argument(args)?;
        let out = args.return_field.data_type();
        match self.kind {
            Kind::Sum => sum::accumulator(t, out),
            Kind::Avg => avg::accumulator(t, out),
            Kind::Variance(form) => Ok(variance::accumulator(form, out)),
            Kind::Pick { last } => Ok(pick::accumulator(last != args.is_reversed, t)?),
            Kind::Listagg => Ok(listagg::accumulator(listagg::separator(args.exprs)?)),
            Kind::Collect => Ok(Box::new(collect::Collect::new(out.clone()))),
            Kind::Bitmap { op, counts } => Ok(Box::new(bitmap::BitmapAggregate::new(op, counts))),
            Kind::Kept(keeper) => {
                let types: Vec<DataType> = args.expr_fields.iter().map(|f| f.data_type().clone()).collect();
                Ok(Box::new(kept::Kept::new(keeper, &types, args.exprs, args.is_distinct)?))
            }
        }
    }
}

impl AggregateUDFImpl for Aggregate {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> DfResult<Vec<DataType>> {
        let text = |t: &DataType| match t {
            DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
            DataType::Null if self.kind == Kind::Listagg => DataType::Utf8,
            DataType::Null if matches!(self.kind, Kind::Kept(_)) => DataType::Utf8,
            DataType::Null if matches!(self.kind, Kind::Bitmap { op, .. } if op != bitmap::Op::Build) => {
                bitmap_type()
            }
            DataType::Null if !matches!(self.kind, Kind::Pick { .. }) => DataType::Int32,
            t => t.clone(),
        };
        if self.kind == Kind::Kept(Keeper::Percentile) {
            return Ok(percentile::coerce(arg_types).ok_or_else(|| self.mismatch(arg_types))?);
        }
        Ok(arg_types.iter().map(text).collect())
    }

    fn return_type(&self, arg_types: &[DataType]) -> DfResult<DataType> {
        Ok(self.result(arg_types)?)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> DfResult<Vec<FieldRef>> {
        let t = args.input_fields.first().map_or(DataType::Null, |f| f.data_type().clone());
        if args.is_distinct {
            let item = Field::new_list_field(t, true);
            return Ok(vec![Arc::new(Field::new_list(format_state_name(args.name, "distinct"), item, true))]);
        }
        let field =
            |suffix: &str, t: DataType| Arc::new(Field::new(format_state_name(args.name, suffix), t, true));
        Ok(match self.kind {
            Kind::Sum => vec![field("sum", args.return_field.data_type().clone())],
            Kind::Avg => {
                let sum = avg::sum_type(&t).ok_or_else(|| self.mismatch(std::slice::from_ref(&t)))?;
                vec![field("sum", sum), field("count", DataType::Int64)]
            }
            Kind::Variance(_) => vec![
                field("count", DataType::Int64),
                field("mean", DataType::Float64),
                field("m2", DataType::Float64),
            ],
            Kind::Pick { .. } => vec![field("value", t)],
            Kind::Listagg => vec![field("text", DataType::Utf8)],
            Kind::Kept(keeper) => keeper
                .kept_columns(args.input_fields.len())
                .into_iter()
                .filter_map(|i| args.input_fields.get(i))
                .map(|f| {
                    let item = Field::new_list_field(f.data_type().clone(), true);
                    Arc::new(Field::new_list(format_state_name(args.name, f.name()), item, true))
                })
                .collect(),
            Kind::Collect => vec![field("values", args.return_field.data_type().clone())],
            Kind::Bitmap { .. } => vec![field("bitmap", bitmap_type())],
        })
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> DfResult<Box<dyn Accumulator>> {
        let plain = self.plain_accumulator(&args)?;
        if args.is_distinct {
            return Ok(Box::new(Distinct::new(plain, self.argument(&args)?.clone(), false)));
        }
        Ok(plain)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        !args.is_distinct && !matches!(self.kind, Kind::Collect | Kind::Bitmap { .. } | Kind::Kept(_))
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> DfResult<Box<dyn GroupsAccumulator>> {
        let t = self.argument(&args)?;
        let out = args.return_field.data_type();
        Ok(match self.kind {
            Kind::Sum => sum::groups(t, out)?,
            Kind::Avg => avg::groups(t, out)?,
            Kind::Variance(form) => Box::new(variance::VarianceGroups::new(form, out.clone())),
            Kind::Pick { last } => pick::groups(last != args.is_reversed, t),
            Kind::Listagg => listagg::groups(listagg::separator(args.exprs)?),
            Kind::Collect | Kind::Bitmap { .. } | Kind::Kept(_) => {
                return Err(Error::internal(format!("{} has no grouped state", self.name)).into());
            }
        })
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        match self.kind {
            Kind::Sum | Kind::Avg | Kind::Variance(_) => ReversedUDAF::Identical,
            _ => ReversedUDAF::NotSupported,
        }
    }

    fn supports_null_handling_clause(&self) -> bool {
        false
    }
}

/// Calls `f(group, row)` for the rows that are neither null nor filtered out.
#[inline]
pub(crate) fn for_each_valid(
    group_indices: &[usize],
    nulls: Option<&NullBuffer>,
    filter: Option<&BooleanArray>,
    mut f: impl FnMut(usize, usize),
) {
    let nulls = nulls.filter(|n| n.null_count() > 0);
    match (nulls, filter) {
        (None, None) => group_indices.iter().enumerate().for_each(|(row, group)| f(*group, row)),
        (nulls, filter) => {
            for (row, group) in group_indices.iter().enumerate() {
                let valid = nulls.is_none_or(|n| n.is_valid(row))
                    && filter.is_none_or(|b| b.is_valid(row) && b.value(row));
                if valid {
                    f(*group, row);
                }
            }
        }
    }
}

/// The first argument of a batch.
pub(crate) fn first(values: &[ArrayRef]) -> DfResult<&ArrayRef> {
    values.first().ok_or_else(|| Error::internal("an aggregate without an argument").into())
}

/// Validity for the emitted groups.
pub(crate) fn validity(seen: &mut Vec<bool>, emit: EmitTo) -> Option<NullBuffer> {
    let seen = emit.take_needed(seen);
    if seen.iter().all(|s| *s) { None } else { Some(NullBuffer::from(seen)) }
}

/// The rows that a filter drops, made null: an input batch as states.
pub(crate) fn masked(values: &ArrayRef, filter: Option<&BooleanArray>) -> DfResult<ArrayRef> {
    match filter {
        None => Ok(Arc::clone(values)),
        Some(f) => {
            let dropped: BooleanArray = f.iter().map(|keep| Some(!keep.unwrap_or(false))).collect();
            Ok(arrow::compute::nullif(values, &dropped)?)
        }
    }
}
