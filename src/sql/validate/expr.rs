//! Expressions.

use datafusion::sql::sqlparser::ast::{
    AccessExpr, Array, BinaryOperator, CaseWhen, CastKind, DataType, DuplicateTreatment, Expr, ExtractSyntax,
    Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArgumentList, FunctionArguments,
    Interval, ObjectName, Spanned, Subscript, TimezoneInfo, TypedString, UnaryOperator, Value, ValueWithSpan,
    WindowFrame, WindowFrameBound, WindowSpec, WindowType,
};

use super::from::is_table_argument;
use super::{Validator, refuse_if, unsupported};
use crate::error::{Error, Result};
use crate::sql::query::location_of;
use crate::sql::types;

impl Validator {
    pub(super) fn expr(&mut self, mut e: &mut Expr) -> Result<()> {
        // `a OR b OR c …` leans to the left and may be thousands long: walked in a loop, not by recursion.
        while let Expr::BinaryOp { left, op, right } = e {
            operator(op, &**right)?;
            self.expr(right)?;
            e = left;
        }
        quantified_to_in(e);
        match e {
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => Ok(()),
            Expr::Value(v) => literal(&v.value, v),
            Expr::Nested(e)
            | Expr::IsFalse(e)
            | Expr::IsNotFalse(e)
            | Expr::IsTrue(e)
            | Expr::IsNotTrue(e)
            | Expr::IsNull(e)
            | Expr::IsNotNull(e)
            | Expr::IsUnknown(e)
            | Expr::IsNotUnknown(e) => self.expr(e),
            Expr::IsDistinctFrom(a, b) | Expr::IsNotDistinctFrom(a, b) => self.all([a, b]),
            Expr::BinaryOp { left, op: _, right } => self.all([left, right]),
            Expr::UnaryOp { op, expr } => match op {
                UnaryOperator::Plus | UnaryOperator::Minus | UnaryOperator::Not => self.expr(expr),
                other => Err(unsupported(&format!("the operator {other}"), &**expr)),
            },
            Expr::InList { expr, list, negated: _ } => {
                self.expr(expr)?;
                self.list(list)
            }
            Expr::InSubquery { expr, subquery, negated: _ } => {
                self.expr(expr)?;
                self.query(subquery)
            }
            Expr::Between { expr, negated: _, low, high } => self.all([expr, low, high]),
            Expr::Like { negated: _, any, expr, pattern, escape_char } => {
                refuse_if(*any, "LIKE ANY", &**pattern)?;
                escape(escape_char, &**pattern)?;
                self.all([expr, pattern])
            }
            Expr::SimilarTo { negated: _, expr, pattern, escape_char } => {
                escape(escape_char, &**pattern)?;
                self.all([expr, pattern])
            }
            Expr::AnyOp { left, compare_op, right, is_some: _ } | Expr::AllOp { left, compare_op, right } => {
                operator(compare_op, &**right)?;
                self.all([left, right])
            }
            Expr::Cast { kind, expr, data_type, array, format } => {
                match kind {
                    CastKind::Cast | CastKind::TryCast => {}
                    CastKind::SafeCast => {
                        return Err(unsupported("SAFE_CAST", &**expr).hint("write TRY_CAST"));
                    }
                    CastKind::DoubleColon => {
                        return Err(unsupported("`::`", &**expr).hint("write CAST(x AS type)"));
                    }
                }
                refuse_if(*array, "ARRAY after the type of a cast", &**expr)?;
                refuse_if(format.is_some(), "FORMAT in a cast", &**expr)?;
                match types::cast_type(data_type) {
                    Some(ty) => drop(ty.map_err(|e| e.at(location_of(&**expr)))?),
                    None => {
                        return Err(
                            Error::internal(format!("a cast to {data_type}")).at(location_of(&**expr))
                        );
                    }
                }
                self.expr(expr)
            }
            Expr::Extract { field: _, syntax, expr } => {
                refuse_if(*syntax != ExtractSyntax::From, "EXTRACT with a comma", &**expr)
                    .map_err(|e| e.hint("write EXTRACT(unit FROM x)"))?;
                self.expr(expr)
            }
            Expr::Ceil { expr, field: _ } | Expr::Floor { expr, field: _ } => self.expr(expr),
            Expr::Position { expr, r#in } => self.all([expr, r#in]),
            Expr::Substring { expr, substring_from, substring_for, special: _, shorthand: _ } => {
                self.expr(expr)?;
                self.optional([substring_from, substring_for])
            }
            Expr::Trim { expr, trim_where: _, trim_what, trim_characters } => {
                refuse_if(trim_characters.is_some(), "TRIM with a comma", &**expr)
                    .map_err(|e| e.hint("write TRIM(BOTH 'characters' FROM x)"))?;
                self.expr(expr)?;
                self.optional([trim_what])
            }
            Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
                self.all([expr, overlay_what, overlay_from])?;
                self.optional([overlay_for])
            }
            Expr::Case { case_token: _, end_token: _, operand, conditions, else_result } => {
                self.optional([operand, else_result])?;
                for CaseWhen { condition, result } in conditions {
                    self.expr(condition)?;
                    self.expr(result)?;
                }
                Ok(())
            }
            Expr::Exists { subquery, negated: _ } => self.query(subquery),
            Expr::Subquery(query) => self.query(query),
            Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => {
                sets.iter_mut().try_for_each(|set| self.list(set))
            }
            Expr::Tuple(list) => self.list(list),
            Expr::Array(Array { elem, named }) => {
                if !*named {
                    return Err(Error::syntax("a list in brackets")
                        .at(location_of(&*e))
                        .hint("write ARRAY[…]"));
                }
                self.list(elem)
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                self.expr(root)?;
                access_chain.iter_mut().try_for_each(|a| self.access(a))
            }
            Expr::Interval(interval) => self.interval(interval),
            Expr::TypedString(TypedString { data_type, value, uses_odbc_syntax }) => {
                let fine = matches!(
                    data_type,
                    DataType::Date
                        | DataType::Time(_, TimezoneInfo::None)
                        | DataType::Timestamp(_, TimezoneInfo::None)
                );
                if !fine || *uses_odbc_syntax || !matches!(value.value, Value::SingleQuotedString(_)) {
                    return Err(unsupported(&format!("a literal of type {data_type}"), &*value)
                        .hint("literals with a type are DATE '…', TIME '…' and TIMESTAMP '…'; for others write CAST('…' AS type)"));
                }
                Ok(())
            }
            Expr::Function(f) => self.function(f),
            other => Err(foreign(other)),
        }
    }

    fn all<const N: usize>(&mut self, list: [&mut Box<Expr>; N]) -> Result<()> {
        list.into_iter().try_for_each(|e| self.expr(e))
    }

    fn optional<const N: usize>(&mut self, list: [&mut Option<Box<Expr>>; N]) -> Result<()> {
        list.into_iter().flatten().try_for_each(|e| self.expr(e))
    }

    fn list(&mut self, list: &mut [Expr]) -> Result<()> {
        list.iter_mut().try_for_each(|e| self.expr(e))
    }

    fn access(&mut self, access: &mut AccessExpr) -> Result<()> {
        match access {
            AccessExpr::Dot(e) => self.expr(e),
            AccessExpr::Subscript(Subscript::Index { index }) => self.expr(index),
            AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, stride: _ }) => {
                let at = lower_bound.as_ref().or(upper_bound.as_ref()).map(location_of).unwrap_or_default();
                Err(Error::unsupported("a slice in brackets is not supported")
                    .at(at)
                    .hint("write ARRAY_SLICE(array, from, to)"))
            }
        }
    }

    fn interval(&mut self, interval: &mut Interval) -> Result<()> {
        let Interval {
            value,
            leading_field: _,
            leading_precision: _,
            last_field: _,
            fractional_seconds_precision: _,
        } = interval;
        let literal = match &**value {
            Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } => &**expr,
            other => other,
        };
        match literal {
            Expr::Value(v) if matches!(v.value, Value::SingleQuotedString(_) | Value::Number(..)) => Ok(()),
            other => Err(Error::syntax("an INTERVAL takes a literal")
                .at(location_of(other))
                .hint("write INTERVAL '5' SECOND, or multiply: n * INTERVAL '1' SECOND")),
        }
    }

    fn function(&mut self, f: &mut Function) -> Result<()> {
        if is_table_argument(f) {
            return Err(Error::syntax("TABLE t is an argument of a table function only")
                .at(location_of(&f.name))
                .hint("for example TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE))"));
        }
        let Function {
            name,
            uses_odbc_syntax,
            parameters,
            args,
            filter,
            null_treatment: _,
            over,
            within_group,
        } = f;
        if name.0.last().and_then(|p| p.as_ident()).is_some_and(|i| i.value.eq_ignore_ascii_case("UNNEST")) {
            return Err(Error::syntax("UNNEST stands in FROM only")
                .at(location_of(&*name))
                .hint("for example FROM t CROSS JOIN UNNEST(t.a) AS u(x)"));
        }
        refuse_if(*uses_odbc_syntax, "the {fn …} syntax", &*name)?;
        refuse_if(!matches!(parameters, FunctionArguments::None), "a second list of arguments", &*name)?;
        match args {
            FunctionArguments::None => {}
            FunctionArguments::Subquery(q) => {
                return Err(unsupported("a query as the only argument", &**q));
            }
            FunctionArguments::List(FunctionArgumentList { duplicate_treatment, args, clauses }) => {
                match duplicate_treatment {
                    None | Some(DuplicateTreatment::All | DuplicateTreatment::Distinct) => {}
                }
                args.iter_mut().try_for_each(|a| self.argument(a))?;
                for clause in clauses {
                    match clause {
                        FunctionArgumentClause::IgnoreOrRespectNulls(_) => {}
                        FunctionArgumentClause::OrderBy(list) => self.order_by(list)?,
                        FunctionArgumentClause::Limit(e) => return Err(unsupported("LIMIT in a call", e)),
                        FunctionArgumentClause::OnOverflow(_) => {
                            return Err(unsupported("ON OVERFLOW", &*name));
                        }
                        FunctionArgumentClause::Having(_) => {
                            return Err(unsupported("HAVING in a call", &*name));
                        }
                        FunctionArgumentClause::Separator(_) => return Err(unsupported("SEPARATOR", &*name)),
                        FunctionArgumentClause::JsonNullClause(_) if aggregates_json(name) => {}
                        FunctionArgumentClause::JsonNullClause(_) => {
                            return Err(unsupported("NULL or ABSENT ON NULL", &*name));
                        }
                        FunctionArgumentClause::JsonReturningClause(_) => {
                            return Err(unsupported("RETURNING", &*name));
                        }
                    }
                }
            }
        }
        self.optional([filter])?;
        self.order_by(within_group)?;
        match over {
            None | Some(WindowType::NamedWindow(_)) => Ok(()),
            Some(WindowType::WindowSpec(spec)) => self.window(spec),
        }
    }

    fn argument(&mut self, arg: &mut FunctionArg) -> Result<()> {
        let value = match arg {
            FunctionArg::Named { name: _, arg, operator: _ } | FunctionArg::Unnamed(arg) => arg,
            FunctionArg::ExprNamed { name, .. } => {
                return Err(unsupported("an expression as the name of an argument", name));
            }
        };
        match value {
            FunctionArgExpr::Expr(e) => self.expr(e),
            FunctionArgExpr::Wildcard => Ok(()),
            FunctionArgExpr::WildcardWithOptions(options) => super::wildcard(options),
            // `COUNT(a.*)` of a pattern variable.
            FunctionArgExpr::QualifiedWildcard(_) if self.in_match => Ok(()),
            FunctionArgExpr::QualifiedWildcard(name) => Err(unsupported("`.*` as an argument", name)),
        }
    }

    pub(super) fn window(&mut self, spec: &mut WindowSpec) -> Result<()> {
        let WindowSpec { window_name: _, partition_by, order_by, window_frame } = spec;
        self.list(partition_by)?;
        self.order_by(order_by)?;
        if let Some(WindowFrame { units: _, start_bound, end_bound }) = window_frame {
            for bound in [Some(start_bound), end_bound.as_mut()].into_iter().flatten() {
                match bound {
                    WindowFrameBound::CurrentRow => {}
                    WindowFrameBound::Preceding(e) | WindowFrameBound::Following(e) => self.optional([e])?,
                }
            }
        }
        Ok(())
    }
}

/// Whether a function takes `NULL ON NULL` and `ABSENT ON NULL`.
fn aggregates_json(name: &ObjectName) -> bool {
    let name = name.to_string();
    name.eq_ignore_ascii_case("JSON_OBJECTAGG") || name.eq_ignore_ascii_case("JSON_ARRAYAGG")
}

fn operator(op: &BinaryOperator, node: &impl Spanned) -> Result<()> {
    use BinaryOperator as B;
    match op {
        B::Plus
        | B::Minus
        | B::Multiply
        | B::Divide
        | B::Modulo
        | B::StringConcat
        | B::Gt
        | B::Lt
        | B::GtEq
        | B::LtEq
        | B::Eq
        | B::NotEq
        | B::And
        | B::Or
        | B::Overlaps => Ok(()),
        other => Err(unsupported(&format!("the operator {other}"), node)),
    }
}

fn escape(escape: &Option<ValueWithSpan>, node: &impl Spanned) -> Result<()> {
    match escape.as_ref().map(|e| &e.value) {
        None => Ok(()),
        Some(Value::SingleQuotedString(s)) if s.chars().count() == 1 => Ok(()),
        Some(_) => Err(Error::syntax("ESCAPE takes a string of one character").at(location_of(node))),
    }
}

fn literal(value: &Value, node: &impl Spanned) -> Result<()> {
    match value {
        Value::Number(..)
        | Value::SingleQuotedString(_)
        | Value::HexStringLiteral(_)
        | Value::Boolean(_)
        | Value::Null => Ok(()),
        other => Err(unsupported(&format!("the literal {other}"), node)),
    }
}

/// Constructs of other dialects, which the lexer and the dialect do not let through, but which the tree could hold.
fn foreign(e: &Expr) -> Error {
    match e {
        Expr::AtTimeZone { timestamp: _, time_zone: _ } => {
            unsupported("AT TIME ZONE", e).hint("use CONVERT_TZ, or CAST between TIMESTAMP and TIMESTAMP_LTZ")
        }
        Expr::ILike { .. } => unsupported("ILIKE", e).hint("write LOWER(x) LIKE LOWER(pattern)"),
        Expr::RLike { .. } => unsupported("RLIKE", e).hint("write REGEXP(x, pattern)"),
        Expr::Convert { .. } => unsupported("CONVERT", e).hint("write CAST(x AS type)"),
        Expr::Collate { .. } => unsupported("COLLATE", e),
        Expr::JsonAccess { .. } => {
            unsupported("`:` or `->` on JSON", e).hint("write JSON_VALUE(x, '$.path')")
        }
        Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => unsupported("`*` inside an expression", e),
        Expr::IsNormalized { .. } => unsupported("IS NORMALIZED", e),
        Expr::InUnnest { .. } => unsupported("IN UNNEST", e).hint("write ARRAY_CONTAINS(array, x)"),
        Expr::MemberOf(_) => unsupported("MEMBER OF", e),
        _ => unsupported("this expression", e),
    }
}

/// `x = ANY (SELECT …)` is IN, `x <> ALL (SELECT …)` is NOT IN.
fn quantified_to_in(e: &mut Expr) {
    let (left, right, negated) = match e {
        Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, is_some: _ } => (left, right, false),
        Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => (left, right, true),
        _ => return,
    };
    if let Expr::Subquery(subquery) = &**right {
        *e = Expr::InSubquery { expr: left.clone(), subquery: subquery.clone(), negated };
    }
}
