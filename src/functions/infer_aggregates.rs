//! The SQL types of aggregates as Flink infers them.
//!
//! | aggregate | type | NULL |
//! |---|---|---|
//! | COUNT, APPROX_COUNT_DISTINCT | BIGINT | never |
//! | MIN, MAX, FIRST_VALUE, LAST_VALUE, SINGLE_VALUE | that of the argument | if the argument can be, without GROUP BY, with FILTER |
//! | SUM, AVG, STDDEV…, VAR… | as Arrow knows it | the same |
//! | LISTAGG | that of the argument | if the argument can be |
//! | COLLECT | MULTISET of the argument | never |
//! | ARRAY_AGG | ARRAY of the argument | if the argument can be |
//! | JSON_ARRAYAGG, JSON_OBJECTAGG | VARCHAR(2000) | never |

use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::{AggregateFunction, Alias};

use super::infer::Scope;
use crate::error::Result;
use crate::types::{LogicalType, TypeRoot};

impl Scope<'_> {
    /// The type of an aggregate, or of an expression that is grouped by. `grouped`: there is no row of no rows.
    ///
    /// # Errors
    /// For expressions that have no type.
    pub fn type_of_aggregate(&self, e: &Expr, grouped: bool) -> Result<LogicalType> {
        match e {
            Expr::Alias(Alias { expr, .. }) => self.type_of_aggregate(expr, grouped),
            Expr::AggregateFunction(f) => self.aggregate(f, e, grouped),
            other => self.type_of(other),
        }
    }

    fn aggregate(&self, f: &AggregateFunction, e: &Expr, grouped: bool) -> Result<LogicalType> {
        let known = self.arrow(e)?;
        let Some(arg) = f.params.args.first() else { return Ok(known) };
        let arg = self.type_of(arg)?;
        let picked = arg.nullable || !grouped || f.params.filter.is_some();
        let of = |root: TypeRoot, nullable: bool| Ok(LogicalType { root, nullable });
        match f.func.name() {
            "min" | "max" | "first_value" | "last_value" | "single_value" => of(arg.root, picked),
            "sum" | "avg" | "stddev_pop" | "stddev_samp" | "var_pop" | "var_samp" => of(known.root, picked),
            "approx_distinct" => of(known.root, false),
            "listagg" => of(arg.root, arg.nullable),
            "collect" => of(TypeRoot::Multiset(Box::new(arg)), false),
            "array_agg" => {
                let nullable = arg.nullable;
                of(TypeRoot::Array(Box::new(arg)), nullable)
            }
            "json_arrayagg" | "__json_arrayagg_null" | "json_objectagg" | "__json_objectagg_absent" => {
                of(TypeRoot::Varchar(JSON_LENGTH), false)
            }
            _ => Ok(known),
        }
    }
}

/// The length that Flink gives the results of JSON aggregates; longer ones are not cut.
const JSON_LENGTH: u32 = 2000;
