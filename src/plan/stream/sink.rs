//! Lowering of the end of a query: its sink, and how changes come to fit the sink's PRIMARY KEY.
//!
//! ```text
//!  query ─► ConstraintEnforcer ─► [══ key ══► SinkMaterializer] ─► Sink
//! ```
//!
//! Rows of a sink with a PRIMARY KEY replace each other. That gives the query's table as long as the key holds one of
//! the query's upsert keys. Where it does not, rows of different upsert keys can meet in one row of the sink, and
//! `ON CONFLICT` says which of them it shows. The rules are Flink's:
//!
//! | sink | query | `ON CONFLICT` |
//! |---|---|---|
//! | takes inserts only, or the query has no others | any | refused |
//! | takes `-U` (change messages), or has no key | any | nothing to resolve |
//! | with a key | an upsert key lies within it | nothing to resolve |
//! | with a key | inserts only, `DO DEDUPLICATE` | nothing to resolve: the last one is written last |
//! | with a key | any other | needed, unless `table.exec.sink.require-on-conflict` is off |

use std::sync::Arc;

use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::edges::not_null::NotNullEnforcer;
use crate::edges::{Sink, SinkChangelog, SourceChangelog, WriteMode};
use crate::error::{Error, Location, Result};
use crate::operators::constraint_enforcer::ConstraintEnforcerOperator;
use crate::plan::stream::WhenNeeded;
use crate::plan::stream::shared_scan::{ScanUse, scan_use};
use crate::plan::stream::{Relation, StreamPlanner};
use crate::runtime::exchange::Partitioning;
use crate::runtime::graph::{ChangelogMode, Edge, Node, NodeId, NodeKind, OperatorFactory, UpdateBefore};
use crate::sql::ast::ConflictStrategy;

/// Where a query's rows go.
pub struct SinkTarget {
    /// The table.
    pub sink: Arc<dyn Sink>,
    /// Append or overwrite.
    pub mode: WriteMode,
    /// Name for messages and plans.
    pub name: String,
    /// NULLs in NOT NULL columns are refused or dropped; `None` if there are no such columns.
    pub enforcer: Option<NotNullEnforcer>,
    /// `ON CONFLICT`, and where it stands.
    pub on_conflict: Option<(ConflictStrategy, Location)>,
    /// `sink.parallelism`; as the tasks before it when `None`.
    pub parallelism: Option<usize>,
}

fn of_other_parallelism(name: &str, parallelism: usize, before: usize) -> Error {
    Error::validation(format!(
        "the configured sink parallelism of '{name}' is {parallelism}, that of its query {before}: rows that are updated or deleted cannot be spread over the writers without a PRIMARY KEY"
    ))
    .hint("declare a PRIMARY KEY for the table, or leave 'sink.parallelism' out")
}

/// How a query fits the PRIMARY KEY of its sink.
struct Fit {
    /// Columns of the key; empty if there is none that matters.
    key: Vec<usize>,
    /// What has to be done where rows meet.
    materialize: Option<ConflictStrategy>,
    /// Whether the key is exactly one of the query's: a `+U` alone says which row it replaces.
    exact: bool,
    /// Whether the key holds one of the query's.
    covered: bool,
}

impl StreamPlanner {
    /// Adds an optimized and surveyed plan that ends in a sink; gives the changelog that reaches it.
    ///
    /// # Errors
    /// Unsupported for what does not run as a stream, or an updating plan into an append-only sink; Validation for
    /// conflicts of keys that are not resolved.
    pub fn add_query(&mut self, plan: &LogicalPlan, target: &SinkTarget) -> Result<ChangelogMode> {
        self.passes_upserts = self.takes_upserts_as_they_are(plan, target)?;
        let relation = self.lower(plan);
        self.passes_upserts = false;
        let relation = relation?;
        let relation = self.materialize(relation)?;
        let mut relation = self.trim(relation)?;
        let SinkTarget { sink, mode, name, enforcer, .. } = target;
        if !relation.changelog.is_append_only() && sink.changelog() == SinkChangelog::AppendOnly {
            let producer = self.graph.nodes[relation.node].name;
            return Err(Error::unsupported(format!(
                "Table sink '{name}' doesn't support consuming update and delete changes which is produced by node {producer}"
            ))
            .hint("aggregate in event-time windows (GROUP BY window_start, window_end), write to a sink that takes updates ('upsert-kafka', a format of change messages such as 'debezium-json', 'print'), or run in batch mode"));
        }
        if let Some(policy) = *enforcer {
            let schema = sink.schema();
            let checked: Vec<&str> =
                schema.fields().iter().filter(|f| !f.is_nullable()).map(|f| f.name().as_str()).collect();
            let detail = format!("NotNullEnforcer=[{}]", checked.join(", "));
            let factory: OperatorFactory =
                Arc::new(move |_| Ok(Box::new(ConstraintEnforcerOperator::new(schema.clone(), policy))));
            relation.node =
                self.add_operator("ConstraintEnforcer", detail, &relation, relation.changelog, None, factory);
        }
        let fit = self.fit(&relation, target)?;
        let mut detail = format!("table=[{name}]");
        if let Some(strategy) = fit.materialize {
            detail.push_str(", upsertMaterialize=[true]");
            relation = self.lower_sink_materializer(relation, &fit.key, strategy)?;
        }
        if let Some((strategy, _)) = target.on_conflict {
            detail.push_str(&format!(", conflictStrategy=[{}]", strategy.keyword()));
        }
        let before = self.graph.nodes[relation.node].parallelism;
        let parallelism = target.parallelism.unwrap_or(before);
        let by_key = !fit.key.is_empty()
            && fit.materialize.is_none()
            && match self.options.keyed_shuffle {
                WhenNeeded::None => false,
                WhenNeeded::Auto => !fit.covered,
                WhenNeeded::Force => true,
            };
        let partitioning = match (sink.distribute_by(), by_key) {
            (Some(columns), _) if parallelism > 1 => Partitioning::Hash(columns),
            (None, true) if parallelism > 1 => Partitioning::Hash(fit.key.clone()),
            _ if parallelism == before => Partitioning::Forward,
            _ if relation.changelog.is_append_only() => Partitioning::Rebalance,
            // The changes of a row have to stay in their order.
            _ if !fit.key.is_empty() => Partitioning::Hash(fit.key.clone()),
            _ => return Err(of_other_parallelism(name, parallelism, before)),
        };
        let update_before = match sink.changelog() {
            // Without a key it only counts rows.
            SinkChangelog::Upsert if fit.exact || fit.key.is_empty() || fit.materialize.is_some() => {
                UpdateBefore::NotNeeded
            }
            SinkChangelog::Upsert | SinkChangelog::AppendOnly | SinkChangelog::All => UpdateBefore::Required,
        };
        let uid = self.uid("Sink", name, &[relation.node]);
        self.graph.add(Node {
            uid,
            name: "Sink",
            detail,
            parallelism,
            inputs: vec![Edge { from: relation.node, port: 0, partitioning, update_before }],
            changelog: relation.changelog,
            kind: NodeKind::Sink { sink: sink.clone(), mode: *mode },
        });
        Ok(relation.changelog)
    }

    /// Whether a sink takes the changes of an upsert source as they come: nothing but projections is between
    /// them, and they have the same key. What its rows were before is then nobody's business, and nothing is kept of them.
    fn takes_upserts_as_they_are(&self, plan: &LogicalPlan, target: &SinkTarget) -> Result<bool> {
        let sink = &target.sink;
        let Some(key) = sink.primary_key().filter(|_| sink.changelog() == SinkChangelog::Upsert) else {
            return Ok(false);
        };
        // A deleted row may hold nothing but its key.
        let schema = sink.schema();
        let mut columns = schema.fields().iter().enumerate();
        if target.enforcer.is_some() && columns.any(|(i, f)| !f.is_nullable() && !key.contains(&i)) {
            return Ok(false);
        }
        let Some((found, origins)) = origins(plan, key)? else { return Ok(false) };
        let Some(shared) = self.scans.get(&found.key) else { return Ok(false) };
        let table = shared.table()?;
        if table.source.changelog() != SourceChangelog::Upsert || !shared.is_read_once_whole() {
            return Ok(false);
        }
        let mut names: Vec<&String> = origins
            .iter()
            .filter_map(|i| match found.columns.get(*i) {
                Some((_, Expr::Column(c))) => Some(&c.name),
                _ => None,
            })
            .collect();
        names.sort();
        let mut wanted: Vec<&String> = table.primary_key.iter().collect();
        wanted.sort();
        Ok(names == wanted)
    }

    /// Compares the query's upsert keys with the sink's PRIMARY KEY.
    fn fit(&self, relation: &Relation, target: &SinkTarget) -> Result<Fit> {
        let SinkTarget { sink, name, on_conflict, .. } = target;
        let inserts = relation.changelog.is_append_only();
        let inserts_only =
            sink.changelog() == SinkChangelog::AppendOnly || (inserts && !sink.always_upserts());
        if let Some((strategy, location)) = *on_conflict {
            if inserts_only {
                return Err(Error::validation(format!(
                    "ON CONFLICT clause is only allowed for upsert sinks. The sink '{name}' is not an upsert sink because it only accepts INSERT (append-only) changes."
                ))
                .hint("leave it out")
                .at(location));
            }
            let without = self.sources_without_watermark(relation.node);
            if strategy != ConflictStrategy::Deduplicate && !without.is_empty() {
                return Err(Error::validation(format!(
                    "ON CONFLICT DO {} requires all source tables to define watermarks, but the following source(s) do not: {}. Please add a WATERMARK declaration to these tables.",
                    strategy.keyword(),
                    without.join(", ")
                ))
                .at(location));
            }
        }
        let key = sink.primary_key().filter(|_| !inserts_only).unwrap_or_default();
        let same = |k: &Vec<usize>| k.len() == key.len() && k.iter().all(|c| key.contains(c));
        let mut fit = Fit {
            materialize: None,
            exact: relation.keys.iter().any(same),
            covered: relation.is_unique_by(&key),
            key,
        };
        if fit.key.is_empty() {
            return Ok(fit);
        }
        let strategy = on_conflict.map(|(strategy, _)| strategy);
        let needed = match self.options.upsert_materialize {
            WhenNeeded::None => false,
            WhenNeeded::Force => true,
            WhenNeeded::Auto => {
                let last_one_wins = inserts && strategy == Some(ConflictStrategy::Deduplicate);
                !(fit.covered || last_one_wins)
            }
        };
        if !needed {
            return Ok(fit);
        }
        let forced = self.options.upsert_materialize == WhenNeeded::Force;
        if strategy.is_none() && !forced && self.options.require_on_conflict {
            return Err(self.unresolved(relation, name, &fit.key));
        }
        fit.materialize = Some(strategy.unwrap_or(ConflictStrategy::Deduplicate));
        Ok(fit)
    }

    fn unresolved(&self, relation: &Relation, name: &str, key: &[usize]) -> Error {
        let names = |columns: &[usize]| {
            let names: Vec<&str> =
                columns.iter().map(|c| relation.physical.field(*c).name().as_str()).collect();
            format!("[{}]", names.join(", "))
        };
        let upsert_key = relation.keys.first().map_or_else(|| "none".to_owned(), |k| names(k));
        Error::validation(format!(
            "The query has an upsert key that differs from the primary key of the sink table '{name}'. Primary key: {}, upsert key: {upsert_key}. This can lead to non-deterministic results when multiple records with different upsert keys map to the same primary key. Please specify an ON CONFLICT clause to define how conflicts should be handled: ON CONFLICT DO DEDUPLICATE (update to the latest record, state intensive, since we need to keep the entire history), or ON CONFLICT DO ERROR (fail on conflict), or ON CONFLICT DO NOTHING (keep first record).",
            names(key)
        ))
        .hint("or SET 'table.exec.sink.require-on-conflict' = 'false' for DO DEDUPLICATE without saying so")
    }

    /// Names of the tables above `node` that have no watermark.
    fn sources_without_watermark(&self, node: NodeId) -> Vec<String> {
        let mut found = Vec::new();
        let mut seen = vec![false; self.graph.nodes.len()];
        let mut open = vec![node];
        while let Some(id) = open.pop() {
            if std::mem::replace(&mut seen[id], true) {
                continue;
            }
            let node = &self.graph.nodes[id];
            open.extend(node.inputs.iter().map(|e| e.from));
            if let NodeKind::Source { spec, .. } = &node.kind
                && spec.watermark.is_none()
                && let Some((table, _)) = node.detail.strip_prefix("table=[").and_then(|d| d.split_once(']'))
            {
                found.push(table.to_owned());
            }
        }
        found.sort();
        found
    }
}

/// The table under projections, and which of its columns the `columns` of a plan are; `None` if there is more in between.
fn origins(plan: &LogicalPlan, columns: Vec<usize>) -> Result<Option<(ScanUse<'_>, Vec<usize>)>> {
    if let Some(found) = scan_use(plan)? {
        return Ok(Some((found, columns)));
    }
    match plan {
        LogicalPlan::SubqueryAlias(alias) => origins(&alias.input, columns),
        LogicalPlan::Projection(projection) => {
            let schema = projection.input.schema();
            let place = |i: &usize| match projection.expr.get(*i)?.clone().unalias() {
                Expr::Column(c) => schema.maybe_index_of_column(&c),
                _ => None,
            };
            match columns.iter().map(place).collect() {
                Some(columns) => origins(&projection.input, columns),
                None => Ok(None),
            }
        }
        _ => Ok(None),
    }
}
