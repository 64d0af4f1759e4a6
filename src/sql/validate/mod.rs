//! Looks at every field of sqlparser's trees, so that nothing a user writes is dropped without a word.
//!
//! Trees are taken apart without `..`: a field that a new version adds has to be decided on here. What the planner
//! consumes passes; the rest is refused at its place. Three things are rewritten on the way, because the planner
//! would not see them: a hinted table gets its own name as an alias, `TABLE t` as a query becomes `SELECT * FROM t`,
//! and `FETCH FIRST n ROWS ONLY` becomes a limit.

mod expr;
mod from;
mod match_recognize;
mod places;

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    Cte, Distinct, Expr, Fetch, GroupByExpr, Ident, LimitClause, NamedWindowDefinition, NamedWindowExpr,
    ObjectName, Offset, OrderBy, OrderByExpr, OrderByKind, OrderByOptions, Query, Select, SelectFlavor,
    SelectItem, SelectItemQualifiedWildcardKind, SetExpr, SetOperator, SetQuantifier, Spanned, Table,
    TableFactor, TableWithJoins, Value, Values, WildcardAdditionalOptions, With,
};

use super::ast::HINT_MARK;
use super::query::{ident_location, location_of, span_location};
use crate::error::{Error, Location, Result};

/// Checks a query; `hints` are the places of its table hints, by number.
///
/// # Errors
/// Unsupported or Syntax, with the place.
pub(crate) fn query(query: &mut Query, hints: &[Location]) -> Result<()> {
    let mut v = Validator { hints_seen: vec![false; hints.len()], in_match: false };
    v.query(query)?;
    v.finish(hints)
}

/// Checks an expression, as [`query`].
///
/// # Errors
/// As [`query`].
pub(crate) fn expr(expr: &mut Expr, hints: &[Location]) -> Result<()> {
    let mut v = Validator { hints_seen: vec![false; hints.len()], in_match: false };
    v.expr(expr)?;
    v.finish(hints)
}

struct Validator {
    /// Which hints were found behind a table name.
    hints_seen: Vec<bool>,
    /// Within the measures and definitions of a MATCH_RECOGNIZE.
    in_match: bool,
}

fn unsupported(what: &str, node: &impl Spanned) -> Error {
    Error::unsupported(format!("{what} is not supported")).at(location_of(node))
}

fn refuse_at(condition: bool, what: &str, at: Location) -> Result<()> {
    if condition { Err(Error::unsupported(format!("{what} is not supported")).at(at)) } else { Ok(()) }
}

fn refuse_if(condition: bool, what: &str, node: &impl Spanned) -> Result<()> {
    if condition { Err(unsupported(what, node)) } else { Ok(()) }
}

impl Validator {
    fn finish(self, hints: &[Location]) -> Result<()> {
        match self.hints_seen.iter().zip(hints).find(|(seen, _)| !**seen) {
            Some((_, at)) => Err(super::hints::misplaced(*at)),
            None => Ok(()),
        }
    }

    /// Notes the hint of a table name; gives the name without its mark if there is one.
    fn hint(&mut self, ident: &Ident) -> Option<String> {
        let (name, number) = ident.value.split_once(HINT_MARK)?;
        if let Some(seen) = number.parse::<usize>().ok().and_then(|n| self.hints_seen.get_mut(n)) {
            *seen = true;
        }
        Some(name.to_owned())
    }

    fn query(&mut self, query: &mut Query) -> Result<()> {
        let at = place_of(&query.body);
        let Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        let refuse = |yes: bool, what: &str| refuse_at(yes, what, at);
        refuse(!locks.is_empty(), "FOR UPDATE")?;
        refuse(for_clause.is_some(), "FOR XML, JSON or BROWSE")?;
        refuse(settings.is_some(), "SETTINGS")?;
        refuse(format_clause.is_some(), "FORMAT")?;
        refuse(!pipe_operators.is_empty(), "the pipe operator")?;
        if let Some(With { with_token: _, recursive, cte_tables }) = with {
            refuse(*recursive, "WITH RECURSIVE")?;
            for Cte { alias, query, from, materialized, closing_paren_token: _ } in cte_tables {
                refuse_at(
                    from.is_some(),
                    "FROM after a common table expression",
                    ident_location(&alias.name),
                )?;
                refuse_at(materialized.is_some(), "MATERIALIZED", ident_location(&alias.name))?;
                self.alias(alias)?;
                self.query(query)?;
            }
        }
        self.set_expr(body)?;
        if let Some(OrderBy { kind, interpolate }) = order_by {
            refuse(interpolate.is_some(), "INTERPOLATE")?;
            match kind {
                OrderByKind::Expressions(list) => self.order_by(list)?,
                OrderByKind::All(_) => refuse(true, "ORDER BY ALL")?,
            }
        }
        if let Some(clause) = limit_clause {
            self.limit(clause, at)?;
        }
        if let Some(f) = fetch.take() {
            merge_fetch(limit_clause, f, at)?;
        }
        Ok(())
    }

    fn limit(&mut self, clause: &mut LimitClause, at: Location) -> Result<()> {
        match clause {
            LimitClause::LimitOffset { limit, offset, limit_by } => {
                if let Some(limit) = limit {
                    places::row_count(limit, "LIMIT")?;
                    self.expr(limit)?;
                }
                if let Some(Offset { value, rows: _ }) = offset {
                    places::row_count(value, "OFFSET")?;
                    self.expr(value)?;
                }
                if !limit_by.is_empty() {
                    return Err(Error::unsupported("LIMIT … BY is not supported").at(at));
                }
                Ok(())
            }
            LimitClause::OffsetCommaLimit { offset, limit: _ } => {
                Err(Error::syntax("LIMIT takes one number")
                    .at(location_of(offset))
                    .hint("write LIMIT n OFFSET m"))
            }
        }
    }

    fn set_expr(&mut self, body: &mut SetExpr) -> Result<()> {
        if let SetExpr::Table(table) = body {
            *body = SetExpr::Select(Box::new(select_all(table)));
        }
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Query(query) => self.query(query),
            SetExpr::SetOperation { op, set_quantifier, left, right } => {
                match op {
                    SetOperator::Union | SetOperator::Except | SetOperator::Intersect => {}
                    SetOperator::Minus => return Err(unsupported("MINUS", &**right).hint("write EXCEPT")),
                }
                match set_quantifier {
                    SetQuantifier::All | SetQuantifier::Distinct | SetQuantifier::None => {}
                    SetQuantifier::ByName | SetQuantifier::AllByName | SetQuantifier::DistinctByName => {
                        return Err(unsupported("BY NAME", &**right));
                    }
                }
                self.set_expr(left)?;
                self.set_expr(right)
            }
            SetExpr::Values(Values { explicit_row: _, value_keyword, rows }) => {
                if *value_keyword {
                    return Err(Error::syntax("VALUE instead of VALUES").hint("write VALUES"));
                }
                rows.iter_mut().flat_map(|row| &mut row.content).try_for_each(|e| self.expr(e))
            }
            SetExpr::Table(_) => Ok(()),
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                Err(unsupported("INSERT, UPDATE, DELETE or MERGE inside a query", body)
                    .hint("write INSERT INTO t WITH … SELECT …"))
            }
        }
    }

    fn select(&mut self, select: &mut Select) -> Result<()> {
        let at = span_location(select.select_token.0.span);
        let Select {
            select_token: _,
            optimizer_hints,
            distinct,
            select_modifiers,
            top,
            top_before_distinct: _,
            projection,
            exclude,
            into,
            from,
            lateral_views,
            prewhere,
            selection,
            connect_by,
            group_by,
            cluster_by,
            distribute_by,
            sort_by,
            having,
            named_window,
            qualify,
            window_before_qualify: _,
            value_table_mode,
            flavor,
        } = select;
        let refuse = |yes: bool, what: &str| refuse_at(yes, what, at);
        refuse(!optimizer_hints.is_empty(), "a hint after SELECT")?;
        refuse(select_modifiers.is_some(), "a modifier after SELECT")?;
        refuse(top.is_some(), "TOP")?;
        refuse(exclude.is_some(), "EXCLUDE")?;
        refuse(into.is_some(), "SELECT … INTO")?;
        refuse(!lateral_views.is_empty(), "LATERAL VIEW")?;
        refuse(prewhere.is_some(), "PREWHERE")?;
        refuse(!connect_by.is_empty(), "CONNECT BY")?;
        refuse(!cluster_by.is_empty(), "CLUSTER BY")?;
        refuse(!distribute_by.is_empty(), "DISTRIBUTE BY")?;
        refuse(!sort_by.is_empty(), "SORT BY")?;
        refuse(value_table_mode.is_some(), "SELECT AS STRUCT or VALUE")?;
        match flavor {
            SelectFlavor::Standard => {}
            SelectFlavor::FromFirst | SelectFlavor::FromFirstNoSelect => refuse(true, "FROM before SELECT")?,
        }
        match distinct {
            None | Some(Distinct::All | Distinct::Distinct) => {}
            Some(Distinct::On(_)) => refuse(true, "DISTINCT ON")?,
        }
        projection.iter_mut().try_for_each(|item| self.select_item(item))?;
        from.iter_mut().try_for_each(|t| self.table_with_joins(t))?;
        if let Some(e) = selection {
            places::no_window(e, "WHERE")?;
            self.expr(e)?;
        }
        match group_by {
            GroupByExpr::All(_) => refuse(true, "GROUP BY ALL")?,
            GroupByExpr::Expressions(list, modifiers) => {
                refuse(!modifiers.is_empty(), "WITH ROLLUP, CUBE or TOTALS after GROUP BY")?;
                for e in list {
                    places::no_window(e, "GROUP BY")?;
                    self.expr(e)?;
                }
            }
        }
        if let Some(e) = having {
            places::no_window(e, "HAVING")?;
            self.expr(e)?;
        }
        if let Some(e) = qualify {
            self.expr(e)?;
        }
        for NamedWindowDefinition(_, definition) in named_window {
            match definition {
                NamedWindowExpr::NamedWindow(_) => {}
                NamedWindowExpr::WindowSpec(spec) => self.window(spec)?,
            }
        }
        Ok(())
    }

    fn select_item(&mut self, item: &mut SelectItem) -> Result<()> {
        match item {
            SelectItem::UnnamedExpr(e) => self.expr(e),
            SelectItem::ExprWithAlias { expr, alias: _ } => self.expr(expr),
            SelectItem::ExprWithAliases { expr, aliases: _ } => {
                Err(unsupported("a list of aliases", &*expr).hint("give each expression one alias"))
            }
            SelectItem::QualifiedWildcard(kind, options) => {
                match kind {
                    SelectItemQualifiedWildcardKind::ObjectName(_) => {}
                    SelectItemQualifiedWildcardKind::Expr(e) => {
                        return Err(unsupported("`.*` after an expression", e));
                    }
                }
                wildcard(options)
            }
            SelectItem::Wildcard(options) => wildcard(options),
        }
    }

    fn order_by(&mut self, list: &mut [OrderByExpr]) -> Result<()> {
        for OrderByExpr { expr, options: OrderByOptions { asc: _, nulls_first: _ }, with_fill } in list {
            refuse_if(with_fill.is_some(), "WITH FILL", &*expr)?;
            self.expr(expr)?;
        }
        Ok(())
    }
}

/// Where a query's body begins. Not its span: that visits the whole tree, by recursion.
fn place_of(mut body: &SetExpr) -> Location {
    loop {
        match body {
            SetExpr::Select(select) => return span_location(select.select_token.0.span),
            SetExpr::Query(query) => body = &query.body,
            SetExpr::SetOperation { op: _, set_quantifier: _, left, right: _ } => body = left,
            SetExpr::Values(values) => {
                let first = values.rows.first().and_then(|row| row.first());
                return first.map(location_of).unwrap_or_default();
            }
            SetExpr::Table(_) => return Location::default(),
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                return location_of(body);
            }
        }
    }
}

fn wildcard(options: &WildcardAdditionalOptions) -> Result<()> {
    let WildcardAdditionalOptions {
        wildcard_token,
        opt_ilike,
        opt_exclude,
        opt_except,
        opt_replace,
        opt_rename,
        opt_alias,
    } = options;
    let extra = opt_ilike.is_some()
        || opt_exclude.is_some()
        || opt_except.is_some()
        || opt_replace.is_some()
        || opt_rename.is_some()
        || opt_alias.is_some();
    if extra {
        return Err(Error::unsupported("a modifier after `*` is not supported")
            .at(span_location(wildcard_token.0.span))
            .hint("list the columns"));
    }
    Ok(())
}

/// `FETCH FIRST n ROWS ONLY` as a limit.
fn merge_fetch(limit_clause: &mut Option<LimitClause>, fetch: Fetch, at: Location) -> Result<()> {
    let Fetch { with_ties, percent, quantity } = fetch;
    if with_ties || percent {
        return Err(Error::unsupported("FETCH with PERCENT or WITH TIES is not supported").at(at));
    }
    let one = || Expr::Value(Value::Number("1".into(), false).into());
    let n = Some(quantity.unwrap_or_else(one));
    match limit_clause {
        None => {
            *limit_clause = Some(LimitClause::LimitOffset { limit: n, offset: None, limit_by: Vec::new() })
        }
        Some(LimitClause::LimitOffset { limit: limit @ None, offset: _, limit_by: _ }) => *limit = n,
        Some(_) => return Err(Error::syntax("LIMIT and FETCH in one query").at(at).hint("keep one of them")),
    }
    Ok(())
}

/// `SELECT * FROM t` for `TABLE t`.
fn select_all(table: &mut Table) -> Select {
    let Table { table_name, schema_name } = table;
    let parts = schema_name.take().into_iter().chain(table_name.take()).map(|p| Ident::with_quote('`', p));
    let relation = TableFactor::Table {
        name: ObjectName::from(parts.collect::<Vec<_>>()),
        alias: None,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    };
    let from = TableWithJoins { relation, joins: Vec::new() };
    select_from(vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())], from)
}

/// `SELECT projection FROM from`.
pub(crate) fn select_from(projection: Vec<SelectItem>, from: TableWithJoins) -> Select {
    Select {
        select_token: AttachedToken::empty(),
        optimizer_hints: Vec::new(),
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection,
        exclude: None,
        into: None,
        from: vec![from],
        lateral_views: Vec::new(),
        prewhere: None,
        selection: None,
        connect_by: Vec::new(),
        group_by: GroupByExpr::Expressions(Vec::new(), Vec::new()),
        cluster_by: Vec::new(),
        distribute_by: Vec::new(),
        sort_by: Vec::new(),
        having: None,
        named_window: Vec::new(),
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: SelectFlavor::Standard,
    }
}
