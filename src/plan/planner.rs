//! What the SQL planner asks for: tables, functions, options. One [`Planner`] per statement.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::common::{DFSchema, Result as DfResult, TableReference};
use datafusion::config::ConfigOptions;
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner, TypePlanner};
use datafusion::logical_expr::{
    AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, LogicalPlanBuilder, ScalarUDF, TableSource, WindowUDF,
};
use datafusion::sql::planner::{NullOrdering, ParserOptions, PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast;

use crate::catalog::{CatalogObject, ResolvedTable, ViewDef};
use crate::edges::{ConnectorEnv, Source};
use crate::error::{Error, ErrorKind, Location, Result};
use crate::functions;
use crate::functions::user::UserFunction;
use crate::plan::errors::{explain, locate};
pub use crate::plan::function_registry::FunctionRegistry;
use crate::plan::logical::exact_types::settle_exact_types;
use crate::plan::logical::group_window::{refuse_group_functions, settle_group_windows};
use crate::plan::logical::subquery::has_subquery;
use crate::plan::logical::union_types::refuse_nested_aggregates;
use crate::plan::nodes::view::{ViewNode, open_views};
use crate::plan::passes::{rewrite_syntax, settle_relations};
use crate::plan::state_ttl::StateTtls;
use crate::plan::syntax::group_window;
use crate::plan::syntax::match_recognize::MatchRecognizePlanner;
use crate::plan::syntax::row_subquery::RowSubqueryPlanner;
use crate::plan::syntax::set_operation::SetOperationPlanner;
use crate::plan::syntax::temporal_table::{self, TemporalTablePlanner};
use crate::plan::syntax::unknown_column;
use crate::plan::syntax::unnest::UnnestPlanner;
use crate::plan::syntax::user_functions::{UserTablePlanner, check_calls};
use crate::plan::syntax::using::{UsingJoins, UsingPlanner};
use crate::plan::syntax::window_tvf::WindowTvfPlanner;
use crate::plan::table::DerivedTable;
use crate::plan::user_functions::{calls_itself, table_among_expressions};
use crate::runtime::job::JobMetrics;
use crate::sql::ast::{AS_OF_MARK, HINT_MARK, Query, SqlExpr};
use crate::sql::with_room;

/// Looks names up in the catalogs.
pub trait NameResolver: Send + Sync + Debug {
    /// The table or view that `parts` (one to three) mean; `within` is the catalog and database for short names,
    /// the session's when `None`.
    ///
    /// # Errors
    /// External when a catalog fails.
    fn lookup(&self, parts: &[String], within: Option<&(String, String)>) -> Result<Option<CatalogObject>>;

    /// The error for a name that means nothing: what is near, or what there is.
    fn not_found(&self, parts: &[String], within: Option<&(String, String)>) -> Error;

    /// The function of the user that `parts` mean; `within` as in [`NameResolver::lookup`].
    fn function(&self, _parts: &[String], _within: Option<&(String, String)>) -> Option<Arc<UserFunction>> {
        None
    }

    /// Bare names of functions of the user.
    fn function_names(&self) -> Vec<String> {
        Vec::new()
    }

    /// The source of a table.
    ///
    /// # Errors
    /// Validation for bad options.
    fn source(&self, table: &ResolvedTable, env: &ConnectorEnv) -> Result<Arc<dyn Source>>;
}

/// Everything a statement is planned with.
#[derive(Debug, Clone)]
pub struct PlanEnv {
    /// Catalogs.
    pub names: Arc<dyn NameResolver>,
    /// Functions.
    pub functions: Arc<FunctionRegistry>,
    /// DataFusion's options.
    pub config: Arc<ConfigOptions>,
    /// For connectors.
    pub connectors: ConnectorEnv,
    /// Counters of the job that is planned.
    pub metrics: Arc<JobMetrics>,
    /// Filled by the STATE_TTL hints of the queries.
    pub state_ttls: StateTtls,
}

/// Plans the queries of one statement.
#[derive(Debug)]
pub struct Planner {
    pub(super) env: PlanEnv,
    hints: Vec<BTreeMap<String, String>>,
    pub(super) within: Option<(String, String)>,
    relation_planners: Vec<Arc<dyn RelationPlanner>>,
    using_joins: UsingJoins,
    randoms: functions::Randoms,
    sources: Mutex<Sources>,
    /// The views that the query is within, outermost first.
    views: Vec<Arc<ViewDef>>,
    /// Functions whose bodies it is within, outermost first.
    pub(super) callers: Vec<String>,
}

/// How many views may stand on each other.
const MAX_VIEWS: usize = 500;

/// The tables of a query, each use by itself.
#[derive(Default)]
struct Sources {
    known: HashMap<TableReference, Vec<Arc<dyn TableSource>>>,
    /// How many uses this planning has seen.
    used: HashMap<TableReference, usize>,
}

impl Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").field("used", &self.used).finish_non_exhaustive()
    }
}

fn parser_options() -> ParserOptions {
    ParserOptions {
        parse_float_as_decimal: true,
        enable_ident_normalization: false,
        support_varchar_with_length: true,
        enable_options_value_normalization: false,
        collect_spans: true,
        map_string_types_to_utf8view: false,
        // NULLs are low: first in ASC, last in DESC.
        default_null_ordering: NullOrdering::NullsMin,
    }
}

impl Planner {
    /// A planner for statements with these table hints.
    pub fn new(env: PlanEnv, hints: Vec<BTreeMap<String, String>>) -> Self {
        let time_zone = env.connectors.time_zone;
        let window: Arc<dyn RelationPlanner> = Arc::new(WindowTvfPlanner { time_zone });
        let using_joins = UsingJoins::default();
        Planner {
            hints,
            within: None,
            relation_planners: vec![
                Self::user_tables(&env, None, &[]),
                Arc::new(UsingPlanner(using_joins.clone())),
                Arc::new(SetOperationPlanner),
                Arc::new(RowSubqueryPlanner),
                Arc::new(MatchRecognizePlanner),
                Arc::new(TemporalTablePlanner { time_zone }),
                Arc::new(UnnestPlanner::default()),
                window,
            ],
            using_joins,
            randoms: functions::Randoms::default(),
            sources: Mutex::default(),
            views: Vec::new(),
            callers: Vec::new(),
            env,
        }
    }

    /// The same for a text in another place.
    pub(super) fn in_place(mut self, within: Option<(String, String)>, callers: Vec<String>) -> Self {
        if let Some(first) = self.relation_planners.first_mut() {
            *first = Self::user_tables(&self.env, within.as_ref(), &callers);
        }
        Planner { within, callers, ..self }
    }

    fn user_tables(
        env: &PlanEnv,
        within: Option<&(String, String)>,
        callers: &[String],
    ) -> Arc<dyn RelationPlanner> {
        Arc::new(UserTablePlanner { env: env.clone(), within: within.cloned(), callers: callers.to_vec() })
    }

    /// Plans a query, before analysis and optimization.
    ///
    /// # Errors
    /// Validation with the location of the cause where it is known.
    pub fn plan_query(env: &PlanEnv, query: &Query) -> Result<LogicalPlan> {
        let planner = Self::new(env.clone(), query.table_hints.clone());
        let plan = with_room(|| {
            planner.checked(&query.query).map_err(|e| {
                let place = planner.place(&e, &query.query);
                place.into_iter().fold(e, Error::at).at(query.location)
            })
        })?;
        env.state_ttls.add(&query.hinted, &plan)?;
        Ok(plan)
    }

    /// Plans a query whose types fit.
    fn checked(&self, query: &ast::Query) -> Result<LogicalPlan> {
        let plan = self.plan(query)?;
        // Views were checked when they were created.
        self.env.functions.check_types(plan.clone(), &self.env.config)?;
        open_views(plan)
    }

    /// Where the cause of an error stands, if the error does not say so.
    fn place(&self, e: &Error, query: &ast::Query) -> Option<Location> {
        let of_query = matches!(
            e.kind(),
            ErrorKind::Syntax | ErrorKind::Validation | ErrorKind::Unsupported | ErrorKind::Data
        );
        if e.location().is_some() || !of_query {
            return None;
        }
        locate(query, &e.message(), |changed| self.checked(&changed).err().map(|e| e.message()))
    }

    fn plan(&self, query: &ast::Query) -> Result<LogicalPlan> {
        let plan = self.inline(self.plan_over(query, None)?)?;
        let plan = settle_group_windows(plan, self.env.connectors.time_zone)?;
        refuse_nested_aggregates(&plan)?;
        let plan = if matches!(plan, LogicalPlan::Values(_)) {
            let names: Vec<String> = (0..plan.schema().fields().len()).map(|i| format!("EXPR${i}")).collect();
            rename(plan, &names)?
        } else {
            plan
        };
        settle_relations(settle_exact_types(plan, self.env.connectors.time_zone)?)
    }

    /// The plan of DataFusion's planner. With `around`, columns of that are references to a query around it.
    pub(super) fn plan_over(&self, query: &ast::Query, around: Option<&DFSchema>) -> Result<LogicalPlan> {
        check_calls(query, self.env.names.as_ref(), self.within.as_ref())?;
        let written = query;
        let mut marked = query.clone();
        let mut merges = self.using_joins.mark(&mut marked, false);
        let mut stars = false;
        let planned = loop {
            self.sources().used.clear();
            let mut query = marked.clone();
            rewrite_syntax(&mut query)?;
            let planner = SqlToRel::new_with_options(self, parser_options());
            let query = Box::new(query);
            let planned = match around {
                None => planner.sql_statement_to_plan(ast::Statement::Query(query)),
                Some(schema) => {
                    let exists = ast::Expr::Exists { subquery: query, negated: false };
                    let planned = planner.sql_to_expr(exists, schema, &mut PlannerContext::new());
                    planned.and_then(|e| match e {
                        Expr::Exists(e) => Ok(Arc::unwrap_or_clone(e.subquery.subquery)),
                        _ => datafusion::common::internal_err!("EXISTS became something else"),
                    })
                }
            };
            // Also where it failed: a `*` may have been too few columns.
            if merges && self.using_joins.expand(&mut marked) {
                continue;
            }
            match planned {
                Err(e) if !stars && needs_columns(&e) => {
                    stars = true;
                    marked = written.clone();
                    merges = self.using_joins.mark(&mut marked, true);
                }
                planned => break planned,
            }
        };
        planned.map_err(|e| {
            let location = unknown_column::locate(&e, written);
            location.into_iter().fold(explain(e), Error::at)
        })
    }

    /// Plans an expression over the columns of `schema`, which stands by itself.
    ///
    /// # Errors
    /// Validation with the location of the expression; Unsupported for sub-queries, which functions may bring.
    pub fn plan_expr(&self, expr: &SqlExpr, schema: &DFSchema) -> Result<Expr> {
        let planned = self.plan_part(expr, schema)?;
        if has_subquery(&planned) {
            return Err(Error::unsupported("a function with a sub-query cannot be called here")
                .at(expr.location)
                .hint("call it in a query or in a view"));
        }
        Ok(planned)
    }

    /// As [`Planner::plan_expr`], of what becomes part of a query.
    pub(super) fn plan_part(&self, expr: &SqlExpr, schema: &DFSchema) -> Result<Expr> {
        with_room(|| {
            let mut tree = expr.expr.clone();
            functions::rewrite_expr_ast(&mut tree)?;
            let planner = SqlToRel::new_with_options(self, parser_options());
            let planned = planner.sql_to_expr(tree, schema, &mut PlannerContext::new());
            let planned = planned.and_then(|e| self.inline_expr(e, schema));
            let checked = planned.and_then(|e| refuse_group_functions(&e).map(|()| e));
            checked.map_err(|e| explain(e).at(expr.location))
        })
    }

    fn table(&self, reference: &TableReference) -> Result<Arc<dyn TableProvider>> {
        let mut parts: Vec<String> = match reference {
            TableReference::Bare { table } => vec![table.to_string()],
            TableReference::Partial { schema, table } => vec![schema.to_string(), table.to_string()],
            TableReference::Full { catalog, schema, table } => {
                vec![catalog.to_string(), schema.to_string(), table.to_string()]
            }
        };
        let (mut hint, mut as_of) = (BTreeMap::new(), None);
        if let Some(last) = parts.last_mut()
            && let Some((name, mark)) = last.clone().split_once(HINT_MARK)
        {
            *last = name.to_owned();
            let (number, time) = mark.split_once(AS_OF_MARK).map_or((mark, None), |(n, t)| (n, Some(t)));
            as_of = time.map(str::to_owned);
            hint = number.parse().ok().and_then(|n: usize| self.hints.get(n)).cloned().unwrap_or_default();
        }
        let shown = parts.join(".");
        match self.env.names.lookup(&parts, self.within.as_ref())? {
            Some(CatalogObject::Table(def)) => {
                if let Some(time) = as_of {
                    temporal_table::travel(&def, &mut hint, time)?;
                }
                self.plan_table(&def, &hint)
            }
            Some(CatalogObject::View(view)) => {
                if as_of.is_some() {
                    return Err(temporal_table::no_versions(&view.path));
                }
                if !hint.is_empty() {
                    return Err(Error::validation(format!("view {shown} cannot have an OPTIONS hint")));
                }
                self.plan_view(&view)
            }
            None => Err(self.env.names.not_found(&parts, self.within.as_ref())),
        }
    }

    fn sources(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plan_view(&self, view: &Arc<ViewDef>) -> Result<Arc<dyn TableProvider>> {
        if self.views.iter().any(|v| v.path == view.path) {
            return Err(Error::validation(format!("view {} refers to itself", view.path))
                .hint("create it again with a query that does not"));
        }
        if self.views.len() >= MAX_VIEWS {
            return Err(Error::unsupported(format!("more than {MAX_VIEWS} views stand on each other"))
                .hint("write the rows of one of them to a table"));
        }
        let mut views = self.views.clone();
        views.push(Arc::clone(view));
        let mut relation_planners = self.relation_planners.clone();
        if let Some(first) = relation_planners.first_mut() {
            *first = Self::user_tables(&self.env, Some(&view.resolve_in), &self.callers);
        }
        let inner = Planner {
            env: self.env.clone(),
            hints: view.query.table_hints.clone(),
            within: Some(view.resolve_in.clone()),
            relation_planners,
            using_joins: self.using_joins.clone(),
            randoms: self.randoms.clone(),
            sources: Mutex::default(),
            views,
            callers: self.callers.clone(),
        };
        let mut plan = with_room(|| inner.plan(&view.query.query))
            .map_err(|e| e.context(format!("view {}", view.path.object)))?;
        if !view.columns.is_empty() {
            plan = rename(plan, &view.columns)?;
        }
        Ok(Arc::new(DerivedTable::new(ViewNode::leaf(plan)?)))
    }
}

/// Whether a query failed for a `*` that means more than DataFusion's: columns whose names come twice, or fields of a row.
fn needs_columns(e: &DataFusionError) -> bool {
    let message = e.to_string();
    message.contains("require unique expression names") || message.contains("Invalid qualifier")
}

/// Gives the columns of a plan new names.
///
/// # Errors
/// Validation if their number differs.
pub fn rename(plan: LogicalPlan, names: &[String]) -> Result<LogicalPlan> {
    if names.len() != plan.schema().fields().len() {
        return Err(Error::validation(format!(
            "{} column names for a query of {} columns",
            names.len(),
            plan.schema().fields().len()
        )));
    }
    let exprs: Vec<Expr> = plan
        .schema()
        .columns()
        .into_iter()
        .zip(names)
        .map(|(c, name)| Expr::Column(c).alias(name.clone()))
        .collect();
    Ok(LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
}

impl ContextProvider for Planner {
    fn get_table_source(&self, name: TableReference) -> DfResult<Arc<dyn TableSource>> {
        // A query may be planned several times; its tables are looked up once.
        let mut sources = self.sources();
        let nth = sources.used.entry(name.clone()).or_insert(0);
        let index = *nth;
        *nth += 1;
        if let Some(known) = sources.known.get(&name).and_then(|all| all.get(index)) {
            return Ok(Arc::clone(known));
        }
        drop(sources);
        let source = provider_as_source(self.table(&name)?);
        self.sources().known.entry(name).or_default().push(Arc::clone(&source));
        Ok(source)
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.env.functions.expr_planners
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relation_planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(self.env.functions.type_planner.clone())
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        let lower = name.to_ascii_lowercase();
        if let Some(f) = self.randoms.call(&lower) {
            return Some(f);
        }
        if let Some(f) = self.user_function(name) {
            // An aggregate is asked for later.
            return match f.scalar() {
                Some(scalar) => Some(Arc::clone(scalar)),
                None if f.aggregate().is_some() => None,
                None => Some(functions::refused_function(name, table_among_expressions(&f))),
            };
        }
        let known = &self.env.functions;
        if let Some(f) = known.scalar.get(&lower) {
            return Some(f.clone());
        }
        if let Some(f) = known.chains.function(&lower) {
            return Some(f);
        }
        if let Some(f) = group_window::function(&lower) {
            return Some(f);
        }
        // What exists nowhere becomes a function that fails with the types of its arguments.
        let elsewhere =
            known.aggregate.contains_key(&lower) || known.window.contains_key(&lower) || lower == "unnest";
        if elsewhere {
            return None;
        }
        Some(match self.callers.iter().any(|c| c.eq_ignore_ascii_case(name)) {
            true => functions::refused_function(name, calls_itself(name)),
            false => functions::missing_function(name, self.env.names.function_names()),
        })
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        if let Some(f) = self.user_function(name) {
            return f.aggregate().cloned();
        }
        self.env.functions.aggregate.get(&name.to_ascii_lowercase()).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.env.functions.window.get(&name.to_ascii_lowercase()).cloned()
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_variable_type(&self, _variable_names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.env.config
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udf_names(&self) -> Vec<String> {
        self.env.functions.scalar.keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.env.functions.aggregate.keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.env.functions.window.keys().cloned().collect()
    }
}

/// The position that DataFusion's span starts at.
pub fn location_of_span(span: datafusion::common::Span) -> Location {
    Location { line: span.start.line, column: span.start.column }
}

/// The position that sqlparser's span starts at.
pub fn location_of(span: datafusion::sql::sqlparser::tokenizer::Span) -> Location {
    Location { line: span.start.line, column: span.start.column }
}
