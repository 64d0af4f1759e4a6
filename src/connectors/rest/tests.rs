//! Lookups against a small server on loopback.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int64Type, Schema};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::RestFactory;
use super::config::{CodeSet, Codes, Meaning};
use crate::connectors::ConnectorFactory;
use crate::connectors::synthetic::tests::{env, table};
use crate::edges::Source;
use crate::edges::lookup::{LookupRequest, LookupRows, LookupSource};
use crate::error::Result;
use crate::options::redact;
use crate::types::{LogicalType, TypeRoot};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Came {
    pub method: String,
    /// Path and parameters.
    pub target: String,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// Gives the status and the body of the answer to the request of that number.
type Answer = dyn Fn(&Came, usize) -> (u16, String) + Send + Sync;

/// A server that ends when it is dropped.
pub(crate) struct Server {
    pub address: SocketAddr,
    came: Arc<Mutex<Vec<Came>>>,
    most_at_a_time: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start(
        answer: impl Fn(&Came, usize) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (came, most) = (Arc::<Mutex<Vec<Came>>>::default(), Arc::<AtomicUsize>::default());
        let now = Arc::<AtomicUsize>::default();
        let answer: Arc<Answer> = Arc::new(answer);
        let (seen, counted) = (Arc::clone(&came), Arc::clone(&most));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                let (now, counted) = (Arc::clone(&now), Arc::clone(&counted));
                tokio::spawn(serve(stream, answer, seen, now, counted));
            }
        });
        Server { address, came, most_at_a_time: most, task }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn came(&self) -> Vec<Came> {
        self.came.lock().unwrap().clone()
    }

    fn targets(&self) -> Vec<String> {
        let mut all: Vec<String> =
            self.came().into_iter().map(|c| format!("{} {}", c.method, c.target)).collect();
        all.sort();
        all
    }
}

/// Requests of one connection, one after the other.
async fn serve(
    mut stream: TcpStream,
    answer: Arc<Answer>,
    seen: Arc<Mutex<Vec<Came>>>,
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
) {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
            match stream.read(&mut chunk).await {
                Ok(n) if n > 0 => bytes.extend_from_slice(&chunk[..n]),
                _ => return,
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.lines();
        let mut words = lines.next().unwrap().split(' ');
        let headers: BTreeMap<String, String> = lines
            .filter_map(|l| l.split_once(": "))
            .map(|(k, v)| (k.to_ascii_lowercase(), v.to_owned()))
            .collect();
        let length: usize = headers.get("content-length").map_or(0, |l| l.parse().unwrap());
        while bytes.len() < end + length {
            match stream.read(&mut chunk).await {
                Ok(n) if n > 0 => bytes.extend_from_slice(&chunk[..n]),
                _ => return,
            }
        }
        let came = Came {
            method: words.next().unwrap().to_owned(),
            target: words.next().unwrap().to_owned(),
            headers,
            body: String::from_utf8_lossy(&bytes[end..end + length]).into_owned(),
        };
        bytes.drain(..end + length);
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(came.clone());
            seen.len() - 1
        };
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(5)).await;
        now.fetch_sub(1, Ordering::SeqCst);
        let (status, body) = answer(&came, number);
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
        if stream.write_all(format!("{head}{body}").as_bytes()).await.is_err() {
            return;
        }
    }
}

fn columns() -> [(&'static str, LogicalType); 3] {
    let number = || LogicalType::nullable(TypeRoot::BigInt);
    [("id", number()), ("name", LogicalType::string()), ("n", number())]
}

fn source(url: &str, more: &[(&str, &str)]) -> Result<Arc<dyn Source>> {
    let mut options = vec![("connector", "rest-lookup"), ("url", url), ("format", "json")];
    options.retain(|(key, _)| more.iter().all(|(k, _)| k != key));
    options.extend(more);
    RestFactory::rest_lookup().source(&table(&columns(), &options), &env())
}

fn open(url: &str, more: &[(&str, &str)], keys: &[usize]) -> Result<Arc<dyn LookupSource>> {
    let lookup = source(url, more)?.lookup().unwrap();
    lookup.points.unwrap().open(LookupRequest { keys: keys.to_vec(), projection: vec![0, 1, 2] })
}

fn ids(ids: &[i64]) -> RecordBatch {
    let schema =
        Schema::new(vec![arrow::datatypes::Field::new("id", arrow::datatypes::DataType::Int64, true)]);
    let ids: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
    RecordBatch::try_new(Arc::new(schema), vec![ids]).unwrap()
}

/// For each key its rows as `id name n`.
fn shown(rows: &LookupRows) -> Vec<Vec<String>> {
    let of = |key: usize| {
        let found = rows.found[key];
        let range = found.first as usize..(found.first + found.rows) as usize;
        let Some(batch) = rows.batches.get(found.batch as usize) else { return Vec::new() };
        let (ids, names) = (batch.rows.column(0), batch.rows.column(1).as_string::<i32>());
        let ns = batch.rows.column(2).as_primitive::<Int64Type>();
        let null = |is: bool, text: String| if is { "null".to_owned() } else { text };
        let row = |r: usize| {
            format!(
                "{} {} {}",
                ids.as_primitive::<Int64Type>().value(r),
                null(names.is_null(r), names.value(r).to_owned()),
                null(ns.is_null(r), ns.value(r).to_string())
            )
        };
        range.map(row).collect()
    };
    (0..rows.found.len()).map(of).collect()
}

fn id_of(came: &Came) -> i64 {
    came.target.rsplit('=').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn each_key_is_asked_for_and_has_the_rows_of_its_answer() {
    let server = Server::start(|came, _| match id_of(came) {
        1 => (200, r#"{"id": 1, "name": "Ädä", "n": 10, "more": [1]}"#.into()),
        // Of several rows each that is not of another key; what is left out is that of the key.
        2 => (200, r#"[{"name": "a"}, {"id": 3, "name": "b"}, {"id": 2, "n": "7"}]"#.into()),
        3 => (200, "[]".into()),
        4 => (204, String::new()),
        _ => (404, "nobody".into()),
    })
    .await;
    let ignored = [("gid.connector.http.source.lookup.ignored-response-codes", "404")];
    let lookup = open(&server.url("/who?x=y"), &ignored, &[0]).unwrap();
    let rows = lookup.lookup(&ids(&[3, 1, 9, 2, 4])).await.unwrap();
    let expected: [&[&str]; 5] = [&[], &["1 Ädä 10"], &[], &["2 a null", "2 null 7"], &[]];
    assert_eq!(shown(&rows), expected);
    assert_eq!(server.targets(), [1, 2, 3, 4, 9].map(|id| format!("GET /who?x=y&id={id}")));
    assert_eq!(shown(&lookup.lookup(&ids(&[])).await.unwrap()).len(), 0);
}

#[tokio::test]
async fn many_keys_are_asked_for_at_the_same_time_but_not_all_of_them() {
    let server = Server::start(|came, _| (200, format!(r#"{{"n": {}}}"#, 2 * id_of(came)))).await;
    let few = [("gid.connector.http.source.lookup.request.thread-pool.size", "3")];
    let keys: Vec<i64> = (0..1_200).collect();
    let rows = open(&server.url("/"), &few, &[0]).unwrap().lookup(&ids(&keys)).await.unwrap();
    let shown = shown(&rows);
    assert!((0..1_200).all(|i| shown[i] == [format!("{i} null {}", 2 * i)]));
    let most = server.most_at_a_time.load(Ordering::SeqCst);
    assert!((2..=3).contains(&most), "{most}");
}

#[tokio::test]
async fn keys_and_headers_go_where_they_are_told_to() {
    let server = Server::start(|_, _| (200, "{}".into())).await;
    let more = [
        ("lookup-method", "post"),
        ("gid.connector.http.request.url-map", "id:who"),
        ("gid.connector.http.source.lookup.header.X-Own", "ä b"),
        ("gid.connector.http.source.lookup.header.Authorization", "user:password"),
    ];
    let schema = Schema::new(vec![
        arrow::datatypes::Field::new("id", arrow::datatypes::DataType::Int64, true),
        arrow::datatypes::Field::new("name", arrow::datatypes::DataType::Utf8, true),
    ]);
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(vec![5])), Arc::new(StringArray::from(vec!["q\"ü"]))];
    let keys = RecordBatch::try_new(Arc::new(schema), columns).unwrap();
    let lookup = open(&server.url("/of/{who}/x"), &more, &[0, 1]).unwrap();
    assert_eq!(shown(&lookup.lookup(&keys).await.unwrap()), [["5 q\"ü null"]]);
    let came = server.came().remove(0);
    assert_eq!((came.method.as_str(), came.target.as_str()), ("POST", "/of/5/x"));
    assert_eq!(came.body, r#"{"name":"q\"ü"}"#);
    assert_eq!(came.headers["authorization"], "Basic dXNlcjpwYXNzd29yZA==");
    assert_eq!(came.headers["content-type"], "application/json");
    assert!(came.headers.contains_key("x-own") && came.headers["user-agent"].starts_with("tidelake/"));
    assert_eq!(redact(more[3].0, more[3].1), "******");
    let raw = [
        ("gid.connector.http.source.lookup.use-raw-authorization-header", "true"),
        ("gid.connector.http.source.lookup.header.Authorization", "Bearer abc"),
    ];
    open(&server.url("/"), &raw, &[0]).unwrap().lookup(&ids(&[1])).await.unwrap();
    assert_eq!(server.came()[1].headers["authorization"], "Bearer abc");
}

const FAST: (&str, &str) = ("gid.connector.http.source.lookup.retry-strategy.fixed-delay.delay", "1 ms");

#[tokio::test]
async fn what_fails_for_a_while_is_asked_again() {
    let server =
        Server::start(|_, n| if n < 2 { (503, "wait".into()) } else { (200, r#"{"n": 1}"#.into()) }).await;
    let rows = open(&server.url("/"), &[FAST], &[0]).unwrap().lookup(&ids(&[1])).await.unwrap();
    assert_eq!(shown(&rows), [["1 null 1"]]);
    assert_eq!(server.came().len(), 3);

    let server = Server::start(|_, _| (500, "out of\n order".into())).await;
    let once = [FAST, ("lookup.max-retries", "1")];
    let e = open(&server.url("/a"), &once, &[0]).unwrap().lookup(&ids(&[1])).await.unwrap_err().to_string();
    assert!(
        e.contains("table c.d.t: http://") && e.contains("/a?id=1 says 500") && e.contains("out of order"),
        "{e}"
    );
    assert_eq!(server.came().len(), 2);
    let on =
        [FAST, ("lookup.max-retries", "0"), ("gid.connector.http.source.lookup.continue-on-error", "true")];
    let rows = open(&server.url("/a"), &on, &[0]).unwrap().lookup(&ids(&[1])).await.unwrap();
    assert_eq!(rows.found[0].rows, 0);
}

#[tokio::test]
async fn what_fails_for_good_is_told_with_its_request() {
    let server = Server::start(|came, _| match id_of(came) {
        1 => (403, "not you".into()),
        2 => (200, "<html>".into()),
        _ => (200, r#"{"n": "x"}"#.into()),
    })
    .await;
    let lookup = open(&server.url("/"), &[FAST], &[0]).unwrap();
    for (id, says) in [(1, "says 403"), (2, "<html>"), (3, "/?id=3")] {
        let e = lookup.lookup(&ids(&[id])).await.unwrap_err().to_string();
        assert!(e.contains(says), "{e}");
    }
    let address = server.address;
    drop(server);
    let gone = [FAST, ("lookup.max-retries", "0")];
    let lookup = open(&format!("http://u:secret@{address}/"), &gone, &[0]).unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let e = lookup.lookup(&ids(&[1])).await.unwrap_err().to_string();
    assert!(e.contains("cannot be reached") && !e.contains("secret"), "{e}");
}

#[tokio::test]
async fn a_table_is_never_read_whole() {
    let source = source("http://localhost:1/", &[]).unwrap();
    assert!(!source.bounded());
    let e = source.readers(crate::edges::ScanRequest::default(), 1, None).await.err().unwrap();
    assert!(e.to_string().contains("only be asked for the rows of keys"), "{e}");
}

#[test]
fn what_does_not_fit_together_is_told() {
    let base = "gid.connector.http.";
    let key = |suffix: &str| format!("{base}{suffix}");
    for (more, says) in [
        (vec![("url".to_owned(), "ftp://h/")], "no URL of HTTP"),
        (vec![("url".to_owned(), "http://h/{who}")], "stands for no column"),
        (vec![("lookup-method".to_owned(), "DELETE")], "GET, POST, PUT"),
        (vec![("lookup.cache".to_owned(), "FULL")], "cannot be read whole"),
        (vec![("format".to_owned(), "debezium-json")], "whose records are rows"),
        (vec![("no-such".to_owned(), "1")], "unsupported options"),
        (vec![(key("source.lookup.success-codes"), "9XX")], "2XX,404"),
        (vec![(key("source.lookup.success-codes"), "2XX,503")], "503"),
        (vec![(key("source.lookup.request.thread-pool.size"), "0")], "above 0"),
        (vec![(key("source.lookup.request.timeout"), "0")], "above 0"),
        (vec![(key("source.lookup.retry-strategy.exponential-delay.max-backoff"), "1 s")], "does not belong"),
        (vec![(key("request.body-fields"), "name")], "'lookup-method'"),
        (vec![(key("request.query-param-fields"), "nope")], "names of columns"),
        (vec![(key("request.url-map"), "id:who")], "pairs column:name"),
        (vec![(key("security.cert.client"), "a.pem")], "belong together"),
        (vec![(key("security.cert.server"), "/no/such.pem")], "cannot read"),
        (vec![(key("source.lookup.header.A B"), "x")], "cannot be a header"),
    ] {
        let more: Vec<(&str, &str)> = more.iter().map(|(k, v)| (k.as_str(), *v)).collect();
        let e = source("http://h/", &more).err().unwrap_or_else(|| panic!("{more:?}"));
        let text = format!("{e} {}", e.hint_text().unwrap_or_default());
        assert!(text.contains(says), "{more:?}: {text}");
    }
    let query = [("gid.connector.http.request.query-param-fields", "name")];
    let e = open("http://h/", &query, &[0]).unwrap_err().to_string();
    assert!(e.contains("need the column `name`"), "{e}");
    // The other name has other keys.
    let options = [
        ("connector", "http"),
        ("url", "http://h/"),
        ("format", "json"),
        ("http.source.lookup.result-type", "array"),
    ];
    assert!(RestFactory::http().source(&table(&columns(), &options), &env()).is_ok());
    assert!(RestFactory::http().sink(&table(&columns(), &options), &env()).is_err());
}

#[test]
fn statuses_have_meanings() {
    let set = |text: &str| CodeSet::parse(text).unwrap();
    let codes = Codes { success: set("2xx, !203"), retry: set("5XX,!501"), ignored: set("404") };
    let meanings = [200, 203, 404, 500, 501, 301].map(|s| codes.meaning(s));
    use Meaning::{Again, Failed, Nothing, Rows};
    assert_eq!(meanings, [Rows, Failed, Nothing, Again, Failed, Failed]);
    for bad in ["6XX", "!2XX", "99", "abc", "2X"] {
        assert_eq!(CodeSet::parse(bad), None, "{bad}");
    }
}
