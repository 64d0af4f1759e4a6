//! A client of schema registries that speak Confluent's protocol (Confluent, Apicurio, Karapace, Redpanda, …).
//!
//! ```text
//!  formats ─► RegistryClient ─► cache by id ─► http: one URL after the other, again after a pause
//!                                  ▲              │
//!                                  └── references, fetched with the schema that names them
//! ```
//!
//! A schema under an id never changes, so it is asked for once and shared by all decoders of a table. Everything runs on
//! one thread of its own: formats are synchronous, and a decoder may wait on any thread.
//!
//! Secrets (user and password, tokens) are taken out of URLs when the options are read, sent as headers that are marked
//! sensitive, and are in no error and no `Debug`.

mod config;
mod http;
#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a real registry keeps what other runs registered")]
pub(crate) mod tests;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

pub use config::{RegistryConfig, RegistryOptions};
use http::{Answer, Http};

use crate::error::{Error, Result, ResultExt};
use crate::runtime::blocking::blocking;

/// How deep references may be nested.
const MAX_REFERENCES: usize = 64;

/// The language of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum SchemaKind {
    /// Avro, which registries don't name.
    #[default]
    #[serde(rename = "AVRO")]
    Avro,
    /// JSON Schema.
    #[serde(rename = "JSON")]
    Json,
    /// Protobuf, as text.
    #[serde(rename = "PROTOBUF")]
    Protobuf,
}

impl fmt::Display for SchemaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SchemaKind::Avro => "Avro",
            SchemaKind::Json => "JSON Schema",
            SchemaKind::Protobuf => "Protobuf",
        })
    }
}

/// A schema that another one uses.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reference {
    /// What the using schema calls it: a full name in Avro, an imported file in Protobuf, a URL in JSON Schema.
    pub name: String,
    /// Subject that it is registered under.
    pub subject: String,
    /// Its version there.
    pub version: u32,
}

/// A schema with all that it uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredSchema {
    /// Its id.
    pub id: u32,
    /// Its language.
    pub kind: SchemaKind,
    /// Its text.
    pub text: String,
    /// What it uses, directly or not, as name and text; what is used stands before what uses it. Each name is there once.
    pub references: Vec<(String, String)>,
}

/// The newest schema of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectVersion {
    /// The subject.
    pub subject: String,
    /// Number of the version.
    pub version: u32,
    /// The schema.
    pub schema: Arc<RegisteredSchema>,
}

/// A schema to register.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NewSchema {
    /// Its language.
    pub kind: SchemaKind,
    /// Its text.
    pub text: String,
    /// What it uses.
    pub references: Vec<Reference>,
}

/// A schema as the registry sends it.
#[derive(Debug, Deserialize)]
struct SchemaBody {
    #[serde(default)]
    id: u32,
    #[serde(default)]
    version: u32,
    schema: String,
    #[serde(default, rename = "schemaType")]
    kind: Option<String>,
    #[serde(default)]
    references: Option<Vec<Reference>>,
}

#[derive(Debug, Deserialize)]
struct IdBody {
    id: u32,
}

#[derive(Serialize)]
struct RegisterBody<'a> {
    schema: &'a str,
    #[serde(rename = "schemaType", skip_serializing_if = "Option::is_none")]
    kind: Option<SchemaKind>,
    #[serde(skip_serializing_if = "<[Reference]>::is_empty")]
    references: &'a [Reference],
}

struct Shared {
    http: Http,
    schemas: Mutex<HashMap<u32, Arc<RegisteredSchema>>>,
    registered: Mutex<HashMap<(String, NewSchema), u32>>,
}

/// A client; copies share the cache.
#[derive(Clone)]
pub struct RegistryClient(Arc<Shared>);

impl fmt::Debug for RegistryClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RegistryClient").field(&self.0.http.shown()).finish()
    }
}

/// The thread that all requests run on.
fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<std::io::Result<Runtime>> = OnceLock::new();
    let made = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(4)
            .thread_name("schema-registry")
            .enable_all()
            .build()
    });
    made.as_ref().map_err(|e| Error::external(format!("no thread for the schema registry: {e}")))
}

/// Waits for work on the registry's thread, on whatever thread this is. A registry that does not answer holds up nobody else.
fn wait<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let (answer, answered) = std::sync::mpsc::sync_channel(1);
    runtime()?.spawn(async move {
        let _ = answer.send(work.await);
    });
    blocking(|| answered.recv())
        .map_err(|_| Error::internal("the thread of the schema registry has ended"))?
}

impl RegistryClient {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// External for certificates that cannot be read.
    pub fn new(config: RegistryConfig) -> Result<Self> {
        let http = Http::new(config)?;
        Ok(RegistryClient(Arc::new(Shared { http, schemas: Mutex::default(), registered: Mutex::default() })))
    }

    /// The URLs, without secrets.
    pub fn shown(&self) -> String {
        self.0.http.shown()
    }

    /// The schema with an id.
    ///
    /// # Errors
    /// Data if there is none, External if the registry cannot be asked.
    pub async fn schema(&self, id: u32) -> Result<Arc<RegisteredSchema>> {
        if let Some(known) = lock(&self.0.schemas).get(&id) {
            return Ok(Arc::clone(known));
        }
        let answer = self.0.http.get(&["schemas", "ids", &id.to_string()], true).await;
        let body: SchemaBody = match answer.context(|| format!("schema {id}"))? {
            Answer::Found(body) => self.0.http.parse(&body).context(|| format!("schema {id}"))?,
            Answer::Missing(why) => {
                return Err(Error::data(format!(
                    "schema {id} is not in the registry at {}: {why}",
                    self.shown()
                ))
                .hint("was the record written with another registry, or the schema deleted for good?"));
            }
        };
        let schema = self.resolve(id, body).await.context(|| format!("schema {id}"))?;
        Ok(Arc::clone(lock(&self.0.schemas).entry(id).or_insert(schema)))
    }

    /// The newest schema of a subject; `None` if there is no such subject.
    ///
    /// # Errors
    /// External if the registry cannot be asked.
    pub async fn latest(&self, subject: &str) -> Result<Option<SubjectVersion>> {
        let place = || format!("subject {subject}");
        let path = ["subjects", subject, "versions", "latest"];
        let body: SchemaBody = match self.0.http.get(&path, false).await.context(place)? {
            Answer::Found(body) => self.0.http.parse(&body).context(place)?,
            Answer::Missing(_) => return Ok(None),
        };
        let (id, version) = (body.id, body.version);
        let known = lock(&self.0.schemas).get(&id).cloned();
        let schema = match known {
            Some(known) => known,
            None => {
                let schema = self.resolve(id, body).await.context(place)?;
                Arc::clone(lock(&self.0.schemas).entry(id).or_insert(schema))
            }
        };
        Ok(Some(SubjectVersion { subject: subject.to_owned(), version, schema }))
    }

    /// The schemas of a subject, oldest first, as far as they were not deleted; none if there is no such subject.
    ///
    /// # Errors
    /// External if the registry cannot be asked.
    pub async fn versions(&self, subject: &str) -> Result<Vec<SubjectVersion>> {
        let place = || format!("subject {subject}");
        let answer = self.0.http.get(&["subjects", subject, "versions"], false).await.context(place)?;
        let Answer::Found(body) = answer else { return Ok(Vec::new()) };
        let mut numbers: Vec<u32> = self.0.http.parse(&body).context(place)?;
        numbers.sort_unstable();
        let mut all = Vec::with_capacity(numbers.len());
        for version in numbers {
            let path = ["subjects", subject, "versions", &version.to_string()];
            let body: SchemaBody = match self.0.http.get(&path, false).await.context(place)? {
                Answer::Found(body) => self.0.http.parse(&body).context(place)?,
                // Deleted in between.
                Answer::Missing(_) => continue,
            };
            let id = body.id;
            let known = lock(&self.0.schemas).get(&id).cloned();
            let schema = match known {
                Some(known) => known,
                None => {
                    let schema = self.resolve(id, body).await.context(place)?;
                    Arc::clone(lock(&self.0.schemas).entry(id).or_insert(schema))
                }
            };
            all.push(SubjectVersion { subject: subject.to_owned(), version, schema });
        }
        Ok(all)
    }

    /// Registers a schema under a subject, or finds it there, and gives its id.
    ///
    /// # Errors
    /// Validation if the registry refuses it, External if the registry cannot be asked.
    pub async fn register(&self, subject: &str, schema: &NewSchema) -> Result<u32> {
        self.post(subject, schema, &["subjects", subject, "versions"], true).await
    }

    /// The id of a schema that is registered under a subject.
    ///
    /// # Errors
    /// Validation if it is not, External if the registry cannot be asked.
    pub async fn lookup(&self, subject: &str, schema: &NewSchema) -> Result<u32> {
        self.post(subject, schema, &["subjects", subject], false).await
    }

    async fn post(&self, subject: &str, schema: &NewSchema, path: &[&str], register: bool) -> Result<u32> {
        let key = (subject.to_owned(), schema.clone());
        if let Some(id) = lock(&self.0.registered).get(&key) {
            return Ok(*id);
        }
        let place = || format!("subject {subject}");
        let kind = (schema.kind != SchemaKind::Avro).then_some(schema.kind);
        let body = RegisterBody { schema: &schema.text, kind, references: &schema.references };
        let body =
            serde_json::to_vec(&body).map_err(|e| Error::internal(format!("a schema as JSON: {e}")))?;
        let id = match self.0.http.post(path, body).await.context(place)? {
            Answer::Found(body) => self.0.http.parse::<IdBody>(&body).context(place)?.id,
            Answer::Missing(why) => {
                let what = if register { "was not registered" } else { "is not registered" };
                let e = Error::validation(format!("the schema {what} at {}: {why}", self.shown()));
                return Err(e
                    .hint("register it first, or leave 'auto.register.schemas' at true")
                    .context(place()));
            }
        };
        lock(&self.0.registered).insert(key, id);
        Ok(id)
    }

    /// A schema with what it references.
    async fn resolve(&self, id: u32, body: SchemaBody) -> Result<Arc<RegisteredSchema>> {
        let kind = kind_of(body.kind.as_deref())?;
        let mut references: Vec<(String, String)> = Vec::new();
        // Depth first: a frame is a schema whose references are being fetched.
        let mut frames = vec![Frame { own: None, left: reversed(body.references) }];
        while let Some(frame) = frames.last_mut() {
            let Some(next) = frame.left.pop() else {
                if let Some(own) = frames.pop().and_then(|f| f.own) {
                    references.push(own);
                }
                continue;
            };
            if references.iter().any(|(name, _)| *name == next.name) {
                continue;
            }
            let open = frames.iter().any(|f| f.own.as_ref().is_some_and(|(name, _)| *name == next.name));
            if open || frames.len() > MAX_REFERENCES {
                return Err(Error::data(format!(
                    "the references of the schema run in a circle or are nested more than {MAX_REFERENCES} deep, at '{}'",
                    next.name
                )));
            }
            let place =
                || format!("reference '{}' (subject {}, version {})", next.name, next.subject, next.version);
            let version = next.version.to_string();
            let path = ["subjects", next.subject.as_str(), "versions", version.as_str()];
            let used: SchemaBody = match self.0.http.get(&path, true).await.context(place)? {
                Answer::Found(body) => self.0.http.parse(&body).context(place)?,
                Answer::Missing(why) => {
                    let e = Error::data(format!("not in the registry at {}: {why}", self.shown()));
                    return Err(e.context(place()));
                }
            };
            frames.push(Frame { own: Some((next.name, used.schema)), left: reversed(used.references) });
        }
        Ok(Arc::new(RegisteredSchema { id, kind, text: body.schema, references }))
    }

    /// [`RegistryClient::schema`], waiting.
    ///
    /// # Errors
    /// See there.
    pub fn schema_blocking(&self, id: u32) -> Result<Arc<RegisteredSchema>> {
        if let Some(known) = lock(&self.0.schemas).get(&id) {
            return Ok(Arc::clone(known));
        }
        let client = self.clone();
        wait(async move { client.schema(id).await })
    }

    /// [`RegistryClient::latest`], waiting.
    ///
    /// # Errors
    /// See there.
    pub fn latest_blocking(&self, subject: &str) -> Result<Option<SubjectVersion>> {
        let (client, subject) = (self.clone(), subject.to_owned());
        wait(async move { client.latest(&subject).await })
    }

    /// [`RegistryClient::register`] or, unless `register`, [`RegistryClient::lookup`], waiting.
    ///
    /// # Errors
    /// See there.
    pub fn register_blocking(&self, subject: &str, schema: NewSchema, register: bool) -> Result<u32> {
        let (client, subject) = (self.clone(), subject.to_owned());
        wait(async move {
            match register {
                true => client.register(&subject, &schema).await,
                false => client.lookup(&subject, &schema).await,
            }
        })
    }
}

/// A schema whose references are being fetched: its name and text, and the references to come, last first.
struct Frame {
    own: Option<(String, String)>,
    left: Vec<Reference>,
}

fn reversed(references: Option<Vec<Reference>>) -> Vec<Reference> {
    let mut all = references.unwrap_or_default();
    all.reverse();
    all
}

fn kind_of(name: Option<&str>) -> Result<SchemaKind> {
    match name {
        None | Some("AVRO") => Ok(SchemaKind::Avro),
        Some("JSON") => Ok(SchemaKind::Json),
        Some("PROTOBUF") => Ok(SchemaKind::Protobuf),
        Some(other) => Err(Error::unsupported(format!("schemas of type '{other}'"))
            .hint("AVRO, JSON and PROTOBUF are supported")),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
