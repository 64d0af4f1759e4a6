//! Lowering of UNNEST: chained behind its input.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::UserDefinedLogicalNodeCore;

use crate::error::Result;
use crate::operators::unnest::{UnnestConfig, UnnestOperator};
use crate::plan::nodes::unnest::UnnestNode;
use crate::plan::stream::{ColumnRef, Relation, StreamPlanner};
use crate::runtime::graph::{OperatorFactory, UpdateBefore};

impl StreamPlanner {
    pub(super) fn lower_unnest(&mut self, unnest: &UnnestNode) -> Result<Relation> {
        let mut input = self.lower(&unnest.input)?;
        input.schema = unnest.input.schema().clone();
        let input = self.materialize(input)?;
        let physical_of = |column: usize| match input.columns[column] {
            ColumnRef::Physical(p) => Some(p),
            _ => None,
        };
        let passed: Vec<usize> = unnest.passed().into_iter().filter_map(physical_of).collect();
        let schema: SchemaRef = Arc::new(unnest.schema().as_arrow().clone());
        let config = UnnestConfig {
            collection: self.physical(&unnest.collection, &input)?,
            passed: passed.clone(),
            outer: unnest.outer,
            ordinality: unnest.ordinality,
            schema: schema.clone(),
        };
        let mut detail = format!("collection=[{}]", unnest.collection);
        if unnest.ordinality {
            detail.push_str(", ordinality");
        }
        if unnest.outer {
            detail.push_str(", outer");
        }
        let mut changelog = input.changelog;
        // The rows of an update seldom go on in pairs.
        if changelog.update_after {
            changelog.delete = true;
        }
        let factory: OperatorFactory = Arc::new(move |_| Ok(Box::new(UnnestOperator::new(config.clone()))));
        let node = self.add_operator("Unnest", detail, &input, changelog, None, factory);
        // The elements of the old row have to be known to be taken away.
        self.graph.nodes[node].inputs.iter_mut().for_each(|e| e.update_before = UpdateBefore::Required);
        let place = |physical: usize| passed.iter().position(|p| *p == physical);
        let rowtime = input.rowtime.iter().filter_map(|c| place(*c)).collect();
        let proctime = input.mapped_proctime(place);
        let mut keys = Vec::new();
        if unnest.ordinality && !unnest.outer {
            keys = input.mapped_keys(place);
            keys.iter_mut().for_each(|key| key.push(schema.fields().len() - 1));
        }
        let relation = Relation::plain(node, unnest.schema().clone(), schema, changelog, rowtime);
        Ok(relation.with_keys(keys).with_proctime(proctime))
    }
}
