//! Asking a server on loopback, as curl does.

use std::sync::OnceLock;
use std::time::Duration;

/// A server's answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The type of the body.
    pub content_type: String,
    /// The body.
    pub text: String,
    /// The cookie that it sets.
    pub cookie: Option<String>,
}

impl Response {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|err| panic!("no JSON ({err}): {}", self.text))
    }

    /// The answer, if its status is 200.
    ///
    /// # Panics
    /// When it is another.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 200, "{}", self.text);
        self
    }
}

fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime for requests")
    })
}

fn client() -> &'static reqwest::Client {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_secs(20))
            .build()
            .expect("a client without options that can fail")
    })
}

/// GET, with a bearer token if there is one. `Err` when nobody answers.
pub fn get(url: &str, token: Option<&str>) -> Result<Response, String> {
    send(client().get(url), token)
}

/// DELETE, POST and the like, with a body if there is one.
pub fn request(
    method: &str,
    url: &str,
    token: Option<&str>,
    body: Option<&serde_json::Value>,
) -> Result<Response, String> {
    let method = reqwest::Method::from_bytes(method.as_bytes()).map_err(|err| err.to_string())?;
    let mut request = client().request(method, url);
    if let Some(body) = body {
        request = request.json(body);
    }
    send(request, token)
}

/// POST of a file as it is.
pub fn upload(url: &str, token: &str, file: Vec<u8>) -> Result<Response, String> {
    let request = client().post(url).header("content-type", "application/octet-stream").body(file);
    send(request, Some(token))
}

/// GET of a file.
pub fn download(url: &str, token: &str) -> Result<Vec<u8>, String> {
    let request = client().get(url).bearer_auth(token);
    runtime().block_on(async {
        let response = request.send().await.and_then(reqwest::Response::error_for_status);
        let bytes = response.map_err(|err| format!("{err:?}"))?.bytes().await;
        Ok(bytes.map_err(|err| format!("{err:?}"))?.to_vec())
    })
}

/// The same from a browser: with a session's cookie and its token against forged requests.
pub fn browse(
    method: &str,
    url: &str,
    (cookie, csrf): (&str, &str),
    body: Option<&serde_json::Value>,
) -> Result<Response, String> {
    let method = reqwest::Method::from_bytes(method.as_bytes()).map_err(|err| err.to_string())?;
    let mut request = client().request(method, url).header("cookie", cookie).header("x-csrf-token", csrf);
    if let Some(body) = body {
        request = request.json(body);
    }
    send(request, None)
}

/// Waits for what is asynchronous.
pub fn wait<T>(work: impl Future<Output = T>) -> T {
    runtime().block_on(work)
}

fn send(mut request: reqwest::RequestBuilder, token: Option<&str>) -> Result<Response, String> {
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    runtime().block_on(async {
        let response = request.send().await.map_err(|err| format!("{err:?}"))?;
        let status = response.status().as_u16();
        let content_type =
            response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let cookie = response.headers().get("set-cookie").and_then(|value| value.to_str().ok());
        let cookie = cookie.and_then(|set| set.split(';').next()).map(ToOwned::to_owned);
        let text = response.text().await.map_err(|err| format!("{err:?}"))?;
        Ok(Response { status, content_type, text, cookie })
    })
}
