//! Where reading begins and ends, and how it goes on after a restart.

use super::*;

fn ids(n: i64) -> Vec<String> {
    (0..n).map(|i| format!("{{\"id\": {i}}}")).collect()
}

/// A topic whose partition 0 has ids 0 to 9 at times 1000, 2000, …; partition 1 is empty.
async fn ten() -> String {
    let topic = topic("ten", 2).await;
    let values = ids(10);
    let records: Vec<Rec<'_>> = values
        .iter()
        .enumerate()
        .map(|(i, v)| Rec { timestamp: Some((i as i64 + 1) * 1000), ..text(0, v) })
        .collect();
    produce(&topic, &records);
    topic
}

fn id() -> Vec<ColumnDef> {
    vec![col("id", bigint())]
}

async fn read_ids(topic: &str, options: &[(&str, &str)]) -> Result<Vec<i64>> {
    let mut all = vec![("topic", topic), ("format", "json")];
    all.extend_from_slice(options);
    Ok(longs(&read(&table(id(), &all), 1).await?, 0))
}

#[tokio::test]
async fn every_startup_mode() {
    let topic = ten().await;
    let latest = ("scan.bounded.mode", "latest-offset");
    let from = async |options: &[(&str, &str)]| {
        let mut all = vec![latest];
        all.extend_from_slice(options);
        read_ids(&topic, &all).await
    };
    assert_eq!(from(&[("scan.startup.mode", "earliest-offset")]).await.unwrap(), (0..10).collect::<Vec<_>>());
    assert!(from(&[("scan.startup.mode", "latest-offset")]).await.unwrap().is_empty());
    for (millis, expected) in [("4500", 4), ("5000", 4), ("0", 0), ("99999", 10)] {
        let read =
            from(&[("scan.startup.mode", "timestamp"), ("scan.startup.timestamp-millis", millis)]).await;
        assert_eq!(read.unwrap(), (expected..10).collect::<Vec<_>>(), "{millis}");
    }
    let read = from(&[
        ("scan.startup.mode", "specific-offsets"),
        ("scan.startup.specific-offsets", "partition:0,offset:7;partition:1,offset:0"),
    ]);
    assert_eq!(read.await.unwrap(), [7, 8, 9]);
    // A partition that is not listed begins at its beginning.
    let read = from(&[
        ("scan.startup.mode", "specific-offsets"),
        ("scan.startup.specific-offsets", "partition:1,offset:0"),
    ]);
    assert_eq!(read.await.unwrap().len(), 10);
    // The default asks for committed offsets.
    let e = from(&[]).await.unwrap_err().to_string();
    assert!(e.contains("properties.group.id") && e.contains("earliest-offset"), "{e}");
    let group = unique("group");
    let e = from(&[("properties.group.id", &group)]).await.unwrap_err().to_string();
    assert!(e.contains(&group) && e.contains("committed no offset"), "{e}");
    for (reset, expected) in [("earliest", 10), ("latest", 0)] {
        let read = from(&[("properties.group.id", &group), ("properties.auto.offset.reset", reset)]).await;
        assert_eq!(read.unwrap().len(), expected, "{reset}");
    }
}

#[tokio::test]
async fn every_bounded_mode() {
    let topic = ten().await;
    let until = async |options: &[(&str, &str)]| {
        let mut all = vec![("scan.startup.mode", "earliest-offset")];
        all.extend_from_slice(options);
        read_ids(&topic, &all).await
    };
    for (millis, expected) in [("4500", 4), ("1000", 0), ("99999", 10)] {
        let read =
            until(&[("scan.bounded.mode", "timestamp"), ("scan.bounded.timestamp-millis", millis)]).await;
        assert_eq!(read.unwrap(), (0..expected).collect::<Vec<_>>(), "{millis}");
    }
    let read = until(&[
        ("scan.bounded.mode", "specific-offsets"),
        ("scan.bounded.specific-offsets", "partition:0,offset:3;partition:1,offset:0"),
    ]);
    assert_eq!(read.await.unwrap(), [0, 1, 2]);
    let e = until(&[
        ("scan.bounded.mode", "specific-offsets"),
        ("scan.bounded.specific-offsets", "partition:0,offset:3"),
    ]);
    assert!(e.await.unwrap_err().to_string().contains("partition 1 ends"));
    let group = unique("group");
    let e =
        until(&[("scan.bounded.mode", "group-offsets"), ("properties.group.id", &group)]).await.unwrap_err();
    assert!(e.to_string().contains(&group), "{e}");
}

#[tokio::test]
async fn an_empty_topic_ends_at_once() {
    let topic = topic("empty", 3).await;
    for parallelism in [1, 2, 8] {
        assert!(read(&json(&topic, id(), &[]), parallelism).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn committed_offsets_are_where_the_next_job_begins_and_may_end() {
    let topic = ten().await;
    let group = unique("group");
    let first = json(&topic, id(), &[("properties.group.id", &group)]);
    let mut reader = readers(&first, 1, None).await.unwrap().remove(0);
    while !matches!(next(&mut reader).await.unwrap(), SourceEvent::End) {}
    let positions = reader.snapshot().unwrap();
    reader.on_commit(Epoch(1), &positions).await.unwrap();
    drop(reader);
    produce(&topic, &[text(0, "{\"id\": 10}"), text(1, "{\"id\": 11}")]);
    let mut read =
        read_ids(&topic, &[("properties.group.id", &group), ("scan.bounded.mode", "latest-offset")])
            .await
            .unwrap();
    read.sort_unstable();
    assert_eq!(read, [10, 11]);
    let read = read_ids(
        &topic,
        &[
            ("properties.group.id", &group),
            ("scan.startup.mode", "earliest-offset"),
            ("scan.bounded.mode", "group-offsets"),
        ],
    )
    .await;
    assert_eq!(read.unwrap(), (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_restored_reader_goes_on_exactly_where_the_snapshot_was() {
    let topic = topic("restore", 3).await;
    let n = 3000i64;
    let values = ids(n);
    let records: Vec<Rec<'_>> = values.iter().enumerate().map(|(i, v)| text((i % 3) as i32, v)).collect();
    produce(&topic, &records);
    let table = json(&topic, id(), &[("scan.startup.mode", "earliest-offset")]);
    let source = KafkaFactory.source(&table, &env()).unwrap();
    let scan = || ScanRequest { batch_rows: 170, ..ScanRequest::default() };
    for taken in [0, 1, 2, 7, 12, 40] {
        let mut seen = Vec::new();
        let mut states = Vec::new();
        for mut reader in source.readers(scan(), 2, None).await.unwrap() {
            for _ in 0..taken {
                match next(&mut reader).await.unwrap() {
                    SourceEvent::Batch { batch, .. } => seen.extend(longs(&[batch.rows], 0)),
                    SourceEvent::End => break,
                    _ => {}
                }
            }
            states.extend(reader.snapshot().unwrap());
        }
        assert_eq!(states.len(), 3, "{states:?}");
        // What came after the first start is not part of a restored bounded read.
        produce(&topic, &[text(0, "{\"id\": -1}")]);
        // At another parallelism.
        for mut reader in source.readers(scan(), 3, Some(states)).await.unwrap() {
            loop {
                match next(&mut reader).await.unwrap() {
                    SourceEvent::Batch { batch, .. } => seen.extend(longs(&[batch.rows], 0)),
                    SourceEvent::End => break,
                    _ => {}
                }
            }
        }
        seen.retain(|id| *id >= 0);
        seen.sort_unstable();
        assert_eq!(seen, (0..n).collect::<Vec<_>>(), "after {taken} events");
    }
}

#[tokio::test]
async fn an_endless_reader_waits_and_wakes() {
    let topic = topic("endless", 1).await;
    let table = table(id(), &[("topic", &topic), ("format", "json"), ("scan.startup.mode", "latest-offset")]);
    let mut reader = readers(&table, 1, None).await.unwrap().remove(0);
    assert!(matches!(next(&mut reader).await.unwrap(), SourceEvent::SplitsStarted(s) if s == [0]));
    assert!(tokio::time::timeout(Duration::from_millis(200), reader.next()).await.is_err());
    for i in 0..3 {
        produce(&topic, &[text(0, &format!("{{\"id\": {i}}}"))]);
        match next(&mut reader).await.unwrap() {
            SourceEvent::Batch { batch, split: 0 } => assert_eq!(longs(&[batch.rows], 0), [i]),
            other => panic!("{other:?}"),
        }
    }
    // Nothing committed without a group.
    let positions = reader.snapshot().unwrap();
    reader.on_commit(Epoch(1), &positions).await.unwrap();
}

#[tokio::test]
async fn new_topics_and_partitions_are_read_from_their_beginning() {
    let stem = unique("found");
    let first = format!("{stem}-a");
    let make = async |name: &str| {
        if real().is_some() {
            let new = NewTopic::new(name, 1, TopicReplication::Fixed(1));
            admin().create_topics([&new], &AdminOptions::new()).await.unwrap();
        } else {
            embedded("").unwrap().ensure_topic(name, None).unwrap();
        }
    };
    servers();
    make(&first).await;
    let pattern = format!("{stem}-.*");
    let table = table(
        vec![
            col("id", bigint()),
            meta("topic", "topic", string(), true),
            meta("p", "partition", int(), true),
        ],
        &[
            ("topic-pattern", &pattern),
            ("format", "json"),
            ("scan.startup.mode", "latest-offset"),
            ("scan.topic-partition-discovery.interval", "200 ms"),
        ],
    );
    let mut reader = readers(&table, 1, None).await.unwrap().remove(0);
    assert!(matches!(next(&mut reader).await.unwrap(), SourceEvent::SplitsStarted(s) if s == [0]));
    let second = format!("{stem}-b");
    make(&second).await;
    produce(&second, &[text(0, "{\"id\": 1}")]);
    let mut expect = async |split: u32, row: String| {
        let mut started = false;
        loop {
            match next(&mut reader).await.unwrap() {
                SourceEvent::SplitsStarted(s) => {
                    assert_eq!(s, [split]);
                    started = true;
                }
                SourceEvent::Batch { batch, split: at } => {
                    assert!(started && at == split);
                    assert_eq!(shown(&batch.rows), std::slice::from_ref(&row));
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
    };
    expect(1, format!("1|{second}|0")).await;
    if real().is_none() {
        eprintln!("not tested: the embedded broker cannot add partitions to a topic");
        return;
    }
    let more = rdkafka::admin::NewPartitions::new(&first, 2);
    admin().create_partitions([&more], &AdminOptions::new()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    produce(&first, &[text(1, "{\"id\": 2}")]);
    expect(2, format!("2|{first}|1")).await;
}

#[tokio::test]
async fn transactions_at_the_tail_do_not_hold_up_the_end() {
    if real().is_none() {
        eprintln!("not tested: the embedded broker has no transactions");
        return;
    }
    let topic = topic("txn", 1).await;
    produce(&topic, &[text(0, "{\"id\": 0}")]);
    let transaction = |id: &str, value: &str, commit: bool| {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", address())
            .set("transactional.id", unique(id))
            .create()
            .unwrap();
        producer.init_transactions(Duration::from_secs(20)).unwrap();
        producer.begin_transaction().unwrap();
        for _ in 0..3 {
            producer.send(BaseRecord::<(), str>::to(&topic).payload(value)).map_err(|(e, _)| e).unwrap();
        }
        producer.flush(Duration::from_secs(20)).unwrap();
        if commit {
            producer.commit_transaction(Duration::from_secs(20)).unwrap();
        } else {
            producer.abort_transaction(Duration::from_secs(20)).unwrap();
        }
    };
    transaction("a", "{\"id\": 1}", true);
    // The last offset is the marker of an aborted transaction.
    transaction("b", "{\"id\": 2}", false);
    let read = |isolation: &'static str| {
        let topic = topic.clone();
        async move {
            let table = json(&topic, id(), &[("properties.isolation.level", isolation)]);
            longs(&read(&table, 1).await.unwrap(), 0)
        }
    };
    assert_eq!(read("read_uncommitted").await, [0, 1, 1, 1, 2, 2, 2]);
    assert_eq!(read("read_committed").await, [0, 1, 1, 1]);
}
