//! The functions by name: Flink's own, and DataFusion's where Flink has none of that name.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};
use datafusion::optimizer::analyzer::AnalyzerRule;

use crate::error::Error;
use crate::functions::context::FunctionContext;
use crate::functions::infix::FlinkExprPlanner;
use crate::functions::random::Randoms;
use crate::functions::rules::FlinkSemantics;
use crate::functions::signature::call_text;
use crate::functions::udf::{Builtin, Nulls, Ret};
use crate::functions::{
    aggregate, bitmap, cast, collection, json, math, ranks, reference, strings, temporal, type_of,
};

/// Every scalar function of a session: Flink's, then DataFusion's own under names that Flink does not use.
pub fn scalar_functions(context: &FunctionContext) -> Vec<Arc<ScalarUDF>> {
    let mut by_name: BTreeMap<String, Arc<ScalarUDF>> = BTreeMap::new();
    for f in flink_scalars(context) {
        by_name.insert(f.name().to_owned(), f);
    }
    let foreign = datafusion::functions::all_default_functions()
        .into_iter()
        .chain(datafusion::functions_nested::all_default_nested_functions());
    for f in foreign {
        for name in std::iter::once(f.name()).chain(f.aliases().iter().map(String::as_str)) {
            if !NOT_OFFERED.contains(&name) && !by_name.contains_key(name) && f.name() == name {
                by_name.insert(name.to_owned(), Arc::clone(&f));
            }
        }
    }
    by_name.into_values().collect()
}

/// Names whose DataFusion meaning would mislead, as they are spelled like Flink's functions or return its types wrongly, and
/// functions that panic: for ranges without an end, and for arrays that are asked to be larger than the memory.
const NOT_OFFERED: &[&str] = &[
    "to_timestamp",
    "to_unixtime",
    "now",
    "random",
    "uuid",
    "date_part",
    "extract",
    "range",
    "generate_series",
    "gen_series",
    "array_repeat",
    "list_repeat",
];

fn flink_scalars(context: &FunctionContext) -> Vec<Arc<ScalarUDF>> {
    let mut out = temporal::functions(context);
    out.extend(strings::functions());
    out.extend(math::functions(context));
    out.extend(collection::functions());
    out.extend(json::functions());
    out.extend(bitmap::functions());
    out.push(current_database(context));
    out.extend(type_of::functions());
    out.push(cast::tag_function());
    let randoms = Randoms::default();
    out.extend(["rand", "rand_integer"].iter().filter_map(|name| randoms.call(name)));
    out
}

fn current_database(context: &FunctionContext) -> Arc<ScalarUDF> {
    let name = context.current_database.clone();
    Builtin::new("current_database", "", Ret::Type(DataType::Utf8), move |c| {
        Ok(Arc::new(arrow::array::StringArray::from_iter_values(std::iter::repeat_n(&name, c.rows))))
    })
    .nulls(Nulls::Never)
    .volatility(datafusion::logical_expr::Volatility::Stable)
    .build()
}

/// Every aggregate function.
pub fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    let mut by_name: BTreeMap<String, Arc<AggregateUDF>> = BTreeMap::new();
    for f in datafusion::functions_aggregate::all_default_aggregate_functions() {
        by_name.insert(f.name().to_owned(), f);
    }
    for f in aggregate::functions() {
        by_name.insert(f.name().to_owned(), f);
    }
    by_name.into_values().collect()
}

/// Every window function.
pub fn window_functions() -> Vec<Arc<WindowUDF>> {
    datafusion::functions_window::all_default_window_functions().into_iter().map(ranks::as_bigint).collect()
}

/// Planners of operators and constructors: Flink's first, then the ones of DataFusion that they build on.
pub fn expr_planners(context: &FunctionContext) -> Vec<Arc<dyn ExprPlanner>> {
    vec![
        Arc::new(FlinkExprPlanner::new(context)),
        Arc::new(datafusion::functions::core::planner::CoreFunctionPlanner::default()),
        Arc::new(datafusion::functions_nested::planner::NestedFunctionPlanner),
        Arc::new(datafusion::functions_nested::planner::FieldAccessPlanner),
        Arc::new(datafusion::functions_aggregate::planner::AggregateFunctionPlanner),
        Arc::new(datafusion::functions_window::planner::WindowFunctionPlanner),
    ]
}

/// Rules that have to run before DataFusion's own analyzer rules.
pub fn analyzer_rules(context: &FunctionContext) -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    vec![Arc::new(FlinkSemantics::new(context))]
}

/// The names that users call, in capitals and sorted; for `SHOW FUNCTIONS`.
pub fn names() -> Vec<String> {
    let mut out: Vec<String> = flink_scalars(&FunctionContext::default())
        .iter()
        .map(|f| f.name().to_owned())
        .chain(aggregate_functions().iter().map(|f| f.name().to_owned()))
        .chain(window_functions().iter().map(|f| f.name().to_owned()))
        .chain(SYNTAX.iter().map(|s| (*s).to_owned()))
        .filter(|n| !n.starts_with("__"))
        .map(|n| n.to_uppercase())
        .collect();
    out.sort();
    out.dedup();
    out
}

/// Names that the rewrite turns into something else.
const SYNTAX: &[&str] = &[
    "approx_count_distinct",
    "ceiling",
    "character_length",
    "group_id",
    "grouping",
    "grouping_id",
    "if",
    "ifnull",
    "mod",
    "nullif",
    "stddev",
    "substr",
    "variance",
];

/// A stand-in for an unknown function: planning a call of it gives [`unknown_function`] with the argument types.
/// Return it from `get_function_meta` when no function, aggregate or window function has the name.
pub fn missing_function(name: &str, others: Vec<String>) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(missing::Missing::new(name, others, None)))
}

/// A stand-in for a function that cannot be called here, for the reason given.
pub fn refused_function(name: &str, reason: Error) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(missing::Missing::new(name, Vec::new(), Some(reason))))
}

/// Whether a name is that of one of Flink's functions here, in any case.
pub fn is_builtin(name: &str) -> bool {
    let (lower, upper) = (name.to_lowercase(), name.to_uppercase());
    lower.starts_with("__")
        || SYNTAX.contains(&lower.as_str())
        || reference::is_documented(&upper)
        || flink_scalars(&FunctionContext::default()).iter().any(|f| f.name() == lower)
        || aggregate::functions().iter().any(|f| f.name() == lower)
        || window_functions().iter().any(|f| f.name() == lower)
}

/// `No match found for function signature f(<NUMERIC>)`, with the nearest name. `others` are names beside the built-in
/// ones.
pub fn unknown_function(name: &str, types: &[DataType], others: &[String]) -> Error {
    let e = Error::validation(format!("No match found for function signature {}", call_text(name, types)));
    let upper = name.to_uppercase();
    if upper == "SOURCE_WATERMARK" {
        return Error::unsupported(
            "SOURCE_WATERMARK() needs a connector that gives watermarks of its own, and none does",
        )
        .hint("write WATERMARK FOR ts AS ts - INTERVAL '5' SECOND");
    }
    if let Some((_, instead)) = INSTEAD.iter().find(|(n, _)| *n == upper) {
        return e.hint(format!("use {instead}"));
    }
    near_name(e, &upper, others)
}

/// The error for a function that DESCRIBE does not know, with the nearest name.
pub fn undescribed_function(name: &str, others: &[String]) -> Error {
    near_name(Error::validation(format!("there is no function {name}")), &name.to_uppercase(), others)
}

fn near_name(e: Error, upper: &str, others: &[String]) -> Error {
    let near = names()
        .into_iter()
        .chain(others.iter().map(|n| n.to_uppercase()))
        .map(|n| (strsim::levenshtein(&n, upper), n))
        .min()
        .filter(|(d, _)| *d <= (upper.chars().count() / 3).max(1));
    match near {
        Some((_, n)) => e.hint(format!("did you mean {n}?")),
        None => e.hint("SHOW FUNCTIONS lists what there is"),
    }
}

/// What Flink has instead of names known from other systems.
const INSTEAD: &[(&str, &str)] = &[
    ("DATEDIFF", "TIMESTAMPDIFF(unit, a, b)"),
    ("DATE_ADD", "TIMESTAMPADD(unit, n, t) or t + INTERVAL '1' DAY"),
    ("DATE_SUB", "TIMESTAMPADD(unit, -n, t) or t - INTERVAL '1' DAY"),
    ("DAY", "DAYOFMONTH(t)"),
    ("GROUP_CONCAT", "LISTAGG(s, ',')"),
    ("NVL", "COALESCE(a, b)"),
    ("JSON", "JSON(s) as a value of JSON_OBJECT or JSON_ARRAY; elsewhere JSON is a STRING"),
    ("DATE_PART", "EXTRACT(unit FROM t)"),
    ("CUMULATE", "the window table function: FROM TABLE(CUMULATE(TABLE t, DESCRIPTOR(ts), step, size))"),
    ("TO_UNIXTIME", "UNIX_TIMESTAMP(s)"),
];

mod missing {

    use std::hash::{Hash, Hasher};

    use arrow::datatypes::{DataType, FieldRef};
    use datafusion::error::Result as DfResult;
    use datafusion::logical_expr::{
        ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, TypeSignature,
        Volatility,
    };

    use crate::error::Error;

    /// Takes anything and fails with the types it got.
    #[derive(Debug)]
    pub(super) struct Missing {
        name: String,
        others: Vec<String>,
        reason: Option<Error>,
        signature: Signature,
    }

    impl PartialEq for Missing {
        fn eq(&self, other: &Self) -> bool {
            self.name == other.name
        }
    }

    impl Eq for Missing {}

    impl Hash for Missing {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.name.hash(state);
        }
    }

    impl Missing {
        fn error(&self, types: &[DataType]) -> Error {
            let reason = self.reason.as_ref().map(Error::duplicate);
            reason.unwrap_or_else(|| super::unknown_function(&self.name, types, &self.others))
        }

        pub(super) fn new(name: &str, others: Vec<String>, reason: Option<Error>) -> Self {
            Missing {
                others,
                reason,
                name: name.to_owned(),
                signature: Signature::new(TypeSignature::UserDefined, Volatility::Immutable),
            }
        }
    }

    impl ScalarUDFImpl for Missing {
        fn name(&self) -> &str {
            &self.name
        }

        fn signature(&self) -> &Signature {
            &self.signature
        }

        fn return_type(&self, arg_types: &[DataType]) -> DfResult<DataType> {
            Err(self.error(arg_types).into())
        }

        fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
            let types: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
            Err(self.error(&types).into())
        }

        fn coerce_types(&self, arg_types: &[DataType]) -> DfResult<Vec<DataType>> {
            Ok(arg_types.to_vec())
        }

        fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
            Err(self.error(&[]).into())
        }
    }
}
