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
