//! Which functions take OVER, FILTER, DISTINCT, and how many arguments those of DataFusion take: it drops the former in
//! silence behind a scalar function, and tells of the latter in words of its own.

use std::collections::HashMap;
use std::sync::LazyLock;

use datafusion::sql::sqlparser::ast::{DuplicateTreatment, Function, FunctionArguments};

use crate::error::{Error, Result};
use crate::functions::context::FunctionContext;
use crate::functions::registry::{aggregate_functions, scalar_functions, unknown_function, window_functions};
use crate::functions::signature::arguments;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Scalar,
    Aggregate,
    Window,
}

static KINDS: LazyLock<HashMap<String, Kind>> = LazyLock::new(|| {
    let mut kinds = HashMap::new();
    // A scalar function of that name comes first, as for the planner; FIRST_VALUE is an aggregate and a window function.
    kinds.extend(window_functions().iter().map(|f| (f.name().to_lowercase(), Kind::Window)));
    kinds.extend(aggregate_functions().iter().map(|f| (f.name().to_lowercase(), Kind::Aggregate)));
    kinds.extend(
        scalar_functions(&FunctionContext::default()).iter().map(|f| (f.name().to_lowercase(), Kind::Scalar)),
    );
    kinds
});

/// Fewest and most arguments.
const COUNTS: [(&str, usize, usize); 13] = [
    ("approx_count_distinct", 1, 1),
    ("count", 1, 1),
    ("cume_dist", 0, 0),
    ("dense_rank", 0, 0),
    ("lag", 1, 3),
    ("lead", 1, 3),
    ("max", 1, 1),
    ("min", 1, 1),
    ("nth_value", 2, 2),
    ("ntile", 1, 1),
    ("percent_rank", 0, 0),
    ("rank", 0, 0),
    ("row_number", 0, 0),
];

/// Refuses clauses behind a call that its function does not take, and a wrong number of arguments.
pub(crate) fn check_call(name: &str, f: &Function) -> Result<()> {
    let upper = name.to_uppercase();
    if KINDS.get(name) == Some(&Kind::Scalar) {
        let distinct = matches!(&f.args, FunctionArguments::List(list) if list.duplicate_treatment == Some(DuplicateTreatment::Distinct));
        let clause = match (&f.over, &f.filter) {
            (Some(_), _) => "OVER",
            (_, Some(_)) => "FILTER",
            _ if distinct => "DISTINCT",
            _ if f.null_treatment.is_some() => "IGNORE or RESPECT NULLS",
            _ if !f.within_group.is_empty() => "WITHIN GROUP",
            _ => return Ok(()),
        };
        return Err(Error::validation(format!(
            "{upper} is neither an aggregate nor a window function and takes no {clause}"
        ))
        .hint(format!("leave {clause} out")));
    }
    let FunctionArguments::List(list) = &f.args else { return Ok(()) };
    match COUNTS.iter().find(|(known, _, _)| *known == name) {
        Some((_, least, most)) if !(*least..=*most).contains(&list.args.len()) => {
            let takes =
                if least == most { arguments(*least) } else { format!("{least} to {}", arguments(*most)) };
            let e = Error::validation(format!("{upper} takes {takes}, not {}", list.args.len()));
            Err(match name {
                "count" => {
                    e.hint("COUNT(*) counts rows, COUNT(x) values, COUNT(DISTINCT ROW(x, y)) different pairs")
                }
                _ => e,
            })
        }
        _ => Ok(()),
    }
}

/// The error for a function that the planner knows with OVER alone, or not at all.
pub fn without_over(name: &str) -> Error {
    let upper = name.to_uppercase();
    match KINDS.get(&name.to_lowercase()) {
        Some(Kind::Window) => Error::validation(format!("{upper} is a window function and needs OVER"))
            .hint(format!("write {upper}(…) OVER (PARTITION BY … ORDER BY …)")),
        Some(_) => Error::validation(format!("{upper} is no window function")).hint("leave OVER out"),
        None => unknown_function(name, &[], &[]),
    }
}
