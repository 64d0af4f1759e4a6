//! Columns of the table as columns of a file: found by name, of another type only where nothing can fail.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::CastOptions;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result as DfResult, internal_err};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr_adapter::{
    DefaultPhysicalExprAdapterFactory, PhysicalExprAdapter, PhysicalExprAdapterFactory,
};

/// Does without casts where nothing but the nullability or the metadata of fields differs: statistics would not be
/// understood through them.
#[derive(Debug)]
pub(super) struct StraightColumns;

impl PhysicalExprAdapterFactory for StraightColumns {
    fn create(&self, table: SchemaRef, file: SchemaRef) -> DfResult<Arc<dyn PhysicalExprAdapter>> {
        let others = DefaultPhysicalExprAdapterFactory.create(Arc::clone(&table), Arc::clone(&file))?;
        Ok(Arc::new(Adapter { table, file, others }))
    }
}

#[derive(Debug)]
struct Adapter {
    table: SchemaRef,
    file: SchemaRef,
    others: Arc<dyn PhysicalExprAdapter>,
}

impl PhysicalExprAdapter for Adapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> DfResult<Arc<dyn PhysicalExpr>> {
        expr.transform_down(|node| {
            let Some(column) = node.downcast_ref::<Column>() else { return Ok(Transformed::no(node)) };
            let found = self.file.column_with_name(column.name());
            let declared = self.table.field_with_name(column.name());
            let adapted = match (declared, found) {
                (Ok(declared), Some((index, found))) => {
                    let straight = Arc::new(Column::new(column.name(), index)) as Arc<dyn PhysicalExpr>;
                    match (found.data_type(), declared.data_type()) {
                        (from, to) if from == to => straight,
                        (DataType::Timestamp(..), DataType::Timestamp(..)) => {
                            let field = Arc::new(declared.clone().with_nullable(found.is_nullable()));
                            Arc::new(CutTimestamp { input: straight, field })
                        }
                        _ => self.others.rewrite(Arc::clone(&node))?,
                    }
                }
                _ => self.others.rewrite(Arc::clone(&node))?,
            };
            // What was put in is not looked at again.
            Ok(Transformed::new(adapted, true, TreeNodeRecursion::Jump))
        })
        .data()
    }
}

/// A timestamp with fewer digits than the file has. No plain cast: DataFusion would compare the digits that are cut with
/// literals that lack them.
#[derive(Debug, Clone, Eq)]
struct CutTimestamp {
    input: Arc<dyn PhysicalExpr>,
    field: FieldRef,
}

impl PartialEq for CutTimestamp {
    fn eq(&self, other: &Self) -> bool {
        self.input.eq(&other.input) && self.field == other.field
    }
}

impl Hash for CutTimestamp {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        self.field.hash(state);
    }
}

impl fmt::Display for CutTimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CUT({} AS {})", self.input, self.field.data_type())
    }
}

impl PhysicalExpr for CutTimestamp {
    fn data_type(&self, _input: &Schema) -> DfResult<DataType> {
        Ok(self.field.data_type().clone())
    }

    fn nullable(&self, _input: &Schema) -> DfResult<bool> {
        Ok(self.field.is_nullable())
    }

    fn return_field(&self, _input: &Schema) -> DfResult<FieldRef> {
        Ok(Arc::<Field>::clone(&self.field))
    }

    fn evaluate(&self, batch: &RecordBatch) -> DfResult<ColumnarValue> {
        let options = CastOptions { safe: false, ..Default::default() };
        self.input.evaluate(batch)?.cast_to(self.field.data_type(), Some(&options))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.input]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> DfResult<Arc<dyn PhysicalExpr>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => Ok(Arc::new(CutTimestamp { input, field: Arc::clone(&self.field) })),
            Err(children) => internal_err!("a timestamp cut over {} inputs", children.len()),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
