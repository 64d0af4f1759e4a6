//! Special syntax as ordinary calls: `EXTRACT(YEAR FROM t)` → `extract('YEAR', t)`, `FLOOR(t TO DAY)` →
//! `floor(t, 'DAY')`, `IF`, `ROW`, subscripts, casts to bounded types; and names in one spelling.

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, CaseWhen, CastKind, CeilFloorKind, DataType, DateTimeField,
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgOperator,
    FunctionArgumentClause, FunctionArgumentList, FunctionArguments, Ident, JsonNullClause, ObjectName,
    Subscript, TimezoneInfo, TrimWhereField, Value, WindowType,
};

use super::literal::{number, text, typed_integer, unwrap};
use crate::error::{Error, Location, Result};
use crate::functions::cast::{CAST_TAG, IF_TAG};
use crate::functions::kinds::check_call;
use crate::types::{MAX_LENGTH, TypeRoot};

pub(super) fn rewrite(expr: &mut Expr) -> Result<()> {
    match expr {
        Expr::Function(_) => return function(expr),
        // The only function without parentheses that the parser takes for a name.
        Expr::Identifier(name) if name.quote_style.is_none() && name.value == "PI" => {
            *expr = call("pi", Vec::new());
        }
        Expr::Cast { .. } => return cast_length(expr),
        Expr::Extract { field, expr: e, .. } => {
            *expr = call("extract", vec![text(&unit(field)), take(e)]);
        }
        Expr::Ceil { field, expr: e } => *expr = round_to("ceil", field, e)?,
        Expr::Floor { field, expr: e } => *expr = round_to("floor", field, e)?,
        Expr::Position { expr: e, r#in } => *expr = call("locate", vec![take(e), take(r#in)]),
        Expr::Substring { expr: e, substring_from, substring_for, .. } => {
            let mut args = vec![take(e)];
            args.push(substring_from.as_mut().map_or_else(|| number(1), |f| take(f)));
            args.extend(substring_for.as_mut().map(|f| take(f)));
            *expr = call("substring", args);
        }
        Expr::Trim { expr: e, trim_where, trim_what, trim_characters } => {
            let name = match trim_where {
                Some(TrimWhereField::Leading) => "ltrim",
                Some(TrimWhereField::Trailing) => "rtrim",
                _ => "__trim",
            };
            let mut args = vec![take(e)];
            args.extend(trim_what.as_mut().map(|w| take(w)));
            args.extend(trim_characters.take().unwrap_or_default());
            *expr = call(name, args);
        }
        Expr::Overlay { expr: e, overlay_what, overlay_from, overlay_for } => {
            let mut args = vec![take(e), take(overlay_what), take(overlay_from)];
            args.extend(overlay_for.as_mut().map(|f| take(f)));
            *expr = call("overlay", args);
        }
        Expr::Tuple(values) if values.len() > 1 => *expr = call("row", std::mem::take(values)),
        Expr::BinaryOp { left, op: BinaryOperator::Overlaps, right } => {
            let mut args = row_args(left)?;
            args.extend(row_args(right)?);
            *expr = call("__overlaps", args);
        }
        Expr::CompoundFieldAccess { root, access_chain } => {
            let plain = access_chain.iter().all(|a| {
                matches!(
                    a,
                    AccessExpr::Subscript(Subscript::Index { .. }) | AccessExpr::Dot(Expr::Identifier(_))
                )
            });
            if plain {
                let mut out = take(root);
                // `t.items[1]`: the parser has the table for the root.
                let names = access_chain.iter().take_while(|a| matches!(a, AccessExpr::Dot(_))).count();
                let mut links = access_chain.drain(..);
                let mut path = match &out {
                    Expr::Identifier(name) => vec![name.clone()],
                    Expr::CompoundIdentifier(names) => names.clone(),
                    _ => Vec::new(),
                };
                if names > 0 && !path.is_empty() {
                    path.extend(links.by_ref().take(names).filter_map(|a| match a {
                        AccessExpr::Dot(Expr::Identifier(name)) => Some(name),
                        _ => None,
                    }));
                    out = Expr::CompoundIdentifier(path);
                }
                for a in links {
                    match a {
                        AccessExpr::Subscript(Subscript::Index { mut index }) => {
                            unwrap(&mut index);
                            out = call("item", vec![out, index]);
                        }
                        AccessExpr::Dot(Expr::Identifier(name)) => {
                            out = call("__field", vec![out, text(&name.value)]);
                        }
                        _ => {}
                    }
                }
                *expr = out;
            }
        }
        _ => {}
    }
    Ok(())
}

fn take(e: &mut Expr) -> Expr {
    std::mem::replace(e, Expr::Value(Value::Null.into()))
}

fn row_args(e: &mut Expr) -> Result<Vec<Expr>> {
    if let Expr::Function(f) = e
        && f.name.to_string() == "row"
        && let FunctionArguments::List(list) = &mut f.args
        && list.args.len() == 2
    {
        return Ok(list.args.drain(..).filter_map(into_expr).collect());
    }
    Err(Error::validation("OVERLAPS compares two periods").hint("(t1, t2) OVERLAPS (t3, INTERVAL '1' DAY)"))
}

fn into_expr(a: FunctionArg) -> Option<Expr> {
    match a {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Some(e),
        _ => None,
    }
}

/// A call of a function.
pub(super) fn call(name: &str, args: Vec<Expr>) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect(),
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

/// `YEAR`, singular and in capitals.
pub(super) fn unit(field: &DateTimeField) -> String {
    let mut text = field.to_string().to_uppercase();
    if text.ends_with('S') {
        text.pop();
    }
    if text == "MILLENIUM" {
        text = "MILLENNIUM".into();
    }
    text
}

fn round_to(name: &str, field: &CeilFloorKind, e: &mut Expr) -> Result<Expr> {
    match field {
        CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) => Ok(call(name, vec![take(e)])),
        CeilFloorKind::DateTimeField(f) => Ok(call(name, vec![take(e), text(&unit(f))])),
        CeilFloorKind::Scale(_) => Err(Error::validation(format!("{} takes no scale", name.to_uppercase()))
            .hint("use ROUND(x, n) or TRUNCATE(x, n)")),
    }
}

/// `CHAR(n)`, `TIMESTAMP(0)` and their kin: Arrow's strings have no length and its times three precisions, so the cast
/// gets a step that cuts or pads.
fn cast_length(expr: &mut Expr) -> Result<()> {
    let Expr::Cast { kind, data_type, format, .. } = expr else { return Ok(()) };
    if let Some(f) = format {
        return Err(Error::unsupported(format!("CAST with FORMAT {f} is not supported")));
    }
    if matches!(kind, CastKind::DoubleColon) {
        return Err(Error::syntax("the operator :: is not supported").hint("write CAST(x AS type)"));
    }
    let declared = declared(data_type)?;
    tag_cast(expr);
    let Some(declared) = declared else { return Ok(()) };
    if let Some(digits) = odd_precision(&declared) {
        *expr = call("__precision", vec![take(expr), number(i64::from(digits))]);
        return Ok(());
    }
    let (name, length) = match declared {
        TypeRoot::Char(n) => ("__char", n),
        TypeRoot::Varchar(n) => ("__varchar", n),
        TypeRoot::Binary(n) => ("__binary", n),
        TypeRoot::Varbinary(n) => ("__varbinary", n),
        _ => return Ok(()),
    };
    if length < MAX_LENGTH {
        *expr = call(name, vec![take(expr), number(i64::from(length))]);
    }
    Ok(())
}

/// What a type in a cast or a typed literal declares.
fn declared(data_type: &DataType) -> Result<Option<TypeRoot>> {
    Ok(match data_type {
        DataType::Timestamp(Some(p), TimezoneInfo::None) => u8::try_from(*p).ok().map(TypeRoot::Timestamp),
        DataType::Time(None, TimezoneInfo::None) => Some(TypeRoot::Time(0)),
        other => crate::sql::cast_type(other).transpose()?.map(|t| t.root),
    })
}

/// The precision of a time where it is not that of an Arrow unit.
fn odd_precision(t: &TypeRoot) -> Option<u8> {
    match t {
        TypeRoot::Timestamp(p) | TypeRoot::TimestampLtz(p) if !matches!(p, 3 | 6 | 9) => Some(*p),
        TypeRoot::Time(p) if *p < 3 => Some(*p),
        _ => None,
    }
}

/// `JSON_ARRAYAGG(x NULL ON NULL)` and `JSON_OBJECTAGG(KEY k VALUE v ABSENT ON NULL)`: the clause becomes part of the
/// name, values become JSON.
fn json_aggregate(f: &mut Function) -> Result<()> {
    let name = f.name.to_string();
    let FunctionArguments::List(list) = &mut f.args else { return Ok(()) };
    let mut clause = None;
    list.clauses.retain(|c| match c {
        FunctionArgumentClause::JsonNullClause(c) => {
            clause = Some(c.clone());
            false
        }
        _ => true,
    });
    let mut args = std::mem::take(&mut list.args);
    let is_object = name == "json_objectagg";
    let args = match (is_object, args.as_mut_slice()) {
        (false, [FunctionArg::Unnamed(FunctionArgExpr::Expr(value))]) => vec![json_text(value)],
        (true, [FunctionArg::Unnamed(FunctionArgExpr::Expr(pair))]) => {
            let mut pair = row_parts(pair)?;
            let value = pair.pop().map(|mut v| json_text(&mut v));
            pair.into_iter().chain(value).collect()
        }
        (
            true,
            [
                FunctionArg::Named {
                    name,
                    arg: FunctionArgExpr::Expr(value),
                    operator: FunctionArgOperator::Value,
                },
            ],
        ) => vec![Expr::Identifier(name.clone()), json_text(value)],
        _ => return Err(json_usage(is_object)),
    };
    list.args = args.into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect();
    let renamed = match (is_object, clause) {
        (true, Some(JsonNullClause::AbsentOnNull)) => "__json_objectagg_absent",
        (false, Some(JsonNullClause::NullOnNull)) => "__json_arrayagg_null",
        _ => return Ok(()),
    };
    f.name = ObjectName::from(vec![Ident::new(renamed)]);
    Ok(())
}

fn json_usage(is_object: bool) -> Error {
    if is_object {
        Error::syntax("JSON_OBJECTAGG takes a key and a value").hint("write JSON_OBJECTAGG(KEY k VALUE v)")
    } else {
        Error::syntax("JSON_ARRAYAGG takes one value").hint("write JSON_ARRAYAGG(x)")
    }
}

/// A value as JSON; what is JSON already, and `JSON(…)`, is left as it is.
fn json_text(value: &mut Expr) -> Expr {
    let mut value = take(value);
    if let Expr::Function(f) = &mut value {
        let name = f.name.to_string();
        if matches!(
            name.as_str(),
            "json_object" | "__json_object_absent" | "json_array" | "__json_array_null"
        ) {
            return value;
        }
        if name == "json" {
            f.name = ObjectName::from(vec![Ident::new("__json_raw")]);
            return value;
        }
    }
    call("json_string", vec![value])
}

/// Every `n`th argument as JSON.
fn values_to_json(list: &mut FunctionArgumentList, n: usize) {
    for arg in list.args.iter_mut().skip(n - 1).step_by(n) {
        if let FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) = arg {
            *e = json_text(e);
        }
    }
}

/// The two parts of `(k, v)`, which has become a row.
fn row_parts(e: &mut Expr) -> Result<Vec<Expr>> {
    if let Expr::Function(f) = e
        && f.name.to_string() == "row"
        && let FunctionArguments::List(list) = &mut f.args
        && list.args.len() == 2
    {
        return Ok(list.args.drain(..).filter_map(into_expr).collect());
    }
    Err(json_usage(true))
}

/// `CAST(x AS BIGINT)`.
fn bigint(e: Expr) -> Expr {
    Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(e),
        data_type: DataType::BigInt(None),
        array: false,
        format: None,
    }
}

/// `CAST(x AS t)` as `CAST(__as(x, 't') AS t)`: DataFusion leaves casts out of the names by which it tells columns
/// apart, so `SUM(x)` and `SUM(CAST(x AS DOUBLE))` would clash. The analyzer takes the tag out again.
fn tag_cast(expr: &mut Expr) {
    if let Expr::Cast { expr: inner, data_type, .. } = expr {
        let tag = text(&data_type.to_string());
        let value = take(inner);
        **inner = call(CAST_TAG, vec![value, tag]);
    }
}

/// Arguments that have to stay bare numbers because the result type or the plan depends on them.
fn bare_arguments(name: &str) -> &'static [usize] {
    match name {
        "round" | "truncate" | "to_timestamp_ltz" | "lag" | "lead" | "nth_value" => &[1],
        "ntile" => &[0],
        _ => &[],
    }
}

fn canonical(name: &str) -> &str {
    match name {
        "ceiling" => "ceil",
        "character_length" => "char_length",
        "substr" => "substring",
        "variance" => "var_samp",
        "stddev" => "stddev_samp",
        "grouping_id" => "grouping",
        "ifnull" => "coalesce",
        other => other,
    }
}

/// `NULLIF(a, b)` as `CASE WHEN a = b THEN NULL ELSE a END`.
fn null_if(value: &Expr, other: &Expr) -> Expr {
    let nested = |e: &Expr| Box::new(Expr::Nested(Box::new(e.clone())));
    let condition = Expr::BinaryOp { left: nested(value), op: BinaryOperator::Eq, right: nested(other) };
    let result = Expr::Value(Value::Null.into());
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen { condition, result }],
        else_result: Some(Box::new(value.clone())),
    }
}

fn function(expr: &mut Expr) -> Result<()> {
    let Expr::Function(f) = expr else { return Ok(()) };
    let at = f.name.0.first().and_then(|p| p.as_ident()).map(|i| i.span.start);
    rewrite_call(expr).map_err(|e| match at {
        Some(at) => e.at(Location { line: at.line, column: at.column }),
        None => e,
    })
}

fn rewrite_call(expr: &mut Expr) -> Result<()> {
    let Expr::Function(f) = expr else { return Ok(()) };
    let [part] = f.name.0.as_slice() else { return Ok(()) };
    let Some(ident) = part.as_ident() else { return Ok(()) };
    let lower = ident.value.to_lowercase();
    let span = ident.span;
    let mut name = Ident::new(canonical(&lower));
    name.span = span;
    f.name = ObjectName::from(vec![name]);
    if let Some(WindowType::WindowSpec(spec)) = &mut f.over
        && let Some(frame) = &mut spec.window_frame
    {
        super::unwrap_frame(frame);
    }
    check_call(&lower, f)?;
    let FunctionArguments::List(list) = &mut f.args else { return Ok(()) };
    for i in bare_arguments(&lower) {
        if let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(e))) = list.args.get_mut(*i) {
            unwrap(e);
        }
    }
    match lower.as_str() {
        "timestampadd" | "timestampdiff" => {
            if let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(e))) = list.args.first_mut()
                && let Expr::Identifier(unit) = e
            {
                let mut unit = unit.value.to_uppercase();
                if let Some(u) = unit.strip_prefix("SQL_TSI_") {
                    unit = u.to_owned();
                }
                *e = text(unit.strip_suffix('S').unwrap_or(&unit));
            }
        }
        "count"
            if list.duplicate_treatment == Some(DuplicateTreatment::Distinct)
                && matches!(list.args.as_slice(), [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]) =>
        {
            return Err(Error::syntax("COUNT(DISTINCT *) is no SQL")
                .hint("COUNT(*) counts rows, COUNT(DISTINCT ROW(x, y)) different pairs"));
        }
        // DataFusion gives COUNT(*) and COUNT(1) the same name.
        "count" if list.duplicate_treatment.is_none() => {
            if let [FunctionArg::Unnamed(arg)] = list.args.as_mut_slice()
                && let FunctionArgExpr::Expr(e) = &*arg
                && typed_integer(e).is_some()
            {
                *arg = FunctionArgExpr::Wildcard;
            }
        }
        "json_arrayagg" | "json_objectagg" => json_aggregate(f)?,
        "json_array" | "__json_array_null" => values_to_json(list, 1),
        "json_object" | "__json_object_absent" => values_to_json(list, 2),
        "approx_count_distinct" => {
            f.name = ObjectName::from(vec![Ident::new("approx_distinct")]);
            let call = take(expr);
            *expr = bigint(call);
        }
        "grouping" | "grouping_id" => {
            let call = take(expr);
            *expr = bigint(call);
        }
        // Flink's is always 0, also for a grouping set that is written twice.
        "group_id" if list.args.is_empty() => *expr = bigint(number(0)),
        "unix_timestamp" if list.args.is_empty() => *expr = call("__unix_timestamp_now", Vec::new()),
        "if" => {
            if list.args.len() != 3 {
                return Err(Error::validation(format!("IF takes 3 arguments, not {}", list.args.len()))
                    .hint("IF(condition, value, other_value)"));
            }
            let mut args = list.args.drain(..).filter_map(into_expr);
            if let (Some(condition), Some(result), Some(other)) = (args.next(), args.next(), args.next()) {
                drop(args);
                // Whether its condition can be NULL counts for the type, as it does not for that of CASE.
                let condition = call(CAST_TAG, vec![condition, text(IF_TAG)]);
                *expr = Expr::Case {
                    case_token: AttachedToken::empty(),
                    end_token: AttachedToken::empty(),
                    operand: None,
                    conditions: vec![CaseWhen { condition, result }],
                    else_result: Some(Box::new(other)),
                };
            }
        }
        "nullif" => {
            let count = list.args.len();
            let args: Vec<Expr> = list.args.drain(..).filter_map(into_expr).collect();
            let [value, other] = args.as_slice() else {
                return Err(Error::validation(format!("NULLIF takes 2 arguments, not {count}"))
                    .hint("NULLIF(value, other): NULL where both are equal, value otherwise"));
            };
            *expr = null_if(value, other);
        }
        _ => {}
    }
    if let Expr::Function(f) = expr
        && lower == "mod"
        && let FunctionArguments::List(list) = &mut f.args
        && list.args.len() == 2
    {
        let mut args = list.args.drain(..).filter_map(into_expr);
        if let (Some(left), Some(right)) = (args.next(), args.next()) {
            drop(args);
            *expr = Expr::Nested(Box::new(Expr::BinaryOp {
                left: Box::new(left),
                op: BinaryOperator::Modulo,
                right: Box::new(right),
            }));
        }
    }
    Ok(())
}
