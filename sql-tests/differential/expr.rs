//! Random expressions over the columns of a relation.

use super::random::Random;
use super::tables::{Ty, Value};

/// An expression; columns by their index in the relation (or in both sides of a join, one after the other).
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expr {
    Column(usize),
    Literal(Value, Ty),
    /// Prefix, operands between commas or infix: a template whose `{}` are the operands.
    Call(&'static str, Vec<Expr>),
}

impl Expr {
    /// As SQL, with the names of the columns.
    pub(crate) fn sql(&self, names: &[String]) -> String {
        match self {
            Expr::Column(i) => names[*i].clone(),
            Expr::Literal(value, ty) => value.literal(*ty),
            Expr::Call(template, args) => {
                let mut text = String::new();
                let mut args = args.iter();
                let mut parts = template.split("{}");
                text.push_str(parts.next().unwrap_or_default());
                for part in parts {
                    text.push_str(&args.next().expect("an operand").sql(names));
                    text.push_str(part);
                }
                text
            }
        }
    }
}

fn call(template: &'static str, args: impl IntoIterator<Item = Expr>) -> Expr {
    Expr::Call(template, args.into_iter().collect())
}

/// Columns of a type.
fn of_type(types: &[Ty], ty: Ty) -> Vec<usize> {
    (0..types.len()).filter(|i| types[*i] == ty).collect()
}

/// A column or a literal of a type.
pub(crate) fn leaf(ty: Ty, types: &[Ty], r: &mut Random) -> Expr {
    let columns = of_type(types, ty);
    if columns.is_empty() || r.one_in(5) {
        let value = if r.one_in(8) { Value::Null } else { Value::random(ty, r) };
        return Expr::Literal(value, ty);
    }
    Expr::Column(*r.pick(&columns))
}

/// An expression of a type.
pub(crate) fn random(ty: Ty, types: &[Ty], depth: usize, r: &mut Random) -> Expr {
    if depth == 0 || r.one_in(3) {
        return leaf(ty, types, r);
    }
    let e = |ty: Ty, r: &mut Random| random(ty, types, depth - 1, r);
    if r.one_in(6) {
        let c = condition(types, depth - 1, r);
        return call("CASE WHEN {} THEN {} ELSE {} END", [c, e(ty, r), e(ty, r)]);
    }
    if r.one_in(8) {
        return call("COALESCE({}, {})", [e(ty, r), e(ty, r)]);
    }
    if r.one_in(6) {
        // Functions of users: `functions` has their bodies.
        let of_user = match (ty, r.below(2)) {
            (Ty::Int, 0) => Some(("udf_more({})", vec![Ty::Int])),
            (Ty::Int, _) => Some(("udf_least({}, {})", vec![Ty::Int, Ty::Int])),
            (Ty::Big, _) => Some(("udf_length({}, {})", vec![Ty::Str, Ty::Int])),
            (Ty::Str, 0) => Some(("udf_text({})", vec![Ty::Str])),
            (Ty::Str, _) => Some(("udf_strict({}, {})", vec![Ty::Str, Ty::Int])),
            (Ty::Bool, _) => Some(("udf_known({})", vec![Ty::Int])),
            _ => None,
        };
        if let Some((template, args)) = of_user {
            return call(template, args.into_iter().map(|ty| e(ty, r)).collect::<Vec<_>>());
        }
    }
    match ty {
        Ty::Int => match r.below(5) {
            0 => call("CAST({} + {} AS INT)", [e(Ty::Int, r), e(Ty::Int, r)]),
            1 => call("CAST({} - {} AS INT)", [e(Ty::Int, r), e(Ty::Int, r)]),
            2 => call("CHAR_LENGTH({})", [e(Ty::Str, r)]),
            3 => call("CAST({} * 2 AS INT)", [e(Ty::Int, r)]),
            _ => call("MOD({}, 3)", [e(Ty::Int, r)]),
        },
        Ty::Big => match r.below(3) {
            0 => call("CAST({} + {} AS BIGINT)", [e(Ty::Int, r), e(Ty::Big, r)]),
            1 => call("CAST({} AS BIGINT)", [e(Ty::Int, r)]),
            _ => leaf(ty, types, r),
        },
        Ty::Str => match r.below(4) {
            0 => call("UPPER({})", [e(Ty::Str, r)]),
            1 => call("{} || {}", [leaf(Ty::Str, types, r), leaf(Ty::Str, types, r)]),
            2 => call("CAST({} AS STRING)", [e(*r.pick(&[Ty::Int, Ty::Bool, Ty::Date, Ty::Dec]), r)]),
            _ => leaf(ty, types, r),
        },
        Ty::Bool => condition(types, depth - 1, r),
        Ty::Dec => match r.below(2) {
            0 => call("CAST({} + {} AS DECIMAL(10, 2))", [e(Ty::Dec, r), e(Ty::Int, r)]),
            _ => leaf(ty, types, r),
        },
        Ty::Dbl => match r.below(2) {
            0 => call("CAST({} AS DOUBLE)", [e(Ty::Int, r)]),
            _ => leaf(ty, types, r),
        },
        Ty::Arr => match r.below(2) {
            0 => call("ARRAY[{}, {}]", [e(Ty::Int, r), e(Ty::Int, r)]),
            _ => leaf(ty, types, r),
        },
        Ty::Date | Ty::Time | Ty::Instant => leaf(ty, types, r),
    }
}

/// A condition.
pub(crate) fn condition(types: &[Ty], depth: usize, r: &mut Random) -> Expr {
    if depth > 0 && r.one_in(3) {
        let a = condition(types, depth - 1, r);
        return match r.below(3) {
            0 => call("({} AND {})", [a, condition(types, depth - 1, r)]),
            1 => call("({} OR {})", [a, condition(types, depth - 1, r)]),
            _ => call("(NOT {})", [a]),
        };
    }
    let scalar: Vec<usize> = (0..types.len()).filter(|i| types[*i] != Ty::Arr).collect();
    if scalar.is_empty() || r.one_in(20) {
        return call("({} IS NULL)", [Expr::Column(0)]);
    }
    if r.one_in(40) {
        let without = [
            "(1 > 1)",
            "(1 = 1)",
            "(CURRENT_TIMESTAMP > TIMESTAMP '2020-01-01 00:00:00')",
            "(CURRENT_TIMESTAMP < TIMESTAMP '2020-01-01 00:00:00')",
        ];
        return call(without[r.below(without.len())], []);
    }
    let column = *r.pick(&scalar);
    let ty = types[column];
    let column = Expr::Column(column);
    let other = leaf(ty, types, r);
    match r.below(12) {
        0 => call("({} IS NULL)", [column]),
        1 => call("({} IS NOT NULL)", [column]),
        2 => call("({} IS DISTINCT FROM {})", [column, other]),
        3 => call("({} IS NOT DISTINCT FROM {})", [column, other]),
        4 if ty == Ty::Str => call("({} LIKE 'a%')", [column]),
        5 if ty == Ty::Int => call("({} IN (0, 2, 3))", [column]),
        6 if ty == Ty::Int => call("({} BETWEEN 0 AND 2)", [column]),
        7 | 8 if ty != Ty::Bool => call("({} < {})", [column, other]),
        9 if ty != Ty::Bool => call("({} >= {})", [column, other]),
        10 => call("({} <> {})", [column, other]),
        _ => call("({} = {})", [column, other]),
    }
}
