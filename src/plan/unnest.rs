//! `UNNEST` in a plan, and LATERAL sub-queries that read nothing but the row beside them.
//!
//! ```text
//!  FROM t CROSS JOIN UNNEST(t.a) AS u(x) WITH ORDINALITY
//!     └─► Join(t, Subquery(UnnestNode(one row, outer_ref(t.a))))     as the planner makes it
//!     └─► UnnestNode(t, t.a): columns of t ++ columns of the elements
//!           streaming: an operator
//!           batch:     Projection[t.*, fields of e] (Unnest[e] (Projection[t.*, elements(t.a) AS e] (t)))
//!  FROM t, LATERAL (SELECT f(t.b, x) FROM UNNEST(t.a) AS u(x) WHERE …)
//!     └─► Projection[t.*, f(t.b, x)] (Filter (UnnestNode(t, t.a)))
//! ```

use std::any::Any;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering as MemoryOrdering};

use arrow::array::{Array, ArrayRef, AsArray, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{
    Column, DFSchema, DFSchemaRef, JoinType, Result as DfResult, ScalarValue, TableReference,
};
use datafusion::functions_nested::expr_fn::make_array;
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Extension, Filter, Join, LogicalPlan, LogicalPlanBuilder, Projection,
    ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, UserDefinedLogicalNodeCore,
    Volatility,
};
use datafusion::sql::sqlparser::ast::{self, Spanned, TableFactor};

use crate::error::{Error, Location, Result};
use crate::operators::unnest::{Collections, Shape, as_rows};

/// A row for every element of a collection.
#[derive(Debug, Clone)]
pub struct UnnestNode {
    /// What is beside the elements.
    pub input: LogicalPlan,
    /// The array, map or multiset.
    pub collection: Expr,
    /// Whether a row without elements gives one with NULLs.
    pub outer: bool,
    /// Whether the elements are numbered.
    pub ordinality: bool,
    /// Columns of the input that go on, by name; all of them when `None`.
    pub kept: Option<Vec<Column>>,
    /// Name of the elements as a relation.
    qualifier: TableReference,
    /// Names of their columns; Flink's own when empty.
    names: Vec<String>,
    schema: DFSchemaRef,
}

impl UnnestNode {
    fn try_new(
        input: LogicalPlan,
        collection: Expr,
        (outer, ordinality): (bool, bool),
        kept: Option<Vec<Column>>,
        qualifier: TableReference,
        names: Vec<String>,
    ) -> DfResult<Self> {
        let shape = Shape::of(&collection.get_type(input.schema())?)?;
        let mut added: Vec<FieldRef> = shape.fields;
        if ordinality {
            added.push(Arc::new(Field::new("ORDINALITY", DataType::Int32, false)));
        }
        if !names.is_empty() && names.len() != added.len() {
            return Err(Error::validation(format!(
                "List of column aliases must have same degree as table; table has {} columns ({}), whereas alias list has {} columns",
                added.len(),
                added.iter().map(|f| format!("'{}'", f.name())).collect::<Vec<_>>().join(", "),
                names.len()
            ))
            .into());
        }
        let mut fields: Vec<(Option<TableReference>, FieldRef)> = input
            .schema()
            .iter()
            .filter(|(q, f)| {
                kept.as_ref()
                    .is_none_or(|k| k.iter().any(|c| c.relation.as_ref() == *q && c.name == *f.name()))
            })
            .map(|(q, f)| (q.cloned(), Arc::clone(f)))
            .collect();
        for (i, field) in added.into_iter().enumerate() {
            let mut field = field.as_ref().clone();
            if let Some(name) = names.get(i) {
                field.set_name(name.clone());
            }
            let nullable = outer || field.is_nullable();
            fields.push((Some(qualifier.clone()), Arc::new(field.with_nullable(nullable))));
        }
        let schema = DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?;
        Ok(UnnestNode {
            input,
            collection,
            outer,
            ordinality,
            kept,
            qualifier,
            names,
            schema: Arc::new(schema),
        })
    }

    /// The same over another input.
    pub(super) fn over(&self, input: LogicalPlan, collection: Expr, outer: bool) -> DfResult<Self> {
        let (qualifier, names) = (self.qualifier.clone(), self.names.clone());
        Self::try_new(input, collection, (outer, self.ordinality), None, qualifier, names)
    }

    /// The same with only these columns of the input.
    fn keeping(&self, kept: Vec<Column>) -> DfResult<Self> {
        let (qualifier, names) = (self.qualifier.clone(), self.names.clone());
        let flags = (self.outer, self.ordinality);
        Self::try_new(self.input.clone(), self.collection.clone(), flags, Some(kept), qualifier, names)
    }

    /// Indices of the input's columns that go on.
    pub fn passed(&self) -> Vec<usize> {
        let columns = self.input.schema().columns();
        (0..columns.len()).filter(|i| self.kept.as_ref().is_none_or(|k| k.contains(&columns[*i]))).collect()
    }

    /// Columns of the elements, with their qualifier.
    fn added(&self) -> impl Iterator<Item = (Option<&TableReference>, &FieldRef)> {
        self.schema.iter().skip(self.passed().len())
    }

    fn key(&self) -> (&LogicalPlan, &Expr, (bool, bool), &Option<Vec<Column>>, String) {
        let names = format!("{}({})", self.qualifier, self.names.join(","));
        (&self.input, &self.collection, (self.outer, self.ordinality), &self.kept, names)
    }
}

impl PartialEq for UnnestNode {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for UnnestNode {}

impl Hash for UnnestNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl PartialOrd for UnnestNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.key().partial_cmp(&other.key())
    }
}

impl UserDefinedLogicalNodeCore for UnnestNode {
    fn name(&self) -> &str {
        "UnnestCollection"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.collection.clone()]
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.added().map(|(_, f)| f.name().clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "UnnestCollection: {}", self.collection)?;
        if self.ordinality {
            f.write_str(" WITH ORDINALITY")?;
        }
        if self.outer {
            f.write_str(", outer")?;
        }
        Ok(())
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        match (exprs.pop(), inputs.pop()) {
            (Some(collection), Some(input)) => {
                let (qualifier, names) = (self.qualifier.clone(), self.names.clone());
                let flags = (self.outer, self.ordinality);
                Self::try_new(input, collection, flags, self.kept.clone(), qualifier, names)
            }
            _ => datafusion::common::internal_err!("UNNEST has one expression and one input"),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let passed = self.passed();
        // Columns of its own expression are added by the optimizer.
        Some(vec![output_columns.iter().filter_map(|i| passed.get(*i).copied()).collect()])
    }
}

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

fn unnest_node(plan: &LogicalPlan) -> Option<&UnnestNode> {
    match plan {
        LogicalPlan::Extension(e) => e.node.as_any().downcast_ref::<UnnestNode>(),
        _ => None,
    }
}

/// Puts UNNESTs, and LATERAL queries over nothing else, on top of the relation whose columns they read.
///
/// # Errors
/// From DataFusion, if a plan cannot be built again.
pub fn join_unnests(plan: LogicalPlan) -> Result<LogicalPlan> {
    let grafted = plan.transform_up_with_subqueries(|node| {
        if let LogicalPlan::Join(join) = &node
            && let Some(joined) = graft_join(join)?
        {
            return Ok(Transformed::yes(joined));
        }
        // Columns became nullable or not below.
        Ok(Transformed::yes(node.recompute_schema()?))
    })?;
    Ok(grafted.data)
}

/// Fails if an UNNEST still reads columns of a query around it.
///
/// # Errors
/// Unsupported, with the UNNEST.
pub fn refuse_correlated_unnests(plan: &LogicalPlan) -> Result<()> {
    let mut left_over = None;
    plan.apply_with_subqueries(|node| {
        if unnest_node(node).is_some_and(|u| has_outer_reference(&u.collection)) {
            left_over = unnest_node(node).map(|u| u.collection.to_string());
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    match left_over {
        Some(what) => Err(Error::unsupported(format!(
            "UNNEST({what}) in a sub-query, of a column of the query around it, is not supported"
        ))
        .hint("join it beside its table: FROM t CROSS JOIN UNNEST(t.a) AS u(x)")),
        None => Ok(()),
    }
}

fn has_outer_reference(expr: &Expr) -> bool {
    expr.exists(|e| Ok(matches!(e, Expr::OuterReferenceColumn(..)))).unwrap_or(true)
}

fn graft_join(join: &Join) -> DfResult<Option<LogicalPlan>> {
    if !matches!(join.join_type, JoinType::Inner | JoinType::Left) || !is_local(&join.right) {
        return Ok(None);
    }
    let mut conditions: Vec<Expr> = join.on.iter().map(|(l, r)| l.clone().eq(r.clone())).collect();
    conditions.extend(join.filter.clone());
    conditions.retain(|c| !matches!(c, Expr::Literal(ScalarValue::Boolean(Some(true)), _)));
    if join.join_type == JoinType::Left {
        // Only bare: filters and projections of a sub-query would see the row of NULLs too.
        let mut right = join.right.as_ref();
        while let LogicalPlan::Subquery(subquery) = right {
            right = &subquery.subquery;
        }
        let Some(node) = unnest_node(right) else { return Ok(None) };
        if !conditions.is_empty() {
            return Ok(None);
        }
        let collection = resolve(&node.collection)?;
        let node = node.over(join.left.as_ref().clone(), collection, true)?;
        return Ok(Some(LogicalPlan::Extension(Extension { node: Arc::new(node) })));
    }
    let grafted = graft(&join.right, &join.left)?;
    Ok(Some(match conjunction(conditions) {
        Some(condition) => LogicalPlan::Filter(Filter::try_new(condition, Arc::new(grafted))?),
        None => grafted,
    }))
}

/// Whether a plan is made of UNNESTs, or of nothing but the columns around it, by filters and projections.
fn is_local(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Subquery(subquery) => is_chain(&subquery.subquery),
        // The planner sees no reference to the outer query in an UNNEST below a projection.
        _ => is_chain(plan) && plan.exists(|p| Ok(unnest_node(p).is_some())).unwrap_or(false),
    }
}

fn is_chain(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Subquery(subquery) => is_chain(&subquery.subquery),
        LogicalPlan::SubqueryAlias(alias) => is_chain(&alias.input),
        LogicalPlan::Filter(filter) => plain(&filter.predicate) && is_chain(&filter.input),
        LogicalPlan::Projection(projection) => {
            projection.expr.iter().all(plain) && is_chain(&projection.input)
        }
        LogicalPlan::EmptyRelation(empty) => empty.produce_one_row,
        _ => unnest_node(plan).is_some_and(|u| is_chain(&u.input)),
    }
}

/// Whether an expression has no sub-query.
fn plain(expr: &Expr) -> bool {
    !expr
        .exists(|e| Ok(matches!(e, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_))))
        .unwrap_or(true)
}

/// References to the outer query as columns.
fn resolve(expr: &Expr) -> DfResult<Expr> {
    let resolved = expr.clone().transform(|e| {
        Ok(match e {
            Expr::OuterReferenceColumn(_, column) => Transformed::yes(Expr::Column(column)),
            other => Transformed::no(other),
        })
    })?;
    Ok(resolved.data)
}

/// The columns of `left`, then those of `plan` with its references to `left` resolved.
fn graft(plan: &LogicalPlan, left: &LogicalPlan) -> DfResult<LogicalPlan> {
    let columns = || left.schema().columns().into_iter().map(Expr::Column);
    Ok(match plan {
        LogicalPlan::Subquery(subquery) => graft(&subquery.subquery, left)?,
        LogicalPlan::SubqueryAlias(alias) => {
            let input = graft(&alias.input, left)?;
            let mut exprs: Vec<Expr> = columns().collect();
            let inner = alias.input.schema().columns();
            for (column, (qualifier, field)) in inner.into_iter().zip(alias.schema.iter()) {
                exprs.push(Expr::Column(column).alias_qualified(qualifier.cloned(), field.name()));
            }
            LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?)
        }
        LogicalPlan::Filter(filter) => {
            let input = graft(&filter.input, left)?;
            LogicalPlan::Filter(Filter::try_new(resolve(&filter.predicate)?, Arc::new(input))?)
        }
        LogicalPlan::Projection(projection) => {
            let input = graft(&projection.input, left)?;
            let mut exprs: Vec<Expr> = columns().collect();
            for expr in &projection.expr {
                exprs.push(resolve(expr)?);
            }
            LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?)
        }
        LogicalPlan::EmptyRelation(_) => left.clone(),
        _ => match unnest_node(plan) {
            Some(node) => {
                let node = node.over(graft(&node.input, left)?, resolve(&node.collection)?, false)?;
                LogicalPlan::Extension(Extension { node: Arc::new(node) })
            }
            None => return datafusion::common::internal_err!("{} cannot be unnested", plan.display()),
        },
    })
}

/// Lets UNNESTs pass only columns that the projection above reads: an array beside each of its elements costs the
/// square of its length.
///
/// # Errors
/// From DataFusion, if a plan cannot be built again.
pub fn prune_unnests(plan: LogicalPlan) -> Result<LogicalPlan> {
    let pruned = plan.transform_down_with_subqueries(|node| {
        let LogicalPlan::Projection(projection) = &node else { return Ok(Transformed::no(node)) };
        let mut used: HashSet<Column> = HashSet::new();
        projection.expr.iter().for_each(|e| used.extend(e.column_refs().into_iter().cloned()));
        let Some(input) = pruned(&projection.input, used)? else { return Ok(Transformed::no(node)) };
        let schema = Arc::clone(&projection.schema);
        let pruned = Projection::try_new_with_schema(projection.expr.clone(), Arc::new(input), schema)?;
        Ok(Transformed::yes(LogicalPlan::Projection(pruned)))
    })?;
    Ok(pruned.data)
}

fn pruned(plan: &LogicalPlan, mut used: HashSet<Column>) -> DfResult<Option<LogicalPlan>> {
    if let LogicalPlan::Filter(filter) = plan {
        used.extend(filter.predicate.column_refs().into_iter().cloned());
        let Some(input) = pruned(&filter.input, used)? else { return Ok(None) };
        return Ok(Some(LogicalPlan::Filter(Filter::try_new(filter.predicate.clone(), Arc::new(input))?)));
    }
    let Some(node) = unnest_node(plan) else { return Ok(None) };
    let kept: Vec<Column> = node.input.schema().columns().into_iter().filter(|c| used.contains(c)).collect();
    if kept.len() == node.passed().len() {
        return Ok(None);
    }
    Ok(Some(LogicalPlan::Extension(Extension { node: Arc::new(node.keeping(kept)?) })))
}

/// The node as a plain plan.
pub(super) fn lower_to_plain(node: &UnnestNode) -> DfResult<LogicalPlan> {
    const ELEMENTS: &str = "__elements";
    let columns: Vec<Expr> = node
        .passed()
        .into_iter()
        .map(|i| Expr::Column(Column::from(node.input.schema().qualified_field(i))))
        .collect();
    let elements = Elements::new(node);
    let fields = elements.fields.clone();
    let mut exprs = columns.clone();
    exprs.push(ScalarUDF::new_from_impl(elements).call(vec![node.collection.clone()]).alias(ELEMENTS));
    let unnested = LogicalPlanBuilder::from(node.input.clone())
        .project(exprs)?
        .unnest_column(Column::from_name(ELEMENTS))?;
    let mut exprs = columns;
    for (i, (qualifier, field)) in node.added().enumerate() {
        let part = ScalarUDF::new_from_impl(ElementField { fields: fields.clone(), index: i });
        let column = Expr::Column(Column::from_name(ELEMENTS));
        exprs.push(part.call(vec![column]).alias_qualified(qualifier.cloned(), field.name()));
    }
    unnested.project(exprs)?.build()
}

/// The elements of a collection as a list of rows.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Elements {
    fields: Fields,
    outer: bool,
    ordinality: bool,
    signature: Signature,
}

impl Elements {
    fn new(node: &UnnestNode) -> Self {
        let fields =
            node.added().enumerate().map(|(i, (_, f))| f.as_ref().clone().with_name(format!("f{i}")));
        Elements {
            fields: fields.collect(),
            outer: node.outer,
            ordinality: node.ordinality,
            signature: Signature::any(1, Volatility::Immutable),
        }
    }

    fn item(&self) -> FieldRef {
        Arc::new(Field::new("item", DataType::Struct(self.fields.clone()), false))
    }
}

impl ScalarUDFImpl for Elements {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &str {
        "elements"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::List(self.item()))
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), self.return_type(&[])?, false)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let rows = args.number_rows;
        let collections = match args.args.into_iter().next() {
            Some(value) => Collections::try_new(&value.into_array(rows)?, self.outer)?,
            None => return datafusion::common::internal_err!("elements of nothing"),
        };
        let (all, lengths) = collections.all();
        let columns = collections.elements(&all, self.ordinality)?;
        let elements = as_rows(self.fields.clone(), columns, all.rows.len())?;
        let offsets = OffsetBuffer::from_lengths(lengths);
        let list: ArrayRef = Arc::new(ListArray::try_new(self.item(), offsets, Arc::new(elements), None)?);
        Ok(ColumnarValue::Array(list))
    }
}

/// One column of an element. Not get_field: the optimizer moves that below the UNNEST.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ElementField {
    fields: Fields,
    index: usize,
}

impl ScalarUDFImpl for ElementField {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &str {
        "element_field"
    }

    fn signature(&self) -> &Signature {
        const ANY: &Signature = &Signature {
            type_signature: datafusion::logical_expr::TypeSignature::Any(1),
            volatility: Volatility::Immutable,
            parameter_names: None,
        };
        ANY
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DfResult<DataType> {
        Ok(self.fields[self.index].data_type().clone())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(Arc::clone(&self.fields[self.index]))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let rows = args.number_rows;
        let elements = match args.args.into_iter().next() {
            Some(elements) => elements.into_array(rows)?,
            None => return datafusion::common::internal_err!("a field of nothing"),
        };
        match elements.as_struct_opt().and_then(|s| s.columns().get(self.index)) {
            Some(column) => Ok(ColumnarValue::Array(column.clone())),
            None => datafusion::common::internal_err!("elements are {}", elements.data_type()),
        }
    }
}
