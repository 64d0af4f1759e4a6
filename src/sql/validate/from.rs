//! FROM: tables, joins, table functions.

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, Join,
    JoinConstraint, JoinOperator, ObjectName, TableAlias, TableAliasColumnDef, TableFactor,
    TableFunctionArgs, TableVersion, TableWithJoins,
};

use super::{Validator, places, refuse_at, refuse_if, unsupported};
use crate::error::{Error, Location, Result};
use crate::sql::ast::TABLE_ARGUMENT;
use crate::sql::query::{ident_location, location_of};

impl Validator {
    pub(super) fn table_with_joins(&mut self, t: &mut TableWithJoins) -> Result<()> {
        let TableWithJoins { relation, joins } = t;
        self.table_factor(relation)?;
        joins.iter_mut().try_for_each(|j| self.join(j))
    }

    pub(super) fn alias(&mut self, alias: &TableAlias) -> Result<()> {
        let TableAlias { explicit: _, name, columns, at } = alias;
        refuse_at(at.is_some(), "AT after an alias", ident_location(name))?;
        for TableAliasColumnDef { name: _, data_type } in columns {
            refuse_at(data_type.is_some(), "a type in the columns of an alias", ident_location(name))?;
        }
        Ok(())
    }

    fn optional_alias(&mut self, alias: &Option<TableAlias>) -> Result<()> {
        alias.as_ref().map_or(Ok(()), |a| self.alias(a))
    }

    fn table_factor(&mut self, factor: &mut TableFactor) -> Result<()> {
        let at = place_of(factor);
        let refuse = |yes: bool, what: &str| refuse_at(yes, what, at);
        match factor {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
            } => {
                refuse(!with_hints.is_empty(), "WITH (…) after a table")?;
                match version {
                    None => {}
                    Some(TableVersion::ForSystemTimeAsOf(
                        time @ (Expr::Identifier(_) | Expr::CompoundIdentifier(_)),
                    )) => {
                        refuse_at(args.is_some(), "FOR SYSTEM_TIME AS OF of a function", location_of(time))?
                    }
                    // A constant, as the planner will find.
                    Some(TableVersion::ForSystemTimeAsOf(time)) => {
                        refuse_at(args.is_some(), "FOR SYSTEM_TIME AS OF of a function", location_of(time))?;
                        self.expr(time)?;
                    }
                    Some(_) => refuse(true, "a version of a table")?,
                }
                refuse(*with_ordinality, "WITH ORDINALITY after a table")?;
                refuse(!partitions.is_empty(), "PARTITION after a table")?;
                refuse(json_path.is_some(), "a path after a table")?;
                refuse(sample.is_some(), "TABLESAMPLE")?;
                refuse(!index_hints.is_empty(), "an index hint")?;
                self.optional_alias(alias)?;
                match args {
                    Some(TableFunctionArgs { args, settings }) => {
                        refuse(settings.is_some(), "SETTINGS")?;
                        self.table_function_args(args)
                    }
                    None => {
                        table_name(name)?;
                        self.hinted_alias(name, alias);
                        Ok(())
                    }
                }
            }
            TableFactor::Derived { lateral: _, subquery, alias, sample } => {
                refuse(sample.is_some(), "TABLESAMPLE")?;
                self.optional_alias(alias)?;
                self.query(subquery)
            }
            TableFactor::TableFunction { expr, alias } => {
                self.optional_alias(alias)?;
                match expr {
                    Expr::Function(Function {
                        name: _,
                        uses_odbc_syntax: false,
                        parameters: FunctionArguments::None,
                        args:
                            FunctionArguments::List(FunctionArgumentList {
                                duplicate_treatment: None,
                                args,
                                clauses,
                            }),
                        filter: None,
                        null_treatment: None,
                        over: None,
                        within_group,
                    }) if clauses.is_empty() && within_group.is_empty() => self.table_function_args(args),
                    other => Err(Error::syntax("TABLE(…) takes a call of a table function")
                        .at(location_of(other))
                        .hint("for example TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE))")),
                }
            }
            TableFactor::Function { lateral: _, name: _, args, with_ordinality, alias } => {
                refuse(*with_ordinality, "WITH ORDINALITY after a function")?;
                self.optional_alias(alias)?;
                self.table_function_args(args)
            }
            TableFactor::UNNEST {
                alias,
                array_exprs,
                with_offset,
                with_offset_alias,
                with_ordinality: _,
            } => {
                refuse(*with_offset || with_offset_alias.is_some(), "WITH OFFSET")?;
                self.optional_alias(alias)?;
                array_exprs.iter_mut().try_for_each(|e| self.expr(e))
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                self.optional_alias(alias)?;
                self.table_with_joins(table_with_joins)
            }
            TableFactor::MatchRecognize {
                table,
                partition_by,
                order_by,
                measures,
                rows_per_match,
                after_match_skip: _,
                pattern,
                symbols,
                alias,
            } => {
                self.table_factor(table)?;
                self.optional_alias(alias)?;
                self.matches(partition_by, order_by, measures, rows_per_match.as_ref(), pattern, symbols)
            }
            TableFactor::Pivot { .. } | TableFactor::Unpivot { .. } => refuse(true, "PIVOT"),
            TableFactor::JsonTable { .. } | TableFactor::OpenJsonTable { .. } => refuse(true, "JSON_TABLE"),
            TableFactor::XmlTable { .. } => refuse(true, "XMLTABLE"),
            TableFactor::SemanticView { .. } => refuse(true, "SEMANTIC_VIEW"),
        }
    }

    /// A hinted table is known by its own name, not by the marked one.
    fn hinted_alias(&mut self, name: &ObjectName, alias: &mut Option<TableAlias>) {
        let Some(last) = name.0.last().and_then(|p| p.as_ident()) else { return };
        if let Some(plain) = self.hint(last)
            && alias.is_none()
        {
            let name = Ident { value: plain, quote_style: Some('`'), span: last.span };
            *alias = Some(TableAlias { explicit: true, name, columns: Vec::new(), at: None });
        }
    }

    fn table_function_args(&mut self, args: &mut [FunctionArg]) -> Result<()> {
        for arg in args {
            let value = match arg {
                FunctionArg::Named { name: _, arg, operator: _ } | FunctionArg::Unnamed(arg) => arg,
                FunctionArg::ExprNamed { name, .. } => {
                    return Err(unsupported("an expression as the name of an argument", name));
                }
            };
            match value {
                FunctionArgExpr::Expr(Expr::Function(f)) if is_table_argument(f) => self.table_argument(f),
                FunctionArgExpr::Expr(e) => self.expr(e)?,
                FunctionArgExpr::QualifiedWildcard(name) => {
                    return Err(unsupported("`.*` as an argument", name));
                }
                FunctionArgExpr::Wildcard | FunctionArgExpr::WildcardWithOptions(_) => {
                    return Err(Error::syntax("`*` is no argument of a table function"));
                }
            }
        }
        Ok(())
    }

    fn table_argument(&mut self, f: &Function) {
        if let FunctionArguments::List(list) = &f.args {
            // Behind the table stand the columns that partition it.
            if let Some(arg) = list.args.first() {
                match arg {
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(i))) => drop(self.hint(i)),
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::CompoundIdentifier(parts))) => {
                        if let Some(i) = parts.last() {
                            self.hint(i);
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    fn join(&mut self, join: &mut Join) -> Result<()> {
        let Join { relation, global, join_operator } = join;
        let at = place_of(relation);
        self.table_factor(relation)?;
        refuse_if(*global, "GLOBAL JOIN", &*relation)?;
        match join_operator {
            JoinOperator::Join(c)
            | JoinOperator::Inner(c)
            | JoinOperator::Left(c)
            | JoinOperator::LeftOuter(c)
            | JoinOperator::Right(c)
            | JoinOperator::RightOuter(c)
            | JoinOperator::FullOuter(c) => match c {
                JoinConstraint::On(e) => {
                    places::no_window(e, "ON")?;
                    self.expr(e)
                }
                JoinConstraint::Using(_) | JoinConstraint::Natural => Ok(()),
                JoinConstraint::None => Err(Error::syntax("this join has no condition")
                    .at(at)
                    .hint("add ON or USING, or write CROSS JOIN")),
            },
            JoinOperator::CrossJoin(JoinConstraint::None) => Ok(()),
            JoinOperator::CrossJoin(_) => {
                Err(Error::syntax("CROSS JOIN has no condition").at(at).hint("write JOIN … ON"))
            }
            JoinOperator::Semi(_)
            | JoinOperator::LeftSemi(_)
            | JoinOperator::RightSemi(_)
            | JoinOperator::Anti(_)
            | JoinOperator::LeftAnti(_)
            | JoinOperator::RightAnti(_) => Err(unsupported("SEMI or ANTI JOIN", &*relation)
                .hint("write WHERE [NOT] EXISTS (…) or [NOT] IN (…)")),
            JoinOperator::CrossApply | JoinOperator::OuterApply => {
                Err(unsupported("APPLY", &*relation).hint("write CROSS JOIN LATERAL"))
            }
            JoinOperator::AsOf { .. } => Err(unsupported("ASOF JOIN", &*relation)),
            JoinOperator::StraightJoin(_) => Err(unsupported("STRAIGHT_JOIN", &*relation)),
            JoinOperator::ArrayJoin | JoinOperator::LeftArrayJoin | JoinOperator::InnerArrayJoin => {
                Err(unsupported("ARRAY JOIN", &*relation).hint("write CROSS JOIN UNNEST(…)"))
            }
        }
    }
}

/// Where a table begins. Not its span: that visits whole sub-queries, by recursion.
fn place_of(factor: &TableFactor) -> Location {
    match factor {
        TableFactor::Table { name, .. } | TableFactor::Function { name, .. } => location_of(name),
        TableFactor::Derived { subquery, .. } => super::place_of(&subquery.body),
        TableFactor::NestedJoin { table_with_joins, .. } => place_of(&table_with_joins.relation),
        TableFactor::UNNEST { array_exprs, .. } => array_exprs.first().map(location_of).unwrap_or_default(),
        TableFactor::TableFunction { expr, .. } => location_of(expr),
        TableFactor::MatchRecognize { table, .. } => place_of(table),
        other => location_of(other),
    }
}

/// Whether it is the call that stands for `TABLE t`.
pub(super) fn is_table_argument(f: &Function) -> bool {
    matches!(f.name.0.as_slice(), [part] if part.as_ident().is_some_and(|i| i.value == TABLE_ARGUMENT))
}

fn table_name(name: &ObjectName) -> Result<()> {
    if name.0.iter().any(|p| p.as_ident().is_none()) {
        return Err(unsupported("a call inside a table name", name));
    }
    if name.0.len() > 3 {
        return Err(Error::syntax(format!(
            "a table name has at most three parts, this one has {}",
            name.0.len()
        ))
        .at(location_of(name))
        .hint("write catalog.database.table; a name that contains dots is written between backticks"));
    }
    Ok(())
}
