//! Joins whose condition keeps the row times of both sides within an interval, or the sides within the same windows.
//!
//! ```text
//!  l.k = r.k AND l.ts >= r.ts - INTERVAL '4' HOUR AND l.ts < r.ts AND l.v < r.w
//!      └─► bounds of l.ts - r.ts: [-4 h, -1 ms]        residual condition: l.v < r.w
//!  l.window_start = r.window_start AND l.window_end = r.window_end AND l.k = r.k
//!      └─► window times that are equal
//! ```

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

use super::join::{Condition, KeyPair};
use super::{ColumnRef, Relation};
use crate::operators::join::{JoinKind, JoinSide};
use crate::plan::interval::nanoseconds;

const NANOS_PER_MILLI: i64 = 1_000_000;
/// What the condition of an interval join says of its times.
pub(super) struct Interval {
    /// Physical row time columns of the left and the right.
    pub(super) times: [usize; 2],
    /// Least and greatest left time less right time, in ms.
    pub(super) bounds: (i64, i64),
    /// The rest of the condition beside the keys.
    pub(super) residual: Option<Expr>,
    /// Of a window join: how far the times of windows are behind those columns, in ms.
    pub(super) window: Option<i64>,
}

/// A row time and what is added to it, in ns.
#[derive(Clone, Copy)]
struct Time {
    side: JoinSide,
    column: usize,
    plus: i64,
}

/// The interval of a join, if it is one: both row times of append-only inputs, bounded below and above.
pub(super) fn interval_of(
    kind: JoinKind,
    condition: &Condition,
    left: &Relation,
    right: &Relation,
) -> Option<Interval> {
    use JoinKind::{Full, Inner, Left, LeftAnti, LeftSemi, Right};
    if !matches!(kind, Inner | Left | Right | Full | LeftSemi | LeftAnti)
        || !left.changelog.is_append_only()
        || !right.changelog.is_append_only()
    {
        return None;
    }
    if let Some((times, behind)) = equal_windows(condition, left, right) {
        let residual = condition.residual.clone();
        return Some(Interval { times, bounds: (0, 0), residual, window: Some(behind) });
    }
    let mut times: Option<[usize; 2]> = None;
    let (mut least, mut greatest) = (None, None);
    let mut residual = Vec::new();
    for part in condition.residual.iter().flat_map(split_conjunction) {
        let Some((of, op, nanos)) = difference(part, left, right) else {
            residual.push(part.clone());
            continue;
        };
        let types = [left.physical.field(of[0]).data_type(), right.physical.field(of[1]).data_type()];
        if types[0] != types[1] || *times.get_or_insert(of) != of {
            residual.push(part.clone());
            continue;
        }
        let is_exact =
            matches!(types[0], DataType::Timestamp(TimeUnit::Millisecond, _)) && nanos % NANOS_PER_MILLI == 0;
        let millis = nanos.div_euclid(NANOS_PER_MILLI);
        // Where milliseconds cannot tell, they let too much through, and the condition decides.
        let (from, to) = match (op, is_exact) {
            (Operator::Lt, true) => (None, Some(millis.saturating_sub(1))),
            (Operator::Gt, true) => (Some(millis.saturating_add(1)), None),
            (Operator::LtEq, true) => (None, Some(millis)),
            (Operator::GtEq, true) => (Some(millis), None),
            (Operator::Eq, true) => (Some(millis), Some(millis)),
            (Operator::Lt | Operator::LtEq, false) => (None, Some(millis.saturating_add(2))),
            (Operator::Gt | Operator::GtEq, false) => (Some(millis.saturating_sub(1)), None),
            (_, _) => (Some(millis.saturating_sub(1)), Some(millis.saturating_add(2))),
        };
        least = [least, from].into_iter().flatten().max();
        greatest = [greatest, to].into_iter().flatten().min();
        if !is_exact {
            residual.push(part.clone());
        }
    }
    if let (None, Some((of, nanos))) =
        (times, condition.keys.iter().find_map(|k| equal_times(k, left, right)))
    {
        // The key decides; milliseconds let through no less.
        let millis = nanos.div_euclid(NANOS_PER_MILLI);
        (times, least, greatest) = (Some(of), Some(millis.saturating_sub(1)), Some(millis.saturating_add(1)));
    }
    let residual = conjunction(residual);
    Some(Interval { times: times?, bounds: (least?, greatest?), residual, window: None })
}

/// Where the keys are the windows of both sides: columns of the windows' times, or of their ends and how far the times are
/// behind them.
fn equal_windows(condition: &Condition, left: &Relation, right: &Relation) -> Option<([usize; 2], i64)> {
    let (l, r) = (left.attached?, right.attached?);
    let physical = |relation: &Relation, expr: &Expr| match relation.columns[relation.column_of(expr)?] {
        ColumnRef::Physical(p) => Some(p),
        _ => None,
    };
    let is_key = |of: [usize; 2]| {
        let is =
            |k: &KeyPair| physical(left, &k.left) == Some(of[0]) && physical(right, &k.right) == Some(of[1]);
        condition.keys.iter().any(is)
    };
    if l.zone != r.zone || !is_key([l.start, r.start]) || !is_key([l.end, r.end]) {
        return None;
    }
    match (left.rowtime.first(), right.rowtime.first()) {
        (Some(lt), Some(rt)) => Some(([*lt, *rt], 0)),
        // In a zone the ends are wall clocks, which no watermark can be compared with.
        _ => l.zone.is_none().then_some(([l.end, r.end], 1)),
    }
}

/// Row times that are a pair of keys, and by how many nanoseconds the left one is later.
fn equal_times(pair: &KeyPair, left: &Relation, right: &Relation) -> Option<([usize; 2], i64)> {
    let (l, r) = (time_of(&pair.left, left, right)?, time_of(&pair.right, left, right)?);
    let is_time = l.side == JoinSide::Left && r.side == JoinSide::Right && !pair.null_safe;
    is_time.then_some(([l.column, r.column], r.plus.checked_sub(l.plus)?))
}

/// A comparison of both row times as `left - right op nanoseconds`.
fn difference(part: &Expr, left: &Relation, right: &Relation) -> Option<([usize; 2], Operator, i64)> {
    let Expr::BinaryExpr(BinaryExpr { left: a, op, right: b }) = part else { return None };
    let (a, b) = (time_of(a, left, right)?, time_of(b, left, right)?);
    let (l, op, r) = match (a.side, b.side) {
        (JoinSide::Left, JoinSide::Right) => (a, *op, b),
        (JoinSide::Right, JoinSide::Left) => (b, op.swap()?, a),
        _ => return None,
    };
    let is_known = matches!(op, Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq | Operator::Eq);
    is_known.then_some(([l.column, r.column], op, r.plus.checked_sub(l.plus)?))
}

/// The row time that an expression is, give or take an interval.
fn time_of(expr: &Expr, left: &Relation, right: &Relation) -> Option<Time> {
    match expr {
        Expr::Column(column) => {
            let (side, relation) = match left.schema.maybe_index_of_column(column) {
                Some(_) => (JoinSide::Left, left),
                None => (JoinSide::Right, right),
            };
            let ColumnRef::Physical(p) =
                *relation.columns.get(relation.schema.maybe_index_of_column(column)?)?
            else {
                return None;
            };
            relation.rowtime.contains(&p).then_some(Time { side, column: p, plus: 0 })
        }
        Expr::BinaryExpr(BinaryExpr { left: a, op: Operator::Plus, right: b }) => {
            let (time, more) = match nanos_of(b) {
                Some(more) => (time_of(a, left, right)?, more),
                None => (time_of(b, left, right)?, nanos_of(a)?),
            };
            Some(Time { plus: time.plus.checked_add(more)?, ..time })
        }
        Expr::BinaryExpr(BinaryExpr { left: a, op: Operator::Minus, right: b }) => {
            let time = time_of(a, left, right)?;
            Some(Time { plus: time.plus.checked_sub(nanos_of(b)?)?, ..time })
        }
        _ => None,
    }
}

/// An interval that is always as long.
fn nanos_of(expr: &Expr) -> Option<i64> {
    let Expr::Literal(value, _) = expr else { return None };
    i64::try_from(nanoseconds(value)?).ok()
}
