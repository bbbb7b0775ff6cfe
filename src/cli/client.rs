//! The API's client for the command line: finds address and token, and turns problems into sentences.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::Value;
use tongtu_protocol::CONTROL_NAME;

use super::Server;

/// Why the service could not be asked or refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("no service runs on {}: {} is missing; start `tongtu serve --data {}`, or give --server and --token-file", data.display(), file.display(), data.display())]
    NoService { data: PathBuf, file: PathBuf },
    #[error("{} cannot be read: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error(
        "--server {0} must begin with https://; plain http:// is for this machine alone, because the token is in it"
    )]
    Url(String),
    #[error("{} holds no certificate in PEM", .0.display())]
    Ca(PathBuf),
    #[error("{url} does not answer: {reason}")]
    Unreachable { url: String, reason: String },
    #[error("no service answers at {url}, which {} names: the one that ran there has ended; start it with `tongtu serve --data {}`", file.display(), data.display())]
    Ended { url: String, data: PathBuf, file: PathBuf },
    #[error("{0}")]
    Refused(String),
    #[error("{url} gave no answer that this version understands: {reason}")]
    Answer { url: String, reason: String },
}

/// A service and a token.
pub(super) struct Client {
    base: String,
    /// The same under the name that its certificate has.
    asked: String,
    /// The data directory, if the address was found there.
    found_in: Option<PathBuf>,
    token: String,
    http: reqwest::Client,
}

impl Client {
    pub(super) fn open(server: &Server) -> Result<Self, ClientError> {
        let (base, token, found_in) = match (&server.server, &server.token_file) {
            (Some(url), Some(file)) => (remote(url)?, read(file)?, None),
            _ => {
                let file = server.data.join(crate::control::ADDRESS_FILE);
                if !file.exists() {
                    return Err(ClientError::NoService { data: server.data.clone(), file });
                }
                (read(&file)?, read(&server.data.join("api-token"))?, Some(server.data.clone()))
            }
        };
        let mut http = reqwest::Client::builder();
        let mut asked = base.clone();
        if let (Some(data), Some(address)) = (&found_in, base.strip_prefix("https://")) {
            // A service of this machine has a certificate of its own authority under this name, whatever
            // it shows to people.
            if let Ok(address) = address.parse::<SocketAddr>() {
                asked = format!("https://{CONTROL_NAME}:{}", address.port());
                http = http.resolve(CONTROL_NAME, address);
            }
            http = http.tls_certs_only(authorities(&data.join("ca/ca.pem"))?);
        }
        if let Some(ca) = &server.ca {
            http = http.tls_certs_only(authorities(ca)?);
        }
        let http = http
            .timeout(Duration::from_secs(30))
            .connect_timeout(Duration::from_secs(10))
            // A token goes where it was sent, nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| ClientError::Unreachable { url: base.clone(), reason: reason(&error) })?;
        Ok(Self { base, asked, found_in, token, http })
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.send(Method::GET, path, None).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.send(Method::POST, path, Some(body)).await
    }

    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.send(Method::PUT, path, Some(body)).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, ClientError> {
        let url = format!("{}{path}", self.base);
        // The sentences of this command line are English.
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.asked))
            .bearer_auth(&self.token)
            .header("accept-language", "en");
        if let Some(body) = body {
            request = request.json(body);
        }
        let unreachable =
            |error: reqwest::Error| ClientError::Unreachable { url: self.base.clone(), reason: reason(&error) };
        let response = request.send().await.map_err(|error| match &self.found_in {
            // A killed service leaves its address behind.
            Some(data) if error.is_connect() && !is_tls(&error) => ClientError::Ended {
                url: self.base.clone(),
                data: data.clone(),
                file: data.join(crate::control::ADDRESS_FILE),
            },
            _ => unreachable(error),
        })?;
        let status = response.status();
        let text = response.bytes().await.map_err(unreachable)?;
        let value: Option<Value> = serde_json::from_slice(&text).ok();
        match value {
            Some(value) if status.is_success() => Ok(value),
            None if status == StatusCode::NO_CONTENT => Ok(Value::Null),
            Some(problem) if problem.get("detail").is_some_and(Value::is_string) => {
                Err(ClientError::Refused(problem["detail"].as_str().unwrap_or_default().to_owned()))
            }
            _ => Err(ClientError::Answer { url, reason: format!("status {status}") }),
        }
    }
}

fn remote(url: &str) -> Result<String, ClientError> {
    let url = url.trim_end_matches('/');
    // Over plain HTTP a token may only stay on this machine.
    let is_local = ["http://127.0.0.1", "http://localhost", "http://[::1]"].iter().any(|local| {
        url.strip_prefix(local).is_some_and(|rest| rest.is_empty() || rest.starts_with(':') || rest.starts_with('/'))
    });
    if url.starts_with("https://") || is_local { Ok(url.to_owned()) } else { Err(ClientError::Url(url.to_owned())) }
}

fn read(path: &Path) -> Result<String, ClientError> {
    std::fs::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .map_err(|source| ClientError::File { path: path.to_owned(), source })
}

fn authorities(path: &Path) -> Result<Vec<reqwest::Certificate>, ClientError> {
    let found = reqwest::Certificate::from_pem_bundle(read(path)?.as_bytes()).unwrap_or_default();
    if found.is_empty() { Err(ClientError::Ca(path.to_owned())) } else { Ok(found) }
}

/// Whether somebody answered, but is not who it should be.
fn is_tls(error: &reqwest::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<rustls::Error>() {
            return true;
        }
        // What an error of the system wraps is not its source.
        cause = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}

/// The innermost cause says it best ("connection refused").
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_service_that_was_killed_is_said_not_to_run() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let data = tempfile::tempdir().expect("a folder");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        drop(listener);
        std::fs::write(data.path().join(crate::control::ADDRESS_FILE), format!("http://{address}\n")).expect("room");
        std::fs::write(data.path().join("api-token"), "secret\n").expect("room");
        let server = Server { data: data.path().to_owned(), server: None, token_file: None, ca: None, json: false };
        let failure = Client::open(&server).expect("found").get("/api/v1/agents").await.expect_err("nobody is there");
        let said = failure.to_string();
        for part in [address.to_string(), format!("tongtu serve --data {}", data.path().display())] {
            assert!(said.contains(&part), "{said}");
        }
        assert!(!said.contains("secret") && !said.contains('\n'), "{said}");
    }

    #[test]
    fn a_token_leaves_this_machine_only_under_tls() {
        for url in ["https://control.example", "http://127.0.0.1:6480", "http://localhost/", "http://[::1]:1"] {
            assert!(remote(url).is_ok(), "{url}");
        }
        for url in ["http://control.example", "http://127.0.0.1.example", "http://localhost.example:1", "control", ""] {
            assert!(remote(url).is_err(), "{url}");
        }
    }
}
