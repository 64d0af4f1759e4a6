//! DataFusion filters as Iceberg predicates, for pruning manifests, files and row groups.
//!
//! Iceberg evaluates a predicate as if it were exact, so only what means exactly the same is translated: a column that
//! reads without conversion, compared with a literal of its own type. Conjuncts that do not qualify are left to the
//! query, which evaluates every filter again anyway. (`iceberg-datafusion`'s translation looks through casts, by which
//! `CAST(double_column AS INT) = 3` loses rows; floats differ in the order of NaN.)

use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Like, Operator};
use iceberg::expr::{Predicate, Reference};
use iceberg::spec::{Datum, PrimitiveType};

/// A column that may appear in a predicate: its name in the schema of the snapshot that is read, and its type.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<(String, PrimitiveType)>;

/// The conjunction of all conjuncts that can be translated.
pub(super) fn to_predicate(filters: &[Expr], lookup: Lookup<'_>) -> Option<Predicate> {
    let mut conjuncts = Vec::new();
    for f in filters {
        split(f, &mut conjuncts);
    }
    conjuncts.into_iter().filter_map(|e| exact(e, lookup)).reduce(Predicate::and)
}

fn split<'a>(expr: &'a Expr, into: &mut Vec<&'a Expr>) {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            split(left, into);
            split(right, into);
        }
        Expr::Alias(a) => split(&a.expr, into),
        _ => into.push(expr),
    }
}

/// A predicate that is true for exactly the rows for which `expr` is true, and null or false elsewhere.
fn exact(expr: &Expr, lookup: Lookup<'_>) -> Option<Predicate> {
    match expr {
        Expr::Alias(a) => exact(&a.expr, lookup),
        Expr::Column(_) => {
            let (r, ty) = column(expr, lookup)?;
            (ty == PrimitiveType::Boolean).then(|| r.equal_to(Datum::bool(true)))
        }
        Expr::Not(e) => match e.as_ref() {
            Expr::Column(_) => {
                let (r, ty) = column(e, lookup)?;
                (ty == PrimitiveType::Boolean).then(|| r.equal_to(Datum::bool(false)))
            }
            // NOT of a compound would have to mind three-valued logic inside; the optimizer pushes NOT down anyway.
            Expr::BinaryExpr(_) => None,
            _ => None,
        },
        Expr::IsNull(e) => Some(any_column(e, lookup)?.is_null()),
        Expr::IsNotNull(e) => Some(any_column(e, lookup)?.is_not_null()),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::And => Some(exact(left, lookup)?.and(exact(right, lookup)?)),
            Operator::Or => Some(exact(left, lookup)?.or(exact(right, lookup)?)),
            Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq => {
                if let Some((r, d)) = column_and_literal(left, right, lookup) {
                    compare(r, *op, d)
                } else {
                    let (r, d) = column_and_literal(right, left, lookup)?;
                    compare(r, op.swap()?, d)
                }
            }
            _ => None,
        },
        Expr::Between(Between { expr, negated: false, low, high }) => {
            let (r, low) = column_and_literal(expr, low, lookup)?;
            let (r2, high) = column_and_literal(expr, high, lookup)?;
            Some(r.greater_than_or_equal_to(low).and(r2.less_than_or_equal_to(high)))
        }
        Expr::InList(list) => {
            let (r, ty) = column(&list.expr, lookup)?;
            let values = list
                .list
                .iter()
                .map(|e| literal(e).and_then(|l| datum(l, &ty)))
                .collect::<Option<Vec<_>>>()?;
            if values.is_empty() {
                return None;
            }
            Some(if list.negated { r.is_not_in(values) } else { r.is_in(values) })
        }
        Expr::Like(Like { negated: false, expr, pattern, escape_char: None, case_insensitive: false }) => {
            let (r, ty) = column(expr, lookup)?;
            let (Some(ScalarValue::Utf8(Some(p))), PrimitiveType::String) = (literal(pattern), ty) else {
                return None;
            };
            let prefix = p.strip_suffix('%')?;
            (!prefix.is_empty() && !prefix.contains(['%', '_', '\\']))
                .then(|| r.starts_with(Datum::string(prefix)))
        }
        _ => None,
    }
}

fn compare(r: Reference, op: Operator, d: Datum) -> Option<Predicate> {
    Some(match op {
        Operator::Eq => r.equal_to(d),
        Operator::NotEq => r.not_equal_to(d),
        Operator::Lt => r.less_than(d),
        Operator::LtEq => r.less_than_or_equal_to(d),
        Operator::Gt => r.greater_than(d),
        Operator::GtEq => r.greater_than_or_equal_to(d),
        _ => return None,
    })
}

fn any_column(expr: &Expr, lookup: Lookup<'_>) -> Option<Reference> {
    match expr {
        Expr::Column(c) => lookup(&c.name).map(|(name, _)| Reference::new(name)),
        _ => None,
    }
}

fn column(expr: &Expr, lookup: Lookup<'_>) -> Option<(Reference, PrimitiveType)> {
    match expr {
        Expr::Column(c) => lookup(&c.name).map(|(name, ty)| (Reference::new(name), ty)),
        _ => None,
    }
}

fn literal(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Literal(v, _) => Some(v),
        _ => None,
    }
}

fn column_and_literal(c: &Expr, l: &Expr, lookup: Lookup<'_>) -> Option<(Reference, Datum)> {
    let (r, ty) = column(c, lookup)?;
    Some((r, datum(literal(l)?, &ty)?))
}

fn datum(value: &ScalarValue, ty: &PrimitiveType) -> Option<Datum> {
    use PrimitiveType as P;
    use ScalarValue as S;
    Some(match (ty, value) {
        (P::Boolean, S::Boolean(Some(v))) => Datum::bool(*v),
        (P::Int, S::Int32(Some(v))) => Datum::int(*v),
        (P::Long, S::Int64(Some(v))) => Datum::long(*v),
        (P::Date, S::Date32(Some(v))) => Datum::date(*v),
        (P::Timestamp, S::TimestampMicrosecond(Some(v), None)) => Datum::timestamp_micros(*v),
        // An instant is the same whatever zone it is shown in.
        (P::Timestamptz, S::TimestampMicrosecond(Some(v), Some(_))) => Datum::timestamptz_micros(*v),
        (P::String, S::Utf8(Some(v)) | S::LargeUtf8(Some(v)) | S::Utf8View(Some(v))) => Datum::string(v),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;
    use datafusion::logical_expr::{cast, col, lit};

    use super::*;

    fn shown(e: Expr) -> String {
        let lookup = |name: &str| {
            let ty = match name {
                "a" => PrimitiveType::Int,
                "d" => PrimitiveType::Double,
                "s" => PrimitiveType::String,
                "b" => PrimitiveType::Boolean,
                _ => return None,
            };
            Some((name.to_owned(), ty))
        };
        to_predicate(&[e], &lookup).map_or("-".to_owned(), |p| p.to_string())
    }

    #[test]
    fn translates_only_what_is_exact() {
        assert_eq!(shown(col("a").gt(lit(3))), "a > 3");
        assert_eq!(shown(lit(3).gt(col("a"))), "a < 3");
        assert_eq!(shown(col("a").gt(lit(3)).and(col("d").gt(lit(1.0)))), "a > 3");
        assert_eq!(shown(col("a").gt(lit(3)).or(col("d").gt(lit(1.0)))), "-");
        assert_eq!(shown(cast(col("d"), DataType::Int32).eq(lit(3))), "-");
        assert_eq!(shown(col("a").eq(lit(3i64))), "-");
        assert_eq!(shown(col("s").like(lit("ab%"))), "s STARTS WITH \"ab\"");
        assert_eq!(shown(col("s").like(lit("a%b%"))), "-");
        assert_eq!(shown(col("b")), "b = true");
        assert_eq!(shown(col("a").in_list(vec![lit(1), lit(ScalarValue::Int32(None))], true)), "-");
        assert_eq!(shown(col("d").is_null()), "d IS NULL");
    }
}
