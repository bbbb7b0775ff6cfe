//! Where a request comes from: its id, the client's address, whether it came over TLS, its language.
//!
//! Control speaks TLS itself, or listens on loopback and a proxy with TLS stands before it. So `X-Forwarded-For` (its last
//! entry: what the proxy itself saw) and `X-Forwarded-Proto` are believed from loopback and from nowhere else.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::connect_info::ConnectInfo;
use axum::http::{Extensions, HeaderMap, Request, header};
use ring::rand::SecureRandom;

/// A request's number, random enough to be found in logs and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestId(u64);

impl RequestId {
    /// Another one.
    #[must_use]
    pub fn next() -> Self {
        static BEGIN: OnceLock<u64> = OnceLock::new();
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let begin = BEGIN.get_or_init(|| {
            let mut bytes = [0; 8];
            ring::rand::SystemRandom::new().fill(&mut bytes).expect("the system gives random bytes");
            u64::from_le_bytes(bytes)
        });
        // A step that is odd visits every number before it comes again, and neighbours look unlike.
        Self(begin.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl serde::Serialize for RequestId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An address; of IPv6 its network, of which one customer has all addresses.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

/// In which language a person is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub enum Language {
    /// Simplified Chinese.
    #[default]
    #[serde(rename = "zh-CN")]
    Chinese,
    /// English.
    #[serde(rename = "en")]
    English,
}

impl Language {
    /// Its tag.
    #[must_use]
    pub fn tag(self) -> &'static str {
        match self {
            Self::Chinese => "zh-CN",
            Self::English => "en",
        }
    }

    /// The language of a tag.
    #[must_use]
    pub fn of_tag(tag: &str) -> Option<Self> {
        [Self::Chinese, Self::English].into_iter().find(|language| language.tag() == tag)
    }

    /// What `Accept-Language` likes best of the two; Chinese if it does not care.
    #[must_use]
    pub fn accepted(header: &str) -> Self {
        let mut best = (0.0, Self::Chinese);
        for range in header.split(',') {
            let (tag, quality) = match range.split_once(';') {
                Some((tag, rest)) => (tag, rest.trim().strip_prefix("q=").and_then(|q| q.parse().ok()).unwrap_or(0.0)),
                None => (range, 1.0),
            };
            let language = match tag.trim().get(..2).unwrap_or_default().to_ascii_lowercase().as_str() {
                "zh" => Self::Chinese,
                "en" => Self::English,
                _ => continue,
            };
            if quality > best.0 {
                best = (quality, language);
            }
        }
        best.1
    }
}

/// Stands among a request's extensions if it came over TLS to this very port.
#[derive(Debug, Clone, Copy)]
pub struct OverTls;

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Origin {
    /// Its id.
    pub request: RequestId,
    /// The client's address, behind a proxy as that says.
    pub address: Option<IpAddr>,
    /// Whether the client speaks TLS, to control or to the proxy.
    pub is_secure: bool,
    /// The language of the answer's words.
    pub language: Language,
}

impl Origin {
    /// Of a request that has just come.
    #[must_use]
    pub fn read<B>(request: &Request<B>) -> Self {
        let headers = request.headers();
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip().to_canonical());
        let is_proxy = peer.is_some_and(|peer| peer.is_loopback());
        let text = |name: &str| headers.get_all(name).iter().next_back().and_then(|value| value.to_str().ok());
        let forwarded = text("x-forwarded-for")
            .filter(|_| is_proxy)
            .and_then(|list| list.rsplit(',').next())
            .and_then(|last| last.trim().parse::<IpAddr>().ok())
            .map(|address| address.to_canonical());
        Self {
            request: RequestId::next(),
            address: forwarded.or(peer),
            is_secure: request.extensions().get::<OverTls>().is_some()
                || (is_proxy && text("x-forwarded-proto") == Some("https")),
            language: language(headers),
        }
    }

    /// Of a request that the layers have seen.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get::<Self>().copied().unwrap_or_default()
    }
}

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for Origin {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::of(&parts.extensions))
    }
}

fn language(headers: &HeaderMap) -> Language {
    headers
        .get(header::ACCEPT_LANGUAGE)
        .and_then(|value| value.to_str().ok())
        .map_or(Language::Chinese, Language::accepted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_what_the_browser_likes_best() {
        for (header, expected) in [
            ("zh-CN,zh;q=0.9,en;q=0.8", Language::Chinese),
            ("en-US,en;q=0.9", Language::English),
            ("fr, en;q=0.5, zh;q=0.4", Language::English),
            ("fr", Language::Chinese),
            ("en;q=0", Language::Chinese),
            ("*", Language::Chinese),
            ("", Language::Chinese),
            ("，", Language::Chinese),
        ] {
            assert_eq!(Language::accepted(header), expected, "{header}");
        }
    }

    #[test]
    fn a_forwarded_address_is_believed_from_loopback_alone() {
        let from = |peer: [u8; 4], forwarded: &str| {
            let mut request = Request::new(());
            request.extensions_mut().insert(ConnectInfo(SocketAddr::from((peer, 1))));
            request.headers_mut().insert("x-forwarded-for", forwarded.parse().expect("a header"));
            request.headers_mut().insert("x-forwarded-proto", "https".parse().expect("a header"));
            let origin = Origin::read(&request);
            (origin.address.map(|address| address.to_string()).unwrap_or_default(), origin.is_secure)
        };
        assert_eq!(from([127, 0, 0, 1], "10.9.9.9, 10.1.2.3"), ("10.1.2.3".to_owned(), true));
        assert_eq!(from([127, 0, 0, 1], "nonsense"), ("127.0.0.1".to_owned(), true));
        assert_eq!(from([10, 0, 0, 1], "10.1.2.3"), ("10.0.0.1".to_owned(), false));
    }

    #[test]
    fn request_ids_differ() {
        let ids: std::collections::BTreeSet<_> = (0..1000).map(|_| RequestId::next().to_string()).collect();
        assert_eq!(ids.len(), 1000);
    }
}
