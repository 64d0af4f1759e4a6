//! Lowering of INTERSECT and EXCEPT: both sides, brought to the same types, meet by all their columns.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNodeCore};

use crate::error::{Error, Result};
use crate::operators::calc::CalcConfig;
use crate::operators::set_operation::{SetOperationConfig, SetOperationOperator};
use crate::plan::nodes::set_operation::{SetOperationNode, is_comparable};
use crate::plan::stream::{Relation, StreamPlanner, physical_expr};
use crate::runtime::exchange::Partitioning;
use crate::runtime::graph::{ChangelogMode, Edge, Node, NodeKind, OperatorFactory, UpdateBefore};

impl StreamPlanner {
    pub(super) fn lower_set_operation(&mut self, operation: &SetOperationNode) -> Result<Relation> {
        let schema = operation.schema();
        if let Some(field) = schema.fields().iter().find(|f| !is_comparable(f.data_type())) {
            return Err(Error::unsupported(format!(
                "{} over the column {}, which holds maps",
                operation.kind.sql(),
                field.name()
            ))
            .hint("maps are not comparable: select MAP_ENTRIES(…) of it"));
        }
        let left = self.set_operation_side(operation, &operation.left)?;
        let right = self.set_operation_side(operation, &operation.right)?;
        let physical: SchemaRef = Arc::new(schema.as_arrow().clone());
        let columns: Vec<usize> = (0..physical.fields().len()).collect();
        let edge = |from, port| Edge {
            from,
            port,
            partitioning: Partitioning::Hash(columns.clone()),
            update_before: UpdateBefore::Required,
        };
        let config = SetOperationConfig {
            kind: operation.kind,
            schema: physical.clone(),
            bundle_rows: self.options.bundle_rows,
        };
        // Types that cannot be keys are refused here, not in a task.
        SetOperationOperator::new(config.clone())?;
        let factory: OperatorFactory =
            Arc::new(move |_| Ok(Box::new(SetOperationOperator::new(config.clone())?)));
        let detail = operation.kind.sql().to_owned();
        let uid = self.uid("SetOperation", &detail, &[left.node, right.node]);
        let node = self.graph.add(Node {
            uid,
            name: "SetOperation",
            detail,
            parallelism: self.options.parallelism,
            inputs: vec![edge(left.node, 0), edge(right.node, 1)],
            changelog: ChangelogMode::DELETES,
            kind: NodeKind::Operator(factory),
        });
        let keys = if operation.kind.is_all() { Vec::new() } else { vec![columns] };
        let relation =
            Relation::plain(node, schema.clone(), physical, ChangelogMode::DELETES, BTreeSet::new());
        Ok(relation.with_keys(keys))
    }

    /// A side with exactly the columns and types of the result.
    fn set_operation_side(&mut self, operation: &SetOperationNode, side: &LogicalPlan) -> Result<Relation> {
        let relation = self.lower(side)?;
        let relation = self.materialize(relation)?;
        let relation = self.trim(relation)?;
        let same = side
            .schema()
            .fields()
            .iter()
            .zip(operation.schema().fields())
            .all(|(a, b)| a.data_type() == b.data_type());
        if same {
            return Ok(relation);
        }
        let input = relation.physical_df_schema()?;
        let exprs = operation.casts(side);
        let detail = exprs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let projection = exprs
            .iter()
            .map(|e| physical_expr(e, &input, &self.options.props))
            .collect::<Result<Vec<_>>>()?;
        let fields: Vec<_> = side
            .schema()
            .fields()
            .iter()
            .zip(operation.schema().fields())
            .map(|(from, to)| Arc::new(to.as_ref().clone().with_nullable(from.is_nullable())))
            .collect();
        let physical: SchemaRef = Arc::new(arrow::datatypes::Schema::new(fields));
        let config = CalcConfig { condition: None, projection: Some(projection), schema: physical.clone() };
        let node = self.add_calc(config, format!("select=[{detail}]"), &relation);
        Ok(Relation { node, physical, ..relation })
    }
}
