//! Golden values: expressions as SQL text, through the whole path of rewrite, planner, analyzer and physical
//! expressions, compared with Flink's text form of the result.

mod collections;
mod core;
mod fuzz;
mod math;
mod strings;
mod temporal;

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use chrono_tz::Tz;
use datafusion::common::TableReference;
use datafusion::common::config::ConfigOptions;
use datafusion::execution::context::SessionContext;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion::logical_expr::{
    AggregateUDF, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF,
};
use datafusion::prelude::SessionConfig;
use datafusion::sql::planner::{ParserOptions, SqlToRel};
use datafusion::sql::sqlparser::ast::Statement;

use crate::error::{Error, Result};
use crate::functions::cast::text::to_text;
use crate::functions::{self, FixedClock, FunctionContext};

/// A planner with the functions of this crate and nothing else.
struct Provider {
    scalars: Vec<Arc<ScalarUDF>>,
    aggregates: Vec<Arc<AggregateUDF>>,
    windows: Vec<Arc<WindowUDF>>,
    planners: Vec<Arc<dyn ExprPlanner>>,
    chains: functions::Chains,
    options: ConfigOptions,
}

impl Provider {
    fn new(context: &FunctionContext) -> Self {
        Provider {
            scalars: functions::scalar_functions(context),
            aggregates: functions::aggregate_functions(),
            windows: functions::window_functions(),
            planners: functions::expr_planners(context),
            chains: functions::Chains::new(context),
            options: ConfigOptions::default(),
        }
    }
}

impl ContextProvider for Provider {
    fn get_table_source(&self, name: TableReference) -> datafusion::error::Result<Arc<dyn TableSource>> {
        Err(Error::validation(format!("no table {name}")).into())
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(functions::type_planner())
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        if let Some(f) = self.scalars.iter().find(|f| f.name() == name) {
            return Some(Arc::clone(f));
        }
        if let Some(f) = self.chains.function(name) {
            return Some(f);
        }
        if self.get_aggregate_meta(name).is_some() || self.get_window_meta(name).is_some() {
            return None;
        }
        Some(functions::missing_function(name, Vec::new()))
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.aggregates.iter().find(|f| f.name() == name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.windows.iter().find(|f| f.name() == name).cloned()
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udf_names(&self) -> Vec<String> {
        self.scalars.iter().map(|f| f.name().to_owned()).collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.aggregates.iter().map(|f| f.name().to_owned()).collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.windows.iter().map(|f| f.name().to_owned()).collect()
    }
}

/// A session for tests.
pub(crate) struct Session {
    context: FunctionContext,
    provider: Provider,
    df: SessionContext,
    runtime: tokio::runtime::Runtime,
}

/// 2024-05-06 07:08:09.123 UTC.
pub(crate) const NOW: i64 = 1_714_979_289_123;

impl Session {
    pub(crate) fn new(zone: &str) -> Self {
        let context = FunctionContext {
            time_zone: zone.parse::<Tz>().unwrap(),
            batch: true,
            query_start: NOW,
            clock: Arc::new(FixedClock(NOW)),
            current_database: "default_database".into(),
        };
        let mut rules = functions::analyzer_rules(&context);
        rules.extend(datafusion::optimizer::analyzer::Analyzer::new().rules);
        let state = SessionStateBuilder::new()
            .with_config(SessionConfig::new().with_target_partitions(2))
            .with_default_features()
            .with_analyzer_rules(rules)
            .build();
        let provider = Provider::new(&context);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Session { context, provider, df: SessionContext::new_with_state(state), runtime }
    }

    fn plan(&self, sql: &str) -> Result<LogicalPlan> {
        let mut query = crate::sql::parse_query(sql)?.query;
        functions::rewrite_query_ast(&mut query)?;
        let options = ParserOptions::new()
            .with_enable_ident_normalization(false)
            .with_map_string_types_to_utf8view(false);
        let planner = SqlToRel::new_with_options(&self.provider, options);
        Ok(planner.sql_statement_to_plan(Statement::Query(query))?)
    }

    /// Runs a query.
    pub(crate) fn run(&self, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        let plan = self.plan(sql)?;
        self.runtime.block_on(async {
            let frame = self.df.execute_logical_plan(plan).await?;
            let schema = Arc::new(frame.schema().as_arrow().clone());
            Ok((schema, frame.collect().await?))
        })
    }

    /// Rows of a query as text, columns joined by `|`.
    pub(crate) fn rows(&self, sql: &str) -> Result<Vec<String>> {
        let (_, batches) = self.run(sql)?;
        let mut out = Vec::new();
        for b in &batches {
            let columns =
                b.columns().iter().map(|c| to_text(c, self.context.time_zone)).collect::<Result<Vec<_>>>()?;
            for row in 0..b.num_rows() {
                let cells: Vec<String> = columns
                    .iter()
                    .map(|c| {
                        let c = arrow::array::AsArray::as_string::<i32>(c);
                        if arrow::array::Array::is_null(c, row) {
                            "NULL".into()
                        } else {
                            c.value(row).to_owned()
                        }
                    })
                    .collect();
                out.push(cells.join("|"));
            }
        }
        Ok(out)
    }

    /// Value and type of an expression.
    pub(crate) fn eval(&self, expr: &str) -> Result<String> {
        let rows = self.rows(&format!("SELECT {expr}"))?;
        Ok(rows.into_iter().next().unwrap_or_default())
    }

    /// The SQL type of an expression.
    pub(crate) fn type_of(&self, expr: &str) -> Result<String> {
        let plan = self.df.state().optimize(&self.plan(&format!("SELECT {expr}"))?)?;
        let field = plan.schema().field(0);
        Ok(crate::types::LogicalType::from_arrow(field.data_type(), true)?.to_string())
    }

    /// Checks pairs of expression and value, all of them before failing.
    pub(crate) fn check(&self, pairs: &[(&str, &str)]) {
        let mut wrong = Vec::new();
        for (expr, expected) in pairs {
            let got = self.eval(expr).unwrap_or_else(|e| format!("ERROR {e}"));
            let same = match expected.strip_prefix("ERROR") {
                Some(part) => got.starts_with("ERROR") && got.contains(part.trim()),
                None => got == *expected,
            };
            if !same {
                wrong.push(format!("{expr}\n    expected {expected}\n    got      {got}"));
            }
        }
        assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), pairs.len(), wrong.join("\n"));
    }

    /// Checks pairs of expression and type.
    pub(crate) fn check_types(&self, pairs: &[(&str, &str)]) {
        let mut wrong = Vec::new();
        for (expr, expected) in pairs {
            let got = self.type_of(expr).unwrap_or_else(|e| format!("ERROR {e}"));
            if got != *expected {
                wrong.push(format!("{expr}\n    expected {expected}\n    got      {got}"));
            }
        }
        assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), pairs.len(), wrong.join("\n"));
    }
}
