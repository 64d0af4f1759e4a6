use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMillisecondType};
use datafusion::prelude::{col, lit};

use crate::connectors::synthetic::tests::{drain, env, read_all, sorted_rows, table};
use crate::types::{LogicalType, RowField, TypeRoot};

use super::*;

fn row(fields: &[(&str, TypeRoot)]) -> LogicalType {
    LogicalType::nullable(TypeRoot::Row(
        fields
            .iter()
            .map(|(name, root)| RowField {
                name: (*name).to_owned(),
                ty: LogicalType::nullable(root.clone()),
                comment: None,
            })
            .collect(),
    ))
}

/// The table of ddl_gen.sql.
fn nexmark(options: &[(&str, &str)]) -> ResolvedTable {
    let text = || TypeRoot::Varchar(crate::types::MAX_LENGTH);
    let (big, time) = (TypeRoot::BigInt, TypeRoot::Timestamp(3));
    let columns = [
        ("event_type", LogicalType::nullable(TypeRoot::Int)),
        (
            "person",
            row(&[
                ("id", big.clone()),
                ("name", text()),
                ("emailAddress", text()),
                ("creditCard", text()),
                ("city", text()),
                ("state", text()),
                ("dateTime", time.clone()),
                ("extra", text()),
            ]),
        ),
        (
            "auction",
            row(&[
                ("id", big.clone()),
                ("itemName", text()),
                ("description", text()),
                ("initialBid", big.clone()),
                ("reserve", big.clone()),
                ("dateTime", time.clone()),
                ("expires", time.clone()),
                ("seller", big.clone()),
                ("category", big.clone()),
                ("extra", text()),
            ]),
        ),
        (
            "bid",
            row(&[
                ("auction", big.clone()),
                ("bidder", big.clone()),
                ("price", big),
                ("channel", text()),
                ("url", text()),
                ("dateTime", time),
                ("extra", text()),
            ]),
        ),
    ];
    let mut all = vec![("connector", "nexmark"), ("base-time", "2024-01-01 00:00:00")];
    all.extend_from_slice(options);
    table(&columns, &all)
}

fn source(options: &[(&str, &str)]) -> Result<Arc<dyn Source>> {
    NexmarkFactory.source(&nexmark(options), &env())
}

async fn rows(options: &[(&str, &str)], scan: ScanRequest) -> RecordBatch {
    let source = source(options).unwrap();
    let mut readers = source.readers(scan, 1, None).await.unwrap();
    let batches = drain(&mut readers, usize::MAX).await;
    arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap()
}

#[tokio::test]
async fn a_million_events_have_the_published_proportions() {
    let all = rows(
        &[("events.num", "1000000")],
        ScanRequest { projection: Some(vec![0, 3]), ..Default::default() },
    )
    .await;
    let mut counts = BTreeMap::new();
    for t in all.column(0).as_primitive::<Int32Type>().values() {
        *counts.entry(*t).or_insert(0) += 1;
    }
    assert_eq!(counts, BTreeMap::from([(0, 20_000), (1, 60_000), (2, 920_000)]));
    let bids = all.column(1).as_struct();
    assert_eq!(bids.len() - bids.null_count(), 920_000);
    let count = |values: &mut dyn Iterator<Item = i64>| {
        let mut seen: Vec<i64> = values.collect();
        let all = seen.len();
        seen.sort_unstable();
        seen.dedup();
        (all, seen)
    };
    let column = |name: &str| bids.column_by_name(name).unwrap().as_primitive::<Int64Type>();
    // As measured with nexmark-flink: 59,974 auctions bid on, 19,931 bidders.
    let (n, auctions) = count(&mut column("auction").iter().flatten());
    assert_eq!(n, 920_000);
    assert!((59_900..60_030).contains(&auctions.len()), "{}", auctions.len());
    assert!(auctions[0] >= 1000 && *auctions.last().unwrap() <= 61_011);
    let (_, bidders) = count(&mut column("bidder").iter().flatten());
    assert!((19_800..20_011).contains(&bidders.len()), "{}", bidders.len());
    assert!(bidders[0] >= 2000);
    // Half of the bids go to a hot auction, three quarters come from a hot bidder.
    let hot = column("auction").iter().flatten().filter(|a| a % 100 == 0).count();
    assert!((460_000..480_000).contains(&hot), "{hot}");
    let hot = column("bidder").iter().flatten().filter(|b| b % 100 == 1).count();
    assert!((690_000..705_000).contains(&hot), "{hot}");
    let prices = column("price");
    assert!(prices.iter().flatten().all(|p| (100..=100_000_000).contains(&p)));
    let low = prices.iter().flatten().filter(|p| *p < 10_000).count();
    assert!((300_000..313_000).contains(&low), "{low}");
    // The whole span at 10,000 a second.
    let times = bids.column_by_name("dateTime").unwrap().as_primitive::<TimestampMillisecondType>();
    let (first, last) = (times.iter().flatten().min().unwrap(), times.iter().flatten().max().unwrap());
    assert_eq!(last - first, 99_999);
}

#[tokio::test]
async fn any_parallelism_and_any_restore_gives_the_same_rows() {
    let source = source(&[("events.num", "50001")]).unwrap();
    let expected = sorted_rows(&read_all(source.as_ref(), 1, 0, 1).await);
    assert_eq!(expected.len(), 50_001);
    for (before, cut, after) in [(2, 0, 2), (4, 3, 4), (3, 5, 1), (1, 7, 5), (4, 1000, 2)] {
        let found = sorted_rows(&read_all(source.as_ref(), before, cut, after).await);
        assert!(found == expected, "{before} readers, {after} after {cut} batches");
    }
}

#[tokio::test]
async fn a_restored_source_keeps_its_base_time_and_seed() {
    let first = source(&[("events.num", "10"), ("seed", "7")]).unwrap();
    let readers = first.readers(ScanRequest::default(), 1, None).await.unwrap();
    let state = readers[0].snapshot().unwrap();
    let second = source(&[("events.num", "10"), ("base-time", "0")]).unwrap();
    let mut readers = second.readers(ScanRequest::default(), 1, Some(state)).await.unwrap();
    let restored = drain(&mut readers, usize::MAX).await;
    assert_eq!(sorted_rows(&restored), sorted_rows(&read_all(first.as_ref(), 1, 0, 1).await));
}

#[tokio::test]
async fn unread_fields_are_null_and_read_ones_do_not_change() {
    let options = [("events.num", "20000")];
    let full = rows(&options, ScanRequest::default()).await;
    let scan = ScanRequest {
        projection: Some(vec![3]),
        nested: Some(vec![vec!["bid".into(), "price".into()], vec!["auction".into()]]),
        ..Default::default()
    };
    let narrow = rows(&options, scan).await;
    let (full, narrow) = (full.column(3).as_struct(), narrow.column(0).as_struct());
    assert_eq!(full.column_by_name("price"), narrow.column_by_name("price"));
    assert_eq!(full.nulls(), narrow.nulls());
    let url = narrow.column_by_name("url").unwrap();
    assert_eq!(url.null_count(), url.len());
}

#[tokio::test]
async fn filters_on_the_event_type_leave_out_the_others() {
    let options = [("events.num", "1000")];
    let count = |filter| async {
        rows(&options, ScanRequest { filters: vec![filter], ..Default::default() }).await.num_rows()
    };
    assert_eq!(count(col("event_type").eq(lit(0))).await, 20);
    assert_eq!(count(col("event_type").eq(lit(1)).or(col("event_type").eq(lit(0)))).await, 80);
    assert_eq!(count(col("event_type").eq(lit(2)).and(col("x").gt(lit(2)))).await, 920);
    assert_eq!(count(col("event_type").gt(lit(0))).await, 1000);
    let bids =
        rows(&options, ScanRequest { filters: vec![col("event_type").eq(lit(2))], ..Default::default() })
            .await;
    let all = rows(&options, ScanRequest::default()).await;
    let all: Vec<String> = sorted_rows(&[all]).into_iter().filter(|r| r.starts_with('2')).collect();
    assert_eq!(sorted_rows(&[bids]), all);
}

#[tokio::test]
async fn texts_have_the_original_shapes() {
    let all = rows(&[("events.num", "100000")], ScanRequest::default()).await;
    let text = |column: usize, name: &str| {
        let s = all.column(column).as_struct();
        let texts = s.column_by_name(name).unwrap().as_string::<i32>();
        texts.iter().flatten().map(str::to_owned).collect::<Vec<_>>()
    };
    let average = |texts: &[String]| texts.iter().map(String::len).sum::<usize>() as f64 / texts.len() as f64;
    let channels = text(3, "channel");
    let hot = channels.iter().filter(|c| !c.starts_with("channel-")).count();
    assert!((45_000..47_000).contains(&hot), "{hot}");
    assert!(text(3, "url").iter().all(|u| u.starts_with("https://www.nexmark.com/")
        && u.split('/').count() == 7
        && u.contains("item.htm?query=1")));
    assert!((average(&text(3, "extra")) - 67.5).abs() < 0.5);
    assert!(text(1, "creditCard").iter().all(|c| c.len() == 19));
    assert!(text(1, "emailAddress").iter().all(|e| e.ends_with(".com") && e.contains('@')));
    assert!(text(2, "itemName").iter().all(|n| n.len() <= 19 && n.trim() == n));
    let sizes = average(&text(2, "extra")) + average(&text(2, "itemName")) + average(&text(2, "description"));
    assert!((sizes + 48.0 - 500.0).abs() < 5.0, "{sizes}");
    let auctions = all.column(2).as_struct();
    let begin = auctions.column_by_name("dateTime").unwrap().as_primitive::<TimestampMillisecondType>();
    let end = auctions.column_by_name("expires").unwrap().as_primitive::<TimestampMillisecondType>();
    assert!(
        begin.iter().zip(end).filter_map(|(b, e)| Some((b?, e?))).all(|(b, e)| e > b && e <= b + 333 + 2)
    );
}

#[tokio::test]
async fn edges_of_the_options() {
    assert!(source(&[("events.num", "10")]).unwrap().bounded());
    assert!(!source(&[]).unwrap().bounded());
    assert!(!source(&[("events.num", "0")]).unwrap().bounded());
    assert!(!source(&[("events.num", "10"), ("keep-alive", "true")]).unwrap().bounded());
    let only_bids = [("events.num", "100"), ("person.proportion", "0"), ("auction.proportion", "0")];
    assert_eq!(rows(&only_bids, ScanRequest::default()).await.num_rows(), 100);
    let stopped = rows(&[("events.num", "100"), ("stop-at", "30")], ScanRequest::default()).await;
    assert_eq!(stopped.num_rows(), 30);
    let limited = rows(&[("events.num", "100")], ScanRequest { limit: Some(3), ..Default::default() }).await;
    assert_eq!(limited.num_rows(), 3);
    let counted =
        rows(&[("events.num", "100")], ScanRequest { projection: Some(vec![]), ..Default::default() }).await;
    assert_eq!((counted.num_rows(), counted.num_columns()), (100, 0));
    for bad in [
        ("first-event.rate", "0"),
        ("bid.hot-ratio.auctions", "0"),
        ("events.num", "-5"),
        ("tps", "5"),
        ("rate.shape", "ROUND"),
        ("base-time", "soon"),
    ] {
        assert!(source(&[bad]).is_err(), "{bad:?}");
    }
    let all_zero = [("person.proportion", "0"), ("auction.proportion", "0"), ("bid.proportion", "0")];
    assert!(source(&all_zero).unwrap_err().to_string().contains("proportions"));
    let other = table(&[("bid", row(&[("price", TypeRoot::Int)]))], &[("connector", "nexmark")]);
    let e = NexmarkFactory.source(&other, &env()).unwrap_err();
    assert!(e.to_string().contains("field `price` of column `bid` has to be BIGINT"), "{e}");
}

#[test]
fn events_at_a_pace_make_a_stream_even_if_they_end() {
    for (events, rate, max_speed, paced) in [
        ("1000000", "1000", "false", true),
        ("1000000", "1000", "true", false),
        ("1000", "1000000", "false", false),
    ] {
        let options = [
            ("events.num", events),
            ("first-event.rate", rate),
            ("next-event.rate", rate),
            ("max-emit-speed", max_speed),
        ];
        let source = source(&options).unwrap();
        assert_eq!((source.bounded(), source.paced()), (true, paced), "{options:?}");
    }
}
