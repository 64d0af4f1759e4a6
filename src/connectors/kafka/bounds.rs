//! Where reading begins and ends in each partition.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::embedded::name_of;
use super::offsets::{Cluster, TopicPartition};
use super::options::{Bounded, Offsets, Startup, TableOptions};
use super::properties::OffsetReset;
use super::reader::SplitPlan;
use crate::error::{Error, Result};

/// Start and stop of every partition; what was `restored` goes on where it was.
pub(super) fn plan(
    options: &TableOptions,
    cluster: &Cluster,
    found: &[TopicPartition],
    restored: Option<Vec<SplitPlan>>,
) -> Result<Vec<SplitPlan>> {
    let lows = cluster.beginnings(found)?;
    let embedded = name_of(&options.properties.servers).is_some();
    let mut before: Option<BTreeMap<TopicPartition, SplitPlan>> =
        restored.map(|all| all.into_iter().map(|s| (s.at.clone(), s)).collect());
    if let Some(before) = &before {
        let there: BTreeSet<&TopicPartition> = found.iter().collect();
        if let Some(gone) = before.keys().find(|at| !there.contains(at)) {
            return Err(Error::validation(format!(
                "the state to continue from has {gone}, which the table does not read or Kafka does not have any more"
            )));
        }
    }
    let starts = match &before {
        // Whatever appeared since the snapshot is new: from its beginning.
        Some(_) => lows.clone(),
        None => starts(options, cluster, found, &lows)?,
    };
    let stops = stops(options, cluster, found)?;
    if let Some(before) = &before {
        check_ends(cluster, before, options.properties.connect_timeout())?;
    }
    let mut plans = Vec::with_capacity(found.len());
    for (((at, start), low), stop) in found.iter().zip(starts).zip(&lows).zip(stops) {
        let plan = match before.as_mut().and_then(|b| b.remove(at)) {
            Some(old) => SplitPlan { stop: old.stop.or(stop), ..old },
            None => SplitPlan { at: at.clone(), next: start, stop, rows: 0, bad: 0 },
        };
        let nothing_left = plan.stop.is_some_and(|stop| plan.next >= stop);
        if plan.next < *low && !nothing_left {
            return Err(Error::validation(format!(
                "{at}: offset {} is not there any more, the oldest record has offset {low}",
                plan.next
            ))
            .hint("records are lost to this job; begin again with 'scan.startup.mode' = 'earliest-offset', and keep records longer (retention.ms, retention.bytes)"));
        }
        if embedded && *low > 0 && plan.next <= *low && !nothing_left {
            return Err(Error::external(format!(
                "{at}: the embedded broker has dropped the first {low} records: it keeps 5 MB a partition"
            ))
            .hint("use a real Kafka, or more partitions ('embedded.partitions')"));
        }
        plans.push(plan);
    }
    Ok(plans)
}

/// That no partition ends before what is to be read next of it: that would be another topic under the same name, or one that
/// has lost records.
fn check_ends(
    cluster: &Cluster,
    before: &BTreeMap<TopicPartition, SplitPlan>,
    patience: Duration,
) -> Result<()> {
    let partitions: Vec<TopicPartition> = before.keys().cloned().collect();
    let beyond = || -> Result<Option<(&SplitPlan, i64)>> {
        let ends = cluster.ends(&partitions)?;
        Ok(before.values().zip(ends).find(|(plan, end)| plan.next > *end))
    };
    // A leader that has just been elected may not know the end yet.
    let patience = Instant::now() + patience;
    let mut found = beyond()?;
    while found.is_some() && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(500));
        found = beyond()?;
    }
    match found {
        None => Ok(()),
        Some((plan, end)) => Err(Error::validation(format!(
            "{}: offset {} is to be read next, and the partition ends at {end}: the topic was made anew, or has lost records",
            plan.at, plan.next
        ))
        .hint("begin again with 'scan.startup.mode' = 'earliest-offset', and in another table, as this one has the rows of the old topic")),
    }
}

fn starts(
    options: &TableOptions,
    cluster: &Cluster,
    found: &[TopicPartition],
    lows: &[i64],
) -> Result<Vec<i64>> {
    match &options.startup {
        Startup::Earliest => Ok(lows.to_vec()),
        Startup::Latest => cluster.ends(found),
        Startup::Timestamp(millis) => cluster.at_time(found, *millis),
        Startup::Specific(offsets) => {
            check_listed(offsets, found, "scan.startup.specific-offsets")?;
            // As Flink: a partition that is not listed begins where the group committed, else at the beginning.
            let committed = committed(options, cluster, found)?;
            Ok(found
                .iter()
                .zip(committed)
                .zip(lows)
                .map(|((at, committed), low)| {
                    offsets.get(&at.partition).copied().or(committed).unwrap_or(*low)
                })
                .collect())
        }
        Startup::Group => {
            let committed = committed(options, cluster, found)?;
            if committed.iter().all(Option::is_some) {
                return Ok(committed.into_iter().flatten().collect());
            }
            let otherwise = match options.properties.auto_offset_reset {
                OffsetReset::Earliest => lows.to_vec(),
                OffsetReset::Latest => cluster.ends(found)?,
                OffsetReset::None => return Err(no_commit(options, found, &committed)),
            };
            Ok(committed.into_iter().zip(otherwise).map(|(c, o)| c.unwrap_or(o)).collect())
        }
    }
}

fn no_commit(options: &TableOptions, found: &[TopicPartition], committed: &[Option<i64>]) -> Error {
    let what = match &options.properties.group_id {
        None => "'properties.group.id' is not set".to_owned(),
        Some(group) => {
            let at = found.iter().zip(committed).find(|(_, c)| c.is_none());
            format!(
                "group '{group}' has committed no offset for {}",
                at.map(|(at, _)| at.to_string()).unwrap_or_default()
            )
        }
    };
    Error::validation(format!(
        "'scan.startup.mode' is 'group-offsets' (the default) and {what}"
    ))
    .hint("set 'scan.startup.mode' = 'earliest-offset' (or 'latest-offset'), or say where a group without offsets begins: 'properties.auto.offset.reset' = 'earliest' or 'latest'")
}

fn committed(
    options: &TableOptions,
    cluster: &Cluster,
    found: &[TopicPartition],
) -> Result<Vec<Option<i64>>> {
    match options.properties.group_id {
        Some(_) => cluster.committed(found),
        None => Ok(vec![None; found.len()]),
    }
}

fn stops(options: &TableOptions, cluster: &Cluster, found: &[TopicPartition]) -> Result<Vec<Option<i64>>> {
    match &options.bounded {
        Bounded::Unbounded => Ok(vec![None; found.len()]),
        Bounded::Latest => Ok(cluster.ends(found)?.into_iter().map(Some).collect()),
        Bounded::Timestamp(millis) => Ok(cluster.at_time(found, *millis)?.into_iter().map(Some).collect()),
        Bounded::Group => cluster
            .committed(found)?
            .into_iter()
            .zip(found)
            .map(|(committed, at)| match committed {
                Some(offset) => Ok(Some(offset)),
                None => Err(Error::validation(format!(
                    "{at} should stop at its committed offset, and group '{}' has committed none",
                    options.properties.group_id.as_deref().unwrap_or_default()
                ))),
            })
            .collect(),
        Bounded::Specific(offsets) => {
            check_listed(offsets, found, "scan.bounded.specific-offsets")?;
            found
                .iter()
                .map(|at| match offsets.get(&at.partition) {
                    Some(offset) => Ok(Some(*offset)),
                    None => Err(Error::validation(format!(
                        "'scan.bounded.specific-offsets' does not say where {at} ends"
                    ))),
                })
                .collect()
        }
    }
}

/// Every listed partition has to be there.
fn check_listed(offsets: &Offsets, found: &[TopicPartition], key: &str) -> Result<()> {
    match offsets.keys().find(|p| !found.iter().any(|at| at.partition == **p)) {
        None => Ok(()),
        Some(p) => Err(Error::validation(format!(
            "'{key}' names partition {p}; the topic has {} partitions",
            found.len()
        ))),
    }
}
