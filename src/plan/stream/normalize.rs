//! Changelogs made complete behind upsert sources, and made unique before upsert sinks.
//!
//! ```text
//!  upsert source ─► ══ primary key ══► ChangelogNormalize ─► …
//!  …             ─► ══ primary key ══► SinkMaterializer   ─► upsert sink whose key is not one of the rows'
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::error::Result;
use crate::operators::changelog_normalize::{ChangelogNormalizeConfig, ChangelogNormalizeOperator};
use crate::operators::conflict::{ConflictConfig, ConflictOperator};
use crate::operators::top_n::{RankEnd, RankFunction, RankOutput, TopNConfig, TopNOperator};
use crate::plan::stream::{Relation, StreamPlanner};
use crate::runtime::graph::{ChangelogMode, OperatorFactory, UpdateBefore};
use crate::sql::ast::ConflictStrategy;

impl StreamPlanner {
    /// Behind a source that sends `+I`/`+U` and `-D` by the physical columns `key` (a `-D` may hold nothing but its key), or
    /// whole changes of which some may come twice: the full changelog.
    pub(super) fn lower_changelog_normalize(&mut self, input: Relation, key: &[usize]) -> Result<Relation> {
        let config = ChangelogNormalizeConfig {
            schema: input.physical.clone(),
            keys: key.to_vec(),
            // Each subtask is told when the whole graph is known.
            emit_update_before: true,
            bundle_rows: self.options.bundle_rows,
            ttl_ms: self.options.state_ttl,
        };
        let names: Vec<&str> = key.iter().map(|k| config.schema.field(*k).name().as_str()).collect();
        let detail = format!("key=[{}]", names.join(", "));
        let factory: OperatorFactory = Arc::new(move |subtask| {
            let config =
                ChangelogNormalizeConfig { emit_update_before: subtask.emit_update_before, ..config.clone() };
            Ok(Box::new(ChangelogNormalizeOperator::new(config)?))
        });
        let changelog = ChangelogMode::ALL;
        let node =
            self.add_operator("ChangelogNormalize", detail, &input, changelog, Some(key.to_vec()), factory);
        // The state knows the old rows.
        self.graph.nodes[node]
            .inputs
            .iter_mut()
            .for_each(|edge| edge.update_before = UpdateBefore::NotNeeded);
        Ok(Relation { node, changelog, ..input }.with_keys(vec![key.to_vec()]))
    }

    /// Before a sink with the primary key `key` (physical columns), which is no key of the rows: the latest row of each
    /// key of the sink is upserted, or the first; when it is taken back, the one that is then the latest (first).
    pub(super) fn lower_sink_materializer(
        &mut self,
        input: Relation,
        key: &[usize],
        strategy: ConflictStrategy,
    ) -> Result<Relation> {
        let latest_first = match strategy {
            ConflictStrategy::Deduplicate => true,
            ConflictStrategy::Nothing => false,
            ConflictStrategy::Error => return self.lower_conflict(input, key),
        };
        let config = TopNConfig {
            input_schema: input.physical.clone(),
            output_schema: input.physical.clone(),
            output: (0..input.physical.fields().len()).map(RankOutput::Column).collect(),
            partition: key.to_vec(),
            order: Vec::new(),
            latest_first,
            function: RankFunction::RowNumber,
            start: 1,
            end: RankEnd::Constant(1),
            // Rows that are never taken back are only replaced.
            input_retracts: !input.changelog.is_append_only(),
            emit_update_before: false,
            bundle_rows: self.options.bundle_rows,
            ttl_ms: self.options.state_ttl,
        };
        config.validate()?;
        let names: Vec<&str> = key.iter().map(|k| config.input_schema.field(*k).name().as_str()).collect();
        let detail = format!("pk=[{}]", names.join(", "));
        let factory: OperatorFactory = Arc::new(move |_| Ok(Box::new(TopNOperator::new(config.clone())?)));
        let changelog = ChangelogMode::UPSERT;
        let exchange = Some(key.to_vec());
        let node = self.add_operator("SinkMaterializer", detail, &input, changelog, exchange, factory);
        Ok(Relation { node, changelog, rowtime: BTreeSet::new(), ..input }.with_keys(vec![key.to_vec()]))
    }

    /// Before a sink with the primary key `key` (physical columns), which is no key of the rows: fails where two of them
    /// are left at a watermark.
    fn lower_conflict(&mut self, input: Relation, key: &[usize]) -> Result<Relation> {
        let config = ConflictConfig {
            schema: input.physical.clone(),
            key: key.to_vec(),
            upsert_key: input.keys.iter().min_by_key(|k| k.len()).cloned().unwrap_or_default(),
            ttl_ms: self.options.state_ttl,
        };
        let name = |k: &usize| config.schema.field(*k).name().as_str();
        let detail =
            format!("pk=[{}], onConflict=[ERROR]", key.iter().map(name).collect::<Vec<_>>().join(", "));
        let factory: OperatorFactory =
            Arc::new(move |_| Ok(Box::new(ConflictOperator::new(config.clone())?)));
        let changelog = ChangelogMode::UPSERT;
        let exchange = Some(key.to_vec());
        let node = self.add_operator("SinkMaterializer", detail, &input, changelog, exchange, factory);
        Ok(Relation { node, changelog, rowtime: BTreeSet::new(), ..input }.with_keys(vec![key.to_vec()]))
    }
}
