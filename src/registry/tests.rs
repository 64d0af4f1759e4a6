//! A registry of our own that answers as it is told, and the real one of `TIDELAKE_TEST_REGISTRY`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::options::Options;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// A server on loopback.
pub(crate) struct Fake {
    pub(crate) url: String,
    pub(crate) seen: Arc<Mutex<Vec<Request>>>,
}

impl Fake {
    /// Answers with status and body.
    pub(crate) fn new(answer: impl Fn(&Request) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let mut words = line.split(' ');
                let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                let (method, path) = (method.to_owned(), path.to_owned());
                let mut headers = BTreeMap::new();
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    let Some((name, value)) = line.trim().split_once(':') else { break };
                    headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
                }
                let length = headers.get("content-length").map_or(0, |l| l.parse().unwrap());
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let request = Request { method, path, headers, body: String::from_utf8(body).unwrap() };
                let (status, text) = answer(&request);
                log.lock().unwrap().push(request);
                let mut stream = stream;
                write!(
                    stream,
                    "HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
                    text.len()
                )
                .unwrap();
            }
        });
        Fake { url, seen }
    }

    /// A registry that keeps what is registered; ids begin with 1.
    pub(crate) fn registry() -> Self {
        let kept: Mutex<Vec<(String, Value)>> = Mutex::default();
        let missing = |code: u32| (404, json!({"error_code": code, "message": "not found"}).to_string());
        Fake::new(move |r| {
            let mut kept = kept.lock().unwrap();
            let parts: Vec<&str> = r.path.trim_start_matches('/').split('/').collect();
            match (r.method.as_str(), parts.as_slice()) {
                ("GET", ["schemas", "ids", id]) => {
                    let id: usize = id.parse().unwrap();
                    match kept.get(id.wrapping_sub(1)) {
                        Some((_, schema)) => (200, schema.to_string()),
                        None => missing(40403),
                    }
                }
                ("POST", ["subjects", subject, ..]) => {
                    let body: Value = serde_json::from_str(&r.body).unwrap();
                    let found = kept.iter().position(|(s, b)| s == subject && *b == body);
                    let id = match found {
                        Some(at) => at + 1,
                        None if parts.len() == 2 => return missing(40403),
                        None => {
                            kept.push(((*subject).to_owned(), body));
                            kept.len()
                        }
                    };
                    (200, json!({"id": id}).to_string())
                }
                ("GET", ["subjects", subject, "versions", version]) => {
                    let of: Vec<_> = kept.iter().enumerate().filter(|(_, (s, _))| s == subject).collect();
                    let at = match *version {
                        "latest" => of.len(),
                        n => n.parse().unwrap(),
                    };
                    match of.get(at.wrapping_sub(1)) {
                        Some((id, (_, body))) => {
                            let mut body = body.clone();
                            body["id"] = json!(id + 1);
                            body["version"] = json!(at);
                            (200, body.to_string())
                        }
                        None => missing(40401),
                    }
                }
                _ => (404, "<html>".to_owned()),
            }
        })
    }

    fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

/// The URL of the real registry, or of one of our own.
pub(crate) fn any_registry() -> (String, Option<Fake>) {
    match std::env::var("TIDELAKE_TEST_REGISTRY").ok().filter(|v| !v.is_empty()) {
        Some(url) => (url, None),
        None => {
            eprintln!(
                "no schema registry (TIDELAKE_TEST_REGISTRY is not set): a small one of the tests stands for it"
            );
            let fake = Fake::registry();
            (fake.url.clone(), Some(fake))
        }
    }
}

fn client(urls: &str) -> RegistryClient {
    RegistryClient::new(RegistryConfig::new(urls).unwrap().with_rounds(2)).unwrap()
}

fn avro(text: &str) -> NewSchema {
    NewSchema { kind: SchemaKind::Avro, text: text.to_owned(), references: Vec::new() }
}

#[test]
fn what_is_registered_is_found() {
    let (url, _fake) = any_registry();
    let client = client(&url);
    let subject = format!("s ü {}", uuid::Uuid::new_v4().simple());
    assert_eq!(client.latest_blocking(&subject).unwrap(), None);
    let id = client.register_blocking(&subject, avro(r#""long""#), true).unwrap();
    assert_eq!(client.register_blocking(&subject, avro(r#""long""#), true).unwrap(), id);
    assert_eq!(client.register_blocking(&subject, avro(r#""long""#), false).unwrap(), id);
    let schema = client.schema_blocking(id).unwrap();
    assert_eq!((schema.kind, schema.text.trim_matches('"'), schema.id), (SchemaKind::Avro, "long", id));
    let latest = client.latest_blocking(&subject).unwrap().unwrap();
    assert_eq!((latest.version, latest.schema.id), (1, id));
    let e = client.register_blocking(&subject, avro(r#""string""#), false).unwrap_err();
    assert_eq!(e.kind(), crate::error::ErrorKind::Validation, "{e}");
    assert!(e.to_string().contains("is not registered at"), "{e}");
    let e = client.schema_blocking(99_999_999).unwrap_err();
    assert_eq!(e.kind(), crate::error::ErrorKind::Data, "{e}");
    assert!(e.to_string().contains("schema 99999999 is not in the registry at"), "{e}");
}

#[test]
fn references_come_with_the_schema() {
    let (url, _fake) = any_registry();
    let client = client(&url);
    let base = uuid::Uuid::new_v4().simple().to_string();
    let proto = |text: &str, references: Vec<Reference>| NewSchema {
        kind: SchemaKind::Protobuf,
        text: text.to_owned(),
        references,
    };
    let of = |name: &str| Reference {
        name: format!("{name}.proto"),
        subject: format!("{base}-{name}"),
        version: 1,
    };
    let put = |name: &str, schema| client.register_blocking(&format!("{base}-{name}"), schema, true).unwrap();
    put("a", proto("syntax = \"proto3\"; message A { int32 x = 1; }", vec![]));
    put("b", proto("syntax = \"proto3\"; import \"a.proto\"; message B { A a = 1; }", vec![of("a")]));
    let id = put(
        "c",
        proto(
            "syntax = \"proto3\"; import \"a.proto\"; import \"b.proto\"; message C { A a = 1; B b = 2; }",
            vec![of("a"), of("b")],
        ),
    );
    let schema = client.schema_blocking(id).unwrap();
    let names: Vec<&str> = schema.references.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!((schema.kind, names), (SchemaKind::Protobuf, vec!["a.proto", "b.proto"]));
    let columns = crate::formats::schema_columns(&schema, None).unwrap();
    let shown: Vec<String> = columns.columns.iter().map(|c| format!("{} {}", c.name, c.ty)).collect();
    assert_eq!(shown, ["a ROW<`x` INT NOT NULL>", "b ROW<`a` ROW<`x` INT NOT NULL>>"]);
}

#[test]
fn references_in_a_circle_end() {
    let body = |name: &str| {
        let reference = json!([{"name": name, "subject": name, "version": 1}]);
        json!({"schema": "\"int\"", "references": reference}).to_string()
    };
    let fake = Fake::new(move |r| match r.path.as_str() {
        "/subjects/a/versions/1" => (200, body("b")),
        _ => (200, body("a")),
    });
    let e = client(&fake.url).schema_blocking(1).unwrap_err().to_string();
    assert!(e.contains("schema 1: the references of the schema run in a circle"), "{e}");
}

#[test]
fn a_schema_is_asked_for_once() {
    let fake = Fake::new(|_| (200, json!({"schema": "\"int\""}).to_string()));
    let client = client(&format!("{}/", fake.url));
    for _ in 0..3 {
        client.schema_blocking(5).unwrap();
    }
    assert_eq!(fake.count(), 1);
    assert_eq!(fake.seen.lock().unwrap()[0].path, "/schemas/ids/5");
}

#[test]
fn another_url_and_another_time() {
    let failing = Fake::new(|_| (500, json!({"error_code": 50001, "message": "store"}).to_string()));
    let good = Fake::new(|_| (200, json!({"schema": "\"int\""}).to_string()));
    let both = client(&format!("{}, {}", failing.url, good.url));
    both.schema_blocking(1).unwrap();
    both.schema_blocking(2).unwrap();
    assert_eq!((failing.count(), good.count()), (1, 2), "the one that answered is asked first");

    let e = client(&failing.url).schema_blocking(1).unwrap_err();
    assert!(e.is_retryable(), "{e}");
    assert!(e.to_string().contains("says 500 Internal Server Error: store (50001)"), "{e}");
    assert_eq!(failing.count(), 3);
}

#[test]
fn errors_name_the_place_and_the_way_out() {
    let say = |status: u16, body: &'static str, ask: fn(&RegistryClient) -> Error| {
        let fake = Fake::new(move |_| (status, body.to_owned()));
        let e = ask(&client(&fake.url));
        (e.to_string().replace(&fake.url, "URL"), e.kind())
    };
    let get = |c: &RegistryClient| c.schema_blocking(7).unwrap_err();
    let put = |c: &RegistryClient| c.register_blocking("s", avro("\"int\""), true).unwrap_err();
    use crate::error::ErrorKind as K;
    for ((text, kind), wanted, is) in [
        (
            say(401, r#"{"error_code":401,"message":"Unauthorized"}"#, get),
            "schema 7: the schema registry at URL/ says 401 Unauthorized: Unauthorized; give the user in 'basic-auth.user-info'",
            K::Validation,
        ),
        (
            say(404, "<html>", get),
            "says 404 Not Found: 404 Not Found; the URL has to be the root of its API",
            K::External,
        ),
        (say(200, "<html>", get), "the answer of URL/ is not a schema registry's", K::External),
        (
            say(409, r#"{"error_code":409,"message":"incompatible"}"#, put),
            "subject s: the schema registry at URL/ says 409 Conflict: incompatible; the columns of the table don't fit",
            K::Validation,
        ),
        (
            say(422, r#"{"error_code":42201,"message":"bad"}"#, put),
            "says 422 Unprocessable Entity: bad (42201)",
            K::Validation,
        ),
    ] {
        assert!(text.contains(wanted) && kind == is, "{text} ({kind:?})");
    }
    let closed = { TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
    let e = client(&format!("http://bob:hunter2@{closed}")).schema_blocking(1).unwrap_err();
    assert!(e.is_retryable());
    let text = format!("{e} {e:?}");
    assert!(text.contains(&format!("the schema registry at http://{closed}/ cannot be reached")), "{text}");
    assert!(!text.contains("hunter2") && !text.contains("bob"), "{text}");
}

fn from_options(pairs: &[(&str, &str)]) -> Result<RegistryOptions> {
    let all = pairs.iter().map(|(k, v)| (format!("f.{k}"), (*v).to_owned())).collect();
    let options = Options::new("t", "kafka", &all);
    let config = RegistryConfig::from_options(&options, "f.")?;
    options.finish()?;
    Ok(config)
}

#[test]
fn secrets_are_sent_and_never_shown() {
    let sent = |url: &dyn Fn(&str) -> String, pairs: &[(&str, &str)]| {
        let fake = Fake::new(|_| (200, json!({"schema": "\"int\""}).to_string()));
        let url = url(fake.url.trim_start_matches("http://"));
        let mut all = vec![("url", url.as_str())];
        all.extend_from_slice(pairs);
        let options = from_options(&all).unwrap();
        let shown = format!("{options:?}");
        let client = RegistryClient::new(options.config).unwrap();
        client.schema_blocking(1).unwrap();
        let shown = format!("{shown} {client:?}");
        assert!(!shown.contains("sekret") && !shown.contains("c2Vr"), "{shown}");
        fake.seen.lock().unwrap()[0].headers.clone()
    };
    let plain = |host: &str| format!("http://{host}");
    let in_url = |host: &str| format!("http://bob:s%40k+sekret@{host}");
    // base64 of bob:s@k+sekret
    assert_eq!(sent(&in_url, &[])["authorization"], "Basic Ym9iOnNAaytzZWtyZXQ=");
    let user = [("basic-auth.credentials-source", "USER_INFO"), ("basic-auth.user-info", "a:sekret")];
    assert_eq!(sent(&plain, &user)["authorization"], "Basic YTpzZWtyZXQ=");
    assert_eq!(sent(&plain, &[("bearer-auth.token", "sekret")])["authorization"], "Bearer sekret");
    assert_eq!(sent(&plain, &[("properties.request.header.X-Id", "sekret")])["x-id"], "sekret");
    assert!(!sent(&plain, &[]).contains_key("authorization"));
    assert_eq!(sent(&plain, &[])["accept"], "application/vnd.schemaregistry.v1+json, application/json");
}

#[test]
fn options_that_mean_nothing_are_refused() {
    let url = ("url", "http://h:1");
    for (pairs, says) in [
        (&[][..], "one or more required options are missing: 'f.url'"),
        (&[("url", "h:8081")], "'f.url': the URL of the schema registry is not one of http or https"),
        (&[("url", "http://u:sekret@")], "the URL of the schema registry is none"),
        (&[("url", " , ")], "the URL of the schema registry is empty"),
        (&[("url", "http://h?a=b")], "has a '?' or '#' part"),
        (&[url, ("properties.a.b", "1")], "'f.properties.a.b' is not supported"),
        (&[url, ("x", "1")], "unsupported options found for 'kafka': f.x"),
        (&[url, ("basic-auth.credentials-source", "SASL_INHERIT")], "other than USER_INFO and URL"),
        (&[url, ("basic-auth.credentials-source", "USER_INFO")], "needs 'f.basic-auth.user-info'"),
        (&[url, ("basic-auth.user-info", "sekret")], "is not 'user:password'"),
        (&[url, ("bearer-auth.credentials-source", "OAUTHBEARER")], "other than STATIC_TOKEN"),
        (&[url, ("bearer-auth.credentials-source", "STATIC_TOKEN")], "needs 'f.bearer-auth.token'"),
        (&[url, ("bearer-auth.token", "t"), ("basic-auth.user-info", "a:sekret")], "more than one of"),
        (&[url, ("properties.auto.register.schemas", "no")], "expected true or false"),
        (&[url, ("properties.max.retries", "99")], "a number up to 10"),
        (&[url, ("properties.request.timeout.ms", "0")], "milliseconds above 0"),
        (&[url, ("ssl.truststore.location", "/nowhere")], "cannot read /nowhere"),
        (
            &[url, ("ssl.truststore.location", "Cargo.toml")],
            "Cargo.toml does not hold certificates in PEM form; convert",
        ),
        (
            &[url, ("ssl.keystore.location", "Cargo.toml")],
            "does not hold a certificate and an unencrypted key in PEM form",
        ),
        (&[url, ("ssl.keystore.password", "sekret")], "PEM files need no password"),
    ] {
        let e = from_options(pairs).unwrap_err().to_string();
        assert!(e.contains(says) && !e.contains("sekret"), "{e}");
    }
    let good = [url, ("properties.auto.register.schemas", "false"), ("properties.request.timeout.ms", "500")];
    assert!(!from_options(&good).unwrap().register);
    assert!(from_options(&[("schema-registry.url", "http://h")]).unwrap().register);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_registry_that_does_not_answer_holds_up_nobody_else() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let options =
        [("url", url.as_str()), ("properties.request.timeout.ms", "1500"), ("properties.max.retries", "0")];
    let client = RegistryClient::new(from_options(&options).unwrap().config).unwrap();
    let asks = tokio::spawn(async move { client.schema_blocking(1) });
    // The only worker of the runtime is in it by now.
    std::thread::sleep(Duration::from_millis(300));
    let other = tokio::spawn(async {});
    for _ in 0..40 {
        if other.is_finished() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(other.is_finished() && !asks.is_finished());
    assert!(asks.await.unwrap().is_err());
}
