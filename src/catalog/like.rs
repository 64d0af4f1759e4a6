//! `LIKE source (…)` by Flink's rules. Default: INCLUDING ALL, OVERWRITING OPTIONS.

use std::collections::HashMap;
use std::hash::Hash;

use super::TableDef;
use crate::error::{Error, Result};
use crate::sql::ast::{ColumnDef, ColumnKind};
use crate::sql::ast::{LikeAction, LikeFeature};
use crate::sql::quote_ident;

/// What to do with each feature of the source.
struct Strategy(HashMap<Feature, LikeAction>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Feature {
    Constraints,
    Partitions,
    Generated,
    Options,
    Watermarks,
    Metadata,
}

impl Strategy {
    fn new(options: &[(LikeAction, LikeFeature)]) -> Self {
        use Feature as F;
        const ALL: [Feature; 6] =
            [F::Constraints, F::Partitions, F::Generated, F::Options, F::Watermarks, F::Metadata];
        let mut map: HashMap<Feature, LikeAction> =
            ALL.into_iter().map(|f| (f, LikeAction::Including)).collect();
        map.insert(F::Options, LikeAction::Overwriting);
        // ALL goes first wherever it is written.
        for (action, feature) in options {
            if *feature == LikeFeature::All {
                map.extend(ALL.into_iter().map(|f| (f, *action)));
            }
        }
        for (action, feature) in options {
            let feature = match feature {
                LikeFeature::All | LikeFeature::Distribution => continue,
                LikeFeature::Constraints => F::Constraints,
                LikeFeature::Partitions => F::Partitions,
                LikeFeature::Generated => F::Generated,
                LikeFeature::Options => F::Options,
                LikeFeature::Watermarks => F::Watermarks,
                LikeFeature::Metadata => F::Metadata,
            };
            map.insert(feature, *action);
        }
        Strategy(map)
    }

    fn of(&self, feature: Feature) -> LikeAction {
        self.0.get(&feature).copied().unwrap_or(LikeAction::Including)
    }
}

/// Merges `source` into `def`: columns of the source first.
pub(super) fn merge(
    def: &mut TableDef,
    source: &TableDef,
    options: &[(LikeAction, LikeFeature)],
) -> Result<()> {
    let strategy = Strategy::new(options);
    columns(def, source, &strategy)?;

    if strategy.of(Feature::Constraints) != LikeAction::Excluding
        && let Some(key) = &source.primary_key
    {
        if def.primary_key.is_some() {
            return Err(Error::validation(format!("{} has a primary key already", source.path))
                .hint("add EXCLUDING CONSTRAINTS to LIKE, or leave the key out"));
        }
        def.primary_key = Some(key.clone());
    }

    if let Some(watermark) = &source.watermark {
        match (strategy.of(Feature::Watermarks), &def.watermark) {
            (LikeAction::Excluding, _) | (LikeAction::Overwriting, Some(_)) => {}
            (_, None) => def.watermark = Some(watermark.clone()),
            (LikeAction::Including, Some(_)) => {
                return Err(Error::validation(format!("{} has a watermark already", source.path))
                    .hint("add EXCLUDING WATERMARKS or OVERWRITING WATERMARKS to LIKE"));
            }
        }
    }

    if strategy.of(Feature::Partitions) != LikeAction::Excluding && !source.partitioned_by.is_empty() {
        if !def.partitioned_by.is_empty() {
            return Err(Error::validation(format!("{} is partitioned already", source.path))
                .hint("add EXCLUDING PARTITIONS to LIKE"));
        }
        def.partitioned_by.clone_from(&source.partitioned_by);
    }

    let action = strategy.of(Feature::Options);
    if action != LikeAction::Excluding {
        for (key, value) in &source.options {
            if !def.options.contains_key(key) {
                def.options.insert(key.clone(), value.clone());
            } else if action == LikeAction::Including {
                return Err(Error::validation(format!("{} has the option '{key}' already", source.path))
                    .hint("add EXCLUDING OPTIONS or OVERWRITING OPTIONS to LIKE"));
            }
        }
    }
    Ok(())
}

fn columns(def: &mut TableDef, source: &TableDef, strategy: &Strategy) -> Result<()> {
    let own = std::mem::take(&mut def.columns);
    let mut merged: Vec<ColumnDef> = Vec::with_capacity(source.columns.len() + own.len());
    for column in &source.columns {
        let action = match column.kind {
            ColumnKind::Physical => LikeAction::Including,
            ColumnKind::Metadata { .. } => strategy.of(Feature::Metadata),
            ColumnKind::Computed(_) => strategy.of(Feature::Generated),
        };
        if action != LikeAction::Excluding {
            merged.push(column.clone());
        }
    }
    for column in own {
        let Some(there) = merged.iter_mut().find(|c| c.name == column.name) else {
            merged.push(column);
            continue;
        };
        let (action, feature) = match (&there.kind, &column.kind) {
            (ColumnKind::Computed(_), ColumnKind::Computed(_)) => {
                (strategy.of(Feature::Generated), "GENERATED")
            }
            (ColumnKind::Metadata { .. }, ColumnKind::Metadata { .. }) => {
                (strategy.of(Feature::Metadata), "METADATA")
            }
            _ => (LikeAction::Including, ""),
        };
        if action == LikeAction::Overwriting {
            *there = column;
            continue;
        }
        let e =
            Error::validation(format!("{} has a column {} already", source.path, quote_ident(&column.name)));
        return Err(if feature.is_empty() {
            e.hint("the columns of LIKE are added to those of the source; rename it or leave it out")
        } else {
            e.hint(format!("add EXCLUDING {feature} or OVERWRITING {feature} to LIKE"))
        });
    }
    def.columns = merged;
    Ok(())
}
