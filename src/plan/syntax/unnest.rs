//! Plans the UNNESTs among the table factors, each over one row until it is joined to its table.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering as MemoryOrdering};

use datafusion::common::{DFSchema, Result as DfResult, TableReference};
use datafusion::functions_nested::expr_fn::make_array;
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{Expr, ExprSchemable, Extension, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{self, Spanned, TableFactor};

use crate::error::{Error, Location};
use crate::operators::unnest::Shape;

use crate::plan::nodes::unnest::UnnestNode;

/// Plans the UNNESTs among the table factors.
#[derive(Debug, Default)]
pub struct UnnestPlanner {
    unnamed: AtomicUsize,
}

impl RelationPlanner for UnnestPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<RelationPlanning> {
        if let TableFactor::Function { lateral: true, name, args, .. } = &relation {
            let called = args.first().map_or_else(|| name.to_string(), ToString::to_string);
            let start = name.span().start;
            return Err(Error::unsupported(format!("the table function {called} is not known"))
                .hint("LATERAL takes a sub-query; collections are joined by CROSS JOIN UNNEST(a) AS u(x)")
                .at(Location { line: start.line, column: start.column })
                .into());
        }
        let TableFactor::UNNEST { alias, array_exprs, with_ordinality, .. } = &relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let [array] = array_exprs.as_slice() else {
            return Err(Error::unsupported("UNNEST of several collections is not supported")
                .hint("join them one after the other: CROSS JOIN UNNEST(a) CROSS JOIN UNNEST(b)")
                .into());
        };
        let start = array.span().start;
        let place = Location { line: start.line, column: start.column };
        let collection = plan_collection(array, context)?;
        let (qualifier, mut names) = match alias {
            Some(alias) => (
                context.normalize_ident(alias.name.clone()),
                alias.columns.iter().map(|c| context.normalize_ident(c.name.clone())).collect(),
            ),
            None => {
                let n = self.unnamed.fetch_add(1, MemoryOrdering::Relaxed);
                (format!("__unnest_{n}"), Vec::new())
            }
        };
        let one_row = LogicalPlanBuilder::empty(true).build()?;
        let shape = Shape::of(&collection.get_type(one_row.schema())?).map_err(|e| e.at(place))?;
        // The only column of a named relation is called as the relation is.
        if alias.is_some() && names.is_empty() && shape.is_plain() {
            names.push(qualifier.clone());
            if *with_ordinality {
                names.push("ORDINALITY".to_owned());
            }
        }
        let flags = (false, *with_ordinality);
        let node =
            UnnestNode::try_new(one_row, collection, flags, None, TableReference::bare(qualifier), names)
                .map_err(|e| Error::from(e).at(place))?;
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, None))))
    }
}

/// `ARRAY[…]` is planned here: the planner forgets the columns around it inside of one.
fn plan_collection(array: &ast::Expr, context: &mut dyn RelationPlannerContext) -> DfResult<Expr> {
    match array {
        ast::Expr::Array(ast::Array { elem, named: _ }) => {
            let items = elem.iter().map(|e| plan_collection(e, context)).collect::<DfResult<Vec<_>>>()?;
            Ok(make_array(items))
        }
        ast::Expr::Nested(inner) => plan_collection(inner, context),
        other => context.sql_to_expr(other.clone(), &DFSchema::empty()),
    }
}
