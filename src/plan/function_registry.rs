//! The functions that a statement is planned with, by name.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::config::ConfigOptions;
use datafusion::logical_expr::planner::{ExprPlanner, TypePlanner};
use datafusion::logical_expr::{AggregateUDF, LogicalPlan, ScalarUDF, WindowUDF};
use datafusion::optimizer::AnalyzerRule;

use crate::error::Result;
use crate::functions;
use crate::plan::errors::explain;
use crate::plan::logical::grouping_sets::settle_grouping_sets;
use crate::plan::passes::analyzer_rules;

/// All functions by lower-case name.
#[derive(Debug)]
pub struct FunctionRegistry {
    pub(super) scalar: HashMap<String, Arc<ScalarUDF>>,
    pub(super) aggregate: HashMap<String, Arc<AggregateUDF>>,
    pub(super) window: HashMap<String, Arc<WindowUDF>>,
    pub(super) expr_planners: Vec<Arc<dyn ExprPlanner>>,
    pub(super) type_planner: Arc<dyn TypePlanner>,
    rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>>,
    pub(super) chains: functions::Chains,
}

impl FunctionRegistry {
    /// Names of all functions, sorted.
    pub fn names(&self) -> Vec<String> {
        functions::names()
    }

    /// The functions of [`crate::functions`].
    pub fn new(context: &functions::FunctionContext) -> Self {
        let mut registry = FunctionRegistry {
            scalar: HashMap::new(),
            aggregate: HashMap::new(),
            window: HashMap::new(),
            expr_planners: functions::expr_planners(context),
            type_planner: functions::type_planner(),
            rules: analyzer_rules(context, false),
            chains: functions::Chains::new(context),
        };
        by_name(&mut registry.scalar, functions::scalar_functions(context), |f| (f.name(), f.aliases()));
        by_name(&mut registry.aggregate, functions::aggregate_functions(), |f| (f.name(), f.aliases()));
        by_name(&mut registry.window, functions::window_functions(), |f| (f.name(), f.aliases()));
        registry
    }

    /// Finds what only the analyzer refuses, while the query that it stands in is known.
    pub(super) fn check_types(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<()> {
        let mut plan = settle_grouping_sets(plan)?;
        for rule in &self.rules {
            plan = rule.analyze(plan, config).map_err(explain)?;
        }
        Ok(())
    }
}

/// Names win over aliases: DataFusion's `to_char` is also called `date_format`, which is a function of its own here.
fn by_name<F>(
    known: &mut HashMap<String, Arc<F>>,
    functions: Vec<Arc<F>>,
    names: impl Fn(&F) -> (&str, &[String]),
) {
    for f in &functions {
        known.insert(names(f).0.to_ascii_lowercase(), Arc::clone(f));
    }
    for f in &functions {
        for alias in names(f).1 {
            known.entry(alias.to_ascii_lowercase()).or_insert_with(|| Arc::clone(f));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_alias_hides_a_function() {
        let context = functions::FunctionContext::default();
        let registry = FunctionRegistry::new(&context);
        for f in functions::scalar_functions(&context) {
            assert!(registry.scalar.get(f.name()).is_some_and(|g| g.name() == f.name()), "{}", f.name());
        }
        for f in functions::aggregate_functions() {
            assert!(registry.aggregate.get(f.name()).is_some_and(|g| g.name() == f.name()), "{}", f.name());
            // The planner asks for scalar functions first.
            assert!(registry.scalar.get(f.name()).is_none_or(|g| g.name() == f.name()), "{}", f.name());
        }
        for f in functions::window_functions() {
            assert!(registry.window.get(f.name()).is_some_and(|g| g.name() == f.name()), "{}", f.name());
            assert!(!registry.scalar.contains_key(f.name()), "{}", f.name());
        }
        let date_format = registry.scalar.get("date_format").map(|f| f.name().to_owned());
        assert_eq!(date_format.as_deref(), Some("date_format"));
    }
}
