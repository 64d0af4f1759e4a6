//! Lookup joins with an HTTP service.

use super::*;
use crate::connectors::rest::tests::Server;

async fn customers(session: &mut Session, server: &Server, more: &str) {
    let url = server.url("/customers/{who}");
    let sql = format!(
        "CREATE TABLE customers (id BIGINT, name STRING, tags ARRAY<STRING>, PRIMARY KEY (id) NOT ENFORCED)
         WITH ('connector' = 'rest-lookup', 'url' = '{url}', 'format' = 'json',
               'gid.connector.http.request.url-map' = 'id:who',
               'gid.connector.http.source.lookup.ignored-response-codes' = '404' {more})"
    );
    session.execute_sql(&sql).await.unwrap();
    let orders = "CREATE TABLE orders (n BIGINT, pt AS PROCTIME()) WITH ('connector' = 'datagen', 'number-of-rows' = '12',
                  'rows-per-second' = '1000000', 'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '11')";
    session.execute_sql(orders).await.unwrap();
}

const JOIN: &str = "SELECT o.n, c.id, c.name, CARDINALITY(c.tags) AS tags FROM orders AS o
    LEFT JOIN customers FOR SYSTEM_TIME AS OF o.pt AS c ON MOD(o.n, 4) = c.id AND o.n < 8";

async fn server() -> Server {
    Server::start(|came, _| match came.target.as_str() {
        "/customers/0" => (200, r#"{"name": "Ada", "tags": ["a", "b"]}"#.into()),
        "/customers/1" => (200, r#"[{"id": 1, "name": "Bob"}, {"name": "Bea", "tags": []}]"#.into()),
        "/customers/3" => (200, r#"{"id": 4, "name": "somebody else"}"#.into()),
        _ => (404, String::new()),
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_stand_beside_the_answers_of_a_service() {
    let server = server().await;
    let mut session = session("streaming");
    customers(&mut session, &server, "").await;
    let rows = lines(&mut session, JOIN).await;
    let without = |n: i64| format!("{n}");
    let mut expected = vec!["0 0 Ada 2".to_owned(), "4 0 Ada 2".to_owned()];
    expected.extend(["1 1 Bea 0", "1 1 Bob", "5 1 Bea 0", "5 1 Bob"].map(str::to_owned));
    expected.extend([2, 3, 6, 7, 8, 9, 10, 11].map(without));
    expected.sort();
    assert_eq!(rows, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_asks_once_for_each_key() {
    let server = server().await;
    let mut session = session("streaming");
    customers(&mut session, &server, ", 'lookup.cache' = 'PARTIAL', 'lookup.partial-cache.max-rows' = '100'")
        .await;
    // A batch at a time, so that each finds what the one before has asked for.
    session.execute_sql("SET 'table.exec.async-lookup.buffer-capacity' = '1'").await.unwrap();
    lines(&mut session, JOIN).await;
    let mut asked: Vec<String> = server.came().into_iter().map(|c| c.target).collect();
    asked.sort();
    assert_eq!(asked, [0, 1, 2, 3].map(|id| format!("/customers/{id}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_is_refused() {
    let server = server().await;
    let mut session = session("streaming");
    customers(&mut session, &server, "").await;
    let by_name = "SELECT 1 FROM orders AS o JOIN customers FOR SYSTEM_TIME AS OF o.pt AS c ON c.name = 'x'";
    let told = match session.query(by_name).await {
        Err(e) => e.to_string(),
        Ok(query) => query.collect().await.unwrap_err().to_string(),
    };
    assert!(told.contains("need the column `id`"), "{told}");
    let told = match session.query("SELECT * FROM customers").await {
        Err(e) => e.to_string(),
        Ok(query) => query.collect().await.unwrap_err().to_string(),
    };
    assert!(told.contains("only be asked for the rows of keys"), "{told}");
    assert!(
        failure(&mut session, "INSERT INTO customers SELECT n, '', ARRAY[''] FROM orders")
            .await
            .contains("sink")
    );
}
