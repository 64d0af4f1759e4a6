//! Lowering of GROUPING SETS, CUBE and ROLLUP: an expand, then the aggregate by the expanded keys.
//!
//! ```text
//!  Aggregate[GROUPING SETS ((a, b), (a))]  ─►  Expand ══ a', b', $e ══► GroupAggregate
//! ```
//!
//! Keys of the window that every set has stay what they are, so that a window aggregate remains one.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{Aggregate, Expr, GroupingSet};

use crate::error::{Error, Result};
use crate::operators::expand::{ExpandConfig, ExpandOperator, ExpandSet};
use crate::plan::stream::aggregate::{Grouping, groupings};
use crate::plan::stream::{Relation, StreamPlanner};
use crate::runtime::graph::{OperatorFactory, UpdateBefore};

/// The most keys of CUBE: each doubles the rows.
const MOST_CUBE_KEYS: usize = 16;

impl StreamPlanner {
    pub(super) fn lower_grouping_sets(
        &mut self,
        aggregate: &Aggregate,
        grouping: &GroupingSet,
    ) -> Result<Relation> {
        let exprs: Vec<Expr> =
            grouping_set_to_exprlist(&aggregate.group_expr)?.into_iter().cloned().collect();
        let sets = grouping_sets(grouping)?;
        let mut input = self.lower(&aggregate.input)?;
        input.schema = aggregate.input.schema().clone();
        let everywhere = |e: &Expr| sets.iter().all(|s| s.contains(e));
        // Both bounds of the window in every set make a window aggregate.
        let windowed = |groups: &[(Grouping, Expr)]| {
            let has = |wanted: Grouping| groups.iter().any(|(g, e)| *g == wanted && everywhere(e));
            let all = groups.iter().all(|(g, e)| matches!(g, Grouping::Key(_)) || everywhere(e));
            has(Grouping::Start) && has(Grouping::End) && all
        };
        let mut groups = groupings(&exprs, &input);
        let uses_window = aggregate
            .aggr_expr
            .iter()
            .chain(groups.iter().filter(|(g, _)| matches!(g, Grouping::Key(_))).map(|(_, e)| e))
            .map(|e| input.uses_window(e))
            .collect::<Result<Vec<bool>>>()?
            .contains(&true);
        let is_made_of_slices =
            input.window.as_ref().is_some_and(|w| w.spec.has_slices() && !w.spec.is_session());
        if input.window.is_some() && (!windowed(&groups) || uses_window || !is_made_of_slices) {
            input = self.materialize(input)?;
            groups = groupings(&exprs, &input);
        }
        let windowed = windowed(&groups);
        let keys: Vec<Expr> = groups
            .iter()
            .filter(|(g, _)| !windowed || matches!(g, Grouping::Key(_)))
            .map(|(_, e)| e.clone())
            .collect();
        let (input, columns) = self.with_key_columns(input, &keys)?;

        let id_type = aggregate
            .schema
            .iter()
            .find(|(_, f)| f.name() == Aggregate::INTERNAL_GROUPING_ID)
            .map(|(_, f)| f.data_type().clone())
            .ok_or_else(|| Error::internal("grouping sets without an id"))?;
        // As `Aggregate::INTERNAL_GROUPING_ID` has it: a bit for every key that is left out, above them how often a set
        // stood there before.
        let mut times: HashMap<u64, u64> = HashMap::new();
        let expand_sets: Vec<ExpandSet> = sets
            .iter()
            .map(|set| {
                let left_out = exprs.iter().fold(0, |id, e| id << 1 | u64::from(!set.contains(e)));
                let before = times.entry(left_out).or_default();
                let id = left_out | before.checked_shl(exprs.len() as u32).unwrap_or(0);
                *before += 1;
                ExpandSet { kept: keys.iter().map(|k| set.contains(k)).collect(), id }
            })
            .collect();
        let first = input.physical.fields().len();
        let input = self.add_expand(input, columns, expand_sets, id_type)?;
        let key_columns: Vec<usize> = (first..=first + keys.len()).collect();
        if windowed {
            let mut groups: Vec<Grouping> = groups.into_iter().map(|(g, _)| g).collect();
            groups.push(Grouping::Key(keys.len()));
            self.add_window_aggregate(aggregate, input, &groups, key_columns)
        } else {
            self.add_group_aggregate(aggregate, input, key_columns)
        }
    }

    /// Adds the expand: behind the columns of the input come the keys and the id.
    fn add_expand(
        &mut self,
        input: Relation,
        keys: Vec<usize>,
        sets: Vec<ExpandSet>,
        id_type: DataType,
    ) -> Result<Relation> {
        let mut fields: Vec<Arc<Field>> = input.physical.fields().iter().cloned().collect();
        for key in &keys {
            let field = input.physical.field(*key);
            fields.push(Arc::new(Field::new(
                format!("__key_{}", fields.len()),
                field.data_type().clone(),
                true,
            )));
        }
        let id = fields.len();
        fields.push(Arc::new(Field::new("$e", id_type, false)));
        let physical: SchemaRef = Arc::new(Schema::new(fields));
        let texts: Vec<String> = sets
            .iter()
            .map(|s| {
                let kept = keys.iter().zip(&s.kept).filter(|(_, kept)| **kept);
                let names: Vec<String> = kept.map(|(k, _)| input.physical.field(*k).name().clone()).collect();
                format!("{{{}}}", names.join(", "))
            })
            .collect();
        let detail = format!("sets=[{}]", texts.join(", "));
        let config = ExpandConfig {
            keys,
            sets,
            schema: physical.clone(),
            row_by_row: self.options.bundle_rows == Some(1),
        };
        let mut changelog = input.changelog;
        if config.row_by_row {
            // Updates come as deletes and inserts.
            changelog.delete |= changelog.update_after;
        }
        let factory: OperatorFactory = Arc::new(move |_| Ok(Box::new(ExpandOperator::new(config.clone())?)));
        let node = self.add_operator("Expand", detail, &input, changelog, None, factory);
        self.graph.nodes[node].inputs.iter_mut().for_each(|edge| edge.update_before = UpdateBefore::Inherit);
        let unique = input.keys.iter().map(|k| k.iter().copied().chain([id]).collect()).collect();
        Ok(Relation { node, physical, changelog, keys: unique, ..input })
    }
}

/// The sets of a GROUP BY as lists of keys.
fn grouping_sets(grouping: &GroupingSet) -> Result<Vec<Vec<Expr>>> {
    Ok(match grouping {
        GroupingSet::GroupingSets(sets) => sets.clone(),
        GroupingSet::Rollup(keys) => (0..=keys.len()).rev().map(|n| keys[..n].to_vec()).collect(),
        GroupingSet::Cube(keys) => {
            if keys.len() > MOST_CUBE_KEYS {
                return Err(Error::unsupported(format!("CUBE over more than {MOST_CUBE_KEYS} keys"))
                    .hint("write the sets that you need as GROUPING SETS"));
            }
            (0..1_usize << keys.len())
                .map(|left_out| {
                    let has = |i: &usize| left_out >> (keys.len() - 1 - i) & 1 == 0;
                    (0..keys.len()).filter(has).map(|i| keys[i].clone()).collect()
                })
                .collect()
        }
    })
}
