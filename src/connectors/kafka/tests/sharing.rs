//! Readers that share clients.

use super::super::shared::clients_with;
use super::*;

/// An unbounded table whose client no other test shares.
fn of(topic: &str, client: &str) -> ResolvedTable {
    let options = [
        ("topic", topic),
        ("format", "json"),
        ("scan.startup.mode", "earliest-offset"),
        ("properties.client.id", client),
    ];
    table(vec![col("id", bigint())], &options)
}

async fn first(table: &ResolvedTable) -> Box<dyn SourceReader> {
    readers(table, 1, None).await.unwrap().remove(0)
}

/// So many rows of a reader.
async fn rows(reader: &mut Box<dyn SourceReader>, count: usize) -> Vec<i64> {
    let mut ids = Vec::new();
    while ids.len() < count {
        if let SourceEvent::Batch { batch, .. } = next(reader).await.unwrap() {
            ids.extend(longs(&[batch.rows], 0));
        }
    }
    ids
}

async fn gone(client: &str) {
    for _ in 0..300 {
        if clients_with(client).is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("a client without readers is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_share_a_client_and_a_topic_read_twice_does_not() {
    let client = unique("client");
    let mut topics = Vec::new();
    for i in 0..3 {
        let name = topic("shared", 1).await;
        produce(&name, &[text(0, &format!("{{\"id\": {i}}}")), text(0, &format!("{{\"id\": {}}}", i + 10))]);
        topics.push(name);
    }
    let mut open = Vec::new();
    for name in &topics {
        open.push(first(&of(name, &client)).await);
    }
    assert_eq!(clients_with(&client), [3]);
    for (i, reader) in open.iter_mut().enumerate() {
        assert_eq!(rows(reader, 2).await, [i as i64, i as i64 + 10]);
    }
    // The same partition again: from its beginning, with a client of its own.
    let mut again = first(&of(&topics[0], &client)).await;
    assert_eq!(rows(&mut again, 2).await, [0, 10]);
    assert_eq!(clients_with(&client), [3, 1]);
    drop(again);
    // Records reach those who read, and one that begins again goes on where it was told.
    let state = open[0].snapshot().unwrap();
    drop(open.remove(0));
    for _ in 0..300 {
        if clients_with(&client) == [2] {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    produce(&topics[0], &[text(0, "{\"id\": 20}")]);
    produce(&topics[1], &[text(0, "{\"id\": 21}")]);
    let mut resumed = readers(&of(&topics[0], &client), 1, Some(state)).await.unwrap().remove(0);
    assert_eq!(clients_with(&client), [3]);
    assert_eq!(rows(&mut resumed, 1).await, [20]);
    assert_eq!(rows(&mut open[0], 1).await, [21]);
    drop((open, resumed));
    gone(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_partitions_have_small_queues_and_lose_nothing() {
    let client = unique("client");
    let (few, many) = (topic("few", 3).await, topic("many", 40).await);
    let records: Vec<String> =
        (0..2_000).map(|i| format!("{{\"id\": {i}, \"x\": \"{}\"}}", "y".repeat(200))).collect();
    let spread: Vec<Rec<'_>> = records.iter().enumerate().map(|(i, r)| text((i % 40) as i32, r)).collect();
    produce(&many, &spread);
    produce(&few, &[text(2, "{\"id\": 7}")]);
    let (mut a, mut b) = (first(&of(&few, &client)).await, first(&of(&many, &client)).await);
    assert_eq!(clients_with(&client), [3, 40], "they do not fit into one of few partitions");
    let mut ids = rows(&mut b, 2_000).await;
    ids.sort_unstable();
    assert_eq!(ids, (0..2_000).collect::<Vec<_>>());
    assert_eq!(rows(&mut a, 1).await, [7]);
    drop((a, b));
    gone(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_topic_does_not_wait_for_idle_ones() {
    if real().is_none() {
        eprintln!("not tested: the embedded broker does not wait for records");
        return;
    }
    let mut topics = vec![topic("hot", 1).await];
    for _ in 0..40 {
        topics.push(topic("idle", 1).await);
    }
    let records: Vec<String> =
        (0..20_000).map(|i| format!("{{\"id\": {i}, \"x\": \"{}\"}}", "y".repeat(200))).collect();
    produce(&topics[0], &records.iter().map(|r| text(0, r)).collect::<Vec<_>>());
    let mut reader = first(&of(&topics.join(";"), &unique("client"))).await;
    let began = std::time::Instant::now();
    assert_eq!(rows(&mut reader, 20_000).await.len(), 20_000);
    let took = began.elapsed();
    eprintln!("kafka: 20000 records beside 40 idle topics in {took:.2?}");
    assert!(took < Duration::from_secs(12), "{took:.2?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_partitions_are_read_beside_a_backlog_and_have_queues_of_their_number() {
    if real().is_none() {
        eprintln!("not tested: the embedded broker cannot add partitions to a topic");
        return;
    }
    let (client, name) = (unique("client"), topic("grows", 1).await);
    let records: Vec<String> = (0..50_000).map(|i| format!("{{\"id\": {i}}}")).collect();
    produce(&name, &records.iter().map(|r| text(0, r)).collect::<Vec<_>>());
    let options = [
        ("topic", name.as_str()),
        ("format", "json"),
        ("scan.startup.mode", "earliest-offset"),
        ("properties.client.id", client.as_str()),
        ("scan.topic-partition-discovery.interval", "100 ms"),
    ];
    let source = KafkaFactory.source(&table(vec![col("id", bigint())], &options), &env()).unwrap();
    let scan = ScanRequest { batch_rows: 10, ..ScanRequest::default() };
    let mut reader = source.readers(scan, 1, None).await.unwrap().remove(0);
    assert!(matches!(next(&mut reader).await.unwrap(), SourceEvent::SplitsStarted(s) if s == [0]));
    let more = rdkafka::admin::NewPartitions::new(&name, 10);
    admin().create_partitions([&more], &AdminOptions::new()).await.unwrap();
    let (mut batches, mut behind) = (0, 0);
    let waits = std::time::Instant::now();
    loop {
        match next(&mut reader).await.unwrap() {
            SourceEvent::SplitsStarted(s) => {
                assert_eq!(s, (1..10).collect::<Vec<_>>());
                break;
            }
            SourceEvent::Batch { .. } => batches += 1,
            other => panic!("{other:?}"),
        }
        // Found by now, and there is still very much to read.
        if waits.elapsed() < Duration::from_secs(3) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        } else {
            behind += 1;
            assert!(behind < 200, "not begun after {batches} batches");
        }
    }
    let mut sizes = clients_with(&client);
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 9], "they do not fit into the client of few partitions");
    drop(reader);
    gone(&client).await;
}
