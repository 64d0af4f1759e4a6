//! Commits to a server of Iceberg's REST protocol.
//!
//! ```text
//!  GET /v1/config ─► prefix, overrides ┐ (once)
//!  POST /v1/oauth/tokens ─► token      ┴─► POST /v1/{prefix}/namespaces/{ns}/tables/{table}
//! ```
//!
//! State: the settings of the server and the token, which is asked for again when the server refuses it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use iceberg::table::Table;
use iceberg::{Error, ErrorKind, NamespaceIdent, Result, TableIdent};
use iceberg_catalog_rest::CommitTableRequest;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;
use tokio::sync::{Mutex, OnceCell};
use url::Url;

use super::{Backend, Update, conflict};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A commit may wait for others at the server.
const TIMEOUT: Duration = Duration::from_secs(120);
/// What separates the levels of a namespace in an address.
const LEVELS: &str = "\u{1f}";

/// A server.
pub(in super::super) struct RestBackend {
    uri: String,
    warehouse: Option<String>,
    properties: HashMap<String, String>,
    client: OnceCell<Client>,
    settings: OnceCell<Settings>,
    token: Mutex<Option<String>>,
}

impl fmt::Debug for RestBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The properties hold secrets.
        f.debug_struct("RestBackend").finish_non_exhaustive()
    }
}

/// The settings after the server has had its say.
struct Settings {
    uri: String,
    properties: HashMap<String, String>,
}

/// What `/v1/config` answers.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    defaults: HashMap<String, String>,
    overrides: HashMap<String, String>,
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
}

/// An error as the server tells it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    error: RefusalText,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RefusalText {
    message: String,
}

fn unexpected(what: &str, e: &reqwest::Error) -> Error {
    let mut text = format!("{what}: {e}");
    let mut cause = std::error::Error::source(e);
    while let Some(c) = cause {
        text.push_str(&format!(": {c}"));
        cause = c.source();
    }
    Error::new(ErrorKind::Unexpected, text)
}

impl RestBackend {
    /// The server at `uri`, with the options of its catalog. It is asked when it is needed.
    pub fn new(uri: &str, warehouse: Option<&str>, properties: &HashMap<String, String>) -> Self {
        RestBackend {
            uri: uri.to_owned(),
            warehouse: warehouse.map(str::to_owned),
            properties: properties.clone(),
            client: OnceCell::new(),
            settings: OnceCell::new(),
            token: Mutex::default(),
        }
    }

    async fn client(&self) -> Result<&Client> {
        let build = async || {
            let client = Client::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .timeout(TIMEOUT)
                .user_agent(concat!("tidelake/", env!("CARGO_PKG_VERSION")))
                .build();
            client.map_err(|e| unexpected("the client of the REST catalog", &e))
        };
        self.client.get_or_try_init(build).await
    }

    async fn settings(&self) -> Result<&Settings> {
        self.settings.get_or_try_init(|| self.ask_settings()).await
    }

    async fn ask_settings(&self) -> Result<Settings> {
        let mut url = address(&self.uri, &["v1", "config"])?;
        if let Some(warehouse) = &self.warehouse {
            url.query_pairs_mut().append_pair("warehouse", warehouse);
        }
        let asked = Settings { uri: self.uri.clone(), properties: self.properties.clone() };
        let request = self.client().await?.get(url).headers(headers(&asked.properties)?);
        let answer = self.send(&asked, request).await?;
        let config: Config = match answer.status() {
            StatusCode::OK => parse(answer).await?,
            // Servers without settings.
            StatusCode::NOT_FOUND => Config::default(),
            _ => return Err(refused(answer).await),
        };
        let mut properties = config.defaults;
        properties.extend(self.properties.clone());
        properties.extend(config.overrides);
        let uri = properties.remove("uri").unwrap_or_else(|| self.uri.clone());
        Ok(Settings { uri: uri.trim_end_matches('/').to_owned(), properties })
    }

    /// Sends a request with its token, and with a new one if that is refused.
    async fn send(&self, settings: &Settings, request: reqwest::RequestBuilder) -> Result<Response> {
        let failed = |e: reqwest::Error| unexpected("the REST catalog", &e);
        let again = request.try_clone();
        let known = self.token(settings, None).await?;
        let with = |request: reqwest::RequestBuilder, token: &Option<String>| match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let answer = with(request, &known).send().await.map_err(failed)?;
        let is_refused = matches!(answer.status().as_u16(), 401 | 403 | 419);
        match (is_refused && settings.properties.contains_key("credential"), again) {
            (true, Some(again)) => {
                let token = self.token(settings, known.as_deref()).await?;
                with(again, &token).send().await.map_err(failed)
            }
            _ => Ok(answer),
        }
    }

    /// The token: the given one, or the one that the credential is exchanged for. `stale` is one that was refused.
    async fn token(&self, settings: &Settings, stale: Option<&str>) -> Result<Option<String>> {
        let properties = &settings.properties;
        if stale.is_none()
            && let Some(token) = properties.get("token")
        {
            return Ok(Some(token.clone()));
        }
        let Some(credential) = properties.get("credential") else { return Ok(None) };
        let mut token = self.token.lock().await;
        if let Some(known) = token.as_deref().filter(|known| Some(*known) != stale) {
            return Ok(Some(known.to_owned()));
        }
        let url = match properties.get("oauth2-server-uri") {
            Some(uri) => Url::parse(uri).map_err(|e| bad_address(uri, &e.to_string()))?,
            None => address(&settings.uri, &["v1", "oauth", "tokens"])?,
        };
        let mut all = headers(properties)?;
        all.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let request = self.client().await?.post(url).headers(all).body(token_request(properties, credential));
        let answer = request.send().await.map_err(|e| unexpected("the token endpoint", &e))?;
        if answer.status() != StatusCode::OK {
            return Err(refused(answer).await);
        }
        let new = parse::<Token>(answer).await?.access_token;
        *token = Some(new.clone());
        Ok(Some(new))
    }
}

#[async_trait]
impl Backend for RestBackend {
    async fn commit(&self, base: &Table, update: Update) -> Result<()> {
        let settings = self.settings().await?;
        let ident = base.identifier();
        let url = address(&settings.uri, &path(settings.properties.get("prefix"), ident))?;
        let body = CommitTableRequest {
            identifier: Some(ident.clone()),
            requirements: update.requirements,
            updates: update.changes,
        };
        let body = serde_json::to_vec(&body).map_err(|e| Error::new(ErrorKind::Unexpected, e.to_string()))?;
        let request = self.client().await?.post(url).headers(headers(&settings.properties)?).body(body);
        let answer = self.send(settings, request).await?;
        match answer.status() {
            s if s.is_success() => Ok(()),
            StatusCode::CONFLICT => Err(conflict(refused(answer).await.message())),
            StatusCode::NOT_FOUND => {
                Err(Error::new(ErrorKind::TableNotFound, "the table does not exist any more"))
            }
            s if s.is_server_error() => {
                let e = refused(answer).await;
                Err(Error::new(
                    ErrorKind::Unexpected,
                    format!("{} ({s}: the commit state is unknown)", e.message()),
                ))
            }
            _ => Err(refused(answer).await),
        }
    }

    /// The crate's catalog has no request for it.
    async fn set_namespace_properties(
        &self,
        _client: &Arc<dyn iceberg::Catalog>,
        namespace: &NamespaceIdent,
        updates: HashMap<String, String>,
    ) -> Result<()> {
        let settings = self.settings().await?;
        let mut path = namespace_path(settings.properties.get("prefix"), namespace);
        path.push("properties".to_owned());
        let url = address(&settings.uri, &path)?;
        let body = serde_json::json!({ "removals": [], "updates": updates });
        let body = serde_json::to_vec(&body).map_err(|e| Error::new(ErrorKind::Unexpected, e.to_string()))?;
        let request = self.client().await?.post(url).headers(headers(&settings.properties)?).body(body);
        let answer = self.send(settings, request).await?;
        match answer.status() {
            s if s.is_success() => Ok(()),
            StatusCode::NOT_FOUND => {
                Err(Error::new(ErrorKind::NamespaceNotFound, "the database does not exist any more"))
            }
            _ => Err(refused(answer).await),
        }
    }
}

/// What is sent for a token.
fn token_request(properties: &HashMap<String, String>, credential: &str) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    match credential.split_once(':') {
        Some((id, secret)) => form.append_pair("client_id", id).append_pair("client_secret", secret),
        None => form.append_pair("client_secret", credential),
    };
    form.append_pair("scope", properties.get("scope").map_or("catalog", String::as_str));
    for key in ["audience", "resource"] {
        if let Some(value) = properties.get(key) {
            form.append_pair(key, value);
        }
    }
    form.finish()
}

/// The levels of the address of a namespace.
fn namespace_path(prefix: Option<&String>, namespace: &NamespaceIdent) -> Vec<String> {
    let mut path = vec!["v1".to_owned()];
    path.extend(prefix.iter().flat_map(|p| p.split('/')).filter(|p| !p.is_empty()).map(str::to_owned));
    path.extend(["namespaces".to_owned(), namespace.join(LEVELS)]);
    path
}

/// The levels of the address of a table.
fn path(prefix: Option<&String>, ident: &TableIdent) -> Vec<String> {
    let mut path = namespace_path(prefix, ident.namespace());
    path.extend(["tables".to_owned(), ident.name().to_owned()]);
    path
}

fn bad_address(uri: &str, why: &str) -> Error {
    Error::new(ErrorKind::DataInvalid, format!("'{uri}' is not the address of a server: {why}"))
}

fn address(uri: &str, path: &[impl AsRef<str>]) -> Result<Url> {
    let mut url = Url::parse(uri).map_err(|e| bad_address(uri, &e.to_string()))?;
    url.path_segments_mut()
        .map_err(|()| bad_address(uri, "it has no path"))?
        .pop_if_empty()
        .extend(path.iter().map(AsRef::as_ref));
    Ok(url)
}

fn headers(properties: &HashMap<String, String>) -> Result<HeaderMap> {
    let mut all = HeaderMap::new();
    all.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (key, value) in properties {
        let Some(name) = key.strip_prefix("header.") else { continue };
        let bad = || Error::new(ErrorKind::DataInvalid, format!("'{key}' is not a header"));
        let mut value = HeaderValue::from_str(value).map_err(|_| bad())?;
        value.set_sensitive(true);
        all.insert(HeaderName::try_from(name).map_err(|_| bad())?, value);
    }
    Ok(all)
}

async fn parse<T: serde::de::DeserializeOwned>(answer: Response) -> Result<T> {
    let body = answer.bytes().await.map_err(|e| unexpected("the answer of the REST catalog", &e))?;
    serde_json::from_slice(&body).map_err(|e| {
        Error::new(ErrorKind::Unexpected, format!("the answer of the REST catalog is not one: {e}"))
    })
}

/// What a server says that does not do what it was asked.
async fn refused(answer: Response) -> Error {
    let status = answer.status();
    let body = answer.bytes().await.unwrap_or_default();
    let told = serde_json::from_slice::<Refusal>(&body).unwrap_or_default().error.message;
    let why = if told.is_empty() { status.to_string() } else { format!("{status}: {told}") };
    Error::new(ErrorKind::Unexpected, format!("the REST catalog answers {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_encoded() {
        let ident = TableIdent::new(NamespaceIdent::from_strs(["a", "b c"]).unwrap(), "t/ü".to_owned());
        let of = |uri: &str, prefix: Option<&str>| {
            let prefix = prefix.map(str::to_owned);
            address(uri, &path(prefix.as_ref(), &ident)).unwrap().to_string()
        };
        assert_eq!(of("http://h:1", None), "http://h:1/v1/namespaces/a%1Fb%20c/tables/t%2F%C3%BC");
        assert_eq!(
            of("http://h/api/", Some("wh/main")),
            "http://h/api/v1/wh/main/namespaces/a%1Fb%20c/tables/t%2F%C3%BC"
        );
        assert!(address("mailto:x", &["v1"]).is_err());
    }
}
