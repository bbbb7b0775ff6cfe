//! Problems: the one shape of every refusal (RFC 9457), in Chinese or English.
//!
//! A problem is made with an English sentence, and a Chinese one where the cause is a person's. The
//! outer layer ([`as_problem`](super::as_problem)) renders it in the language that was asked for and
//! puts the request's id into it. Titles, and sentences that are the same for a kind, stand in one table.

use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::chinese;
use super::origin::{Language, RequestId};

/// Kinds: name, then title in Chinese and English, then what a refusal without words of its own says.
const KINDS: [(&str, &str, &str, &str, &str); 18] = [
    ("bad-request", "请求无法理解", "Bad request", "请求的格式不正确", "the request cannot be understood"),
    ("unauthenticated", "尚未登录", "Not authenticated", "请先登录，或提供有效的令牌", "log in, or send a valid token"),
    ("login-failed", "登录失败", "Login failed", "用户名或密码不正确", "name or password is wrong"),
    ("forbidden", "没有权限", "Forbidden", "您的角色没有此项权限", "your roles do not allow this"),
    (
        "csrf",
        "请求来源可疑",
        "Cross-site request refused",
        "请求不是从本系统的页面发出的；请刷新页面后重试",
        "the request did not come from a page of this system; reload it and try again",
    ),
    (
        "not-found",
        "没有找到",
        "Not found",
        "没有此路径；`tongtu openapi` 列出全部路径",
        "there is no such path; `tongtu openapi` lists them",
    ),
    (
        "method-not-allowed",
        "方法不支持",
        "Method not allowed",
        "此路径不支持该方法，见 Allow 标头",
        "this path does not take this method; see the Allow header",
    ),
    ("conflict", "状态冲突", "Conflict", "当前状态不允许此操作", "its state does not allow this"),
    (
        "last-security-administrator",
        "最后一名安全管理员",
        "Last security administrator",
        "系统必须保留至少一名可以登录的安全管理员",
        "at least one security administrator who can log in must remain",
    ),
    (
        "own-rights",
        "不能修改自己的权限",
        "Own rights",
        "任何人都不能修改自己的角色、所属组织或停用自己；请由另一名安全管理员操作",
        "nobody changes their own roles or organisation, or disables themselves; ask another security administrator",
    ),
    ("too-large", "请求体过大", "Body too large", "请求体超过 1 MiB 的上限", "the body is larger than 1 MiB"),
    ("media-type", "媒体类型不支持", "Unsupported media type", "请以 application/json 发送", "send application/json"),
    ("invalid", "内容不符合要求", "Invalid", "请求体的结构不符合要求", "the body does not have the expected shape"),
    ("too-many", "请求过于频繁", "Too many requests", "请稍后重试", "try again later"),
    (
        "no-room",
        "磁盘空间不足",
        "No room",
        "数据目录所在的文件系统空间不足",
        "the file system of the data directory is full",
    ),
    ("unavailable", "暂时不可用", "Unavailable", "未能及时完成，请稍后重试", "not answered in time"),
    ("internal", "内部错误", "Internal error", "服务出现故障，原因见其日志", "control failed; its log says why"),
    ("refused", "请求被拒绝", "Refused", "请求被拒绝", "the request was refused"),
];

const PREFIX: &str = "urn:tongtu:problem:";

/// Why a request was not done (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// Stable name of the kind of problem.
    #[serde(rename = "type", serialize_with = "as_urn")]
    #[schema(value_type = String, example = "urn:tongtu:problem:not-found")]
    pub kind: &'static str,
    /// The same for every problem of a kind, in the language of `Accept-Language`.
    #[schema(value_type = String)]
    pub title: &'static str,
    /// HTTP status.
    pub status: u16,
    /// What went wrong this time and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub detail: Option<Box<str>>,
    /// The request's id, as in the header `x-request-id` and in control's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "8f14e45fceea167a")]
    pub request_id: Option<RequestId>,
    /// What is wrong with single fields of the body.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
    /// The detail in Chinese.
    #[serde(skip)]
    chinese: Option<Box<str>>,
    /// Seconds after which trying again makes sense.
    #[serde(skip)]
    retry_after: Option<u32>,
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FieldProblem {
    /// Its name in the body.
    #[schema(example = "password")]
    pub field: String,
    /// What is wrong and what is right.
    pub message: String,
    #[serde(skip)]
    chinese: String,
}

impl Problem {
    /// A problem of a status and kind (`not-found`).
    #[must_use]
    pub fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind,
            title: known(kind)
                .map_or_else(|| status.canonical_reason().unwrap_or("Problem"), |(_, _, english, ..)| english),
            status: status.as_u16(),
            detail: Some(detail.into().into_boxed_str()),
            request_id: None,
            errors: Vec::new(),
            chinese: None,
            retry_after: None,
        }
    }

    /// A problem whose kind says everything.
    #[must_use]
    pub fn of_kind(status: StatusCode, kind: &'static str) -> Self {
        let (.., chinese, english) = known(kind).copied().unwrap_or(KINDS[KINDS.len() - 1]);
        Self::new(status, kind, english).chinese(chinese)
    }

    /// A problem in the words of who read the request.
    pub(super) fn extracted(status: StatusCode, kind: &'static str, said: &str) -> Self {
        let problem = Self::of_kind(status, kind);
        // What a limit says of itself is no sentence.
        if said.is_empty() || status == StatusCode::PAYLOAD_TOO_LARGE {
            return problem;
        }
        let general = problem.chinese.unwrap_or_default();
        let chinese = chinese::said(said).unwrap_or_else(|| format!("{general}：{said}"));
        Self::new(status, kind, said).chinese(chinese)
    }

    /// The detail in Chinese.
    #[must_use]
    pub fn chinese(mut self, detail: impl Into<String>) -> Self {
        self.chinese = Some(detail.into().into_boxed_str());
        self
    }

    /// What is wrong with a field, in English and Chinese.
    #[must_use]
    pub fn field(mut self, field: &str, english: impl Into<String>, chinese: impl Into<String>) -> Self {
        self.errors.push(FieldProblem { field: field.to_owned(), message: english.into(), chinese: chinese.into() });
        self
    }

    /// When to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds.max(1));
        self
    }

    /// 400: the request cannot be understood.
    #[must_use]
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }

    /// 401: no known token.
    #[must_use]
    pub fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail)
    }

    /// 403: known, but not allowed.
    #[must_use]
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 404: there is no such thing, or the caller may not see it.
    #[must_use]
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    /// 409: it is in a state that does not allow this.
    #[must_use]
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// 422: understood, but a value is out of range.
    #[must_use]
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail)
    }

    /// 503: not now.
    #[must_use]
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
    }

    /// 500: our fault. Logs the cause here; the caller learns nothing of it.
    #[must_use]
    pub fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(%cause, "a request failed");
        Self::of_kind(StatusCode::INTERNAL_SERVER_ERROR, "internal")
    }

    /// In a language, of a request.
    pub(super) fn rendered(mut self, language: Language, request: RequestId) -> Self {
        self.request_id = Some(request);
        if language == Language::Chinese {
            if let Some((_, title, ..)) = known(self.kind) {
                self.title = title;
            }
            if let Some(detail) = self.chinese.take() {
                self.detail = Some(detail);
            }
            for error in &mut self.errors {
                error.message = std::mem::take(&mut error.chinese);
            }
        }
        self
    }
}

/// For handlers that ask for a permit before they complain about a body.
impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        let kind = match rejection.status() {
            StatusCode::UNPROCESSABLE_ENTITY => "invalid",
            StatusCode::PAYLOAD_TOO_LARGE => "too-large",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "media-type",
            _ => "bad-request",
        };
        Self::extracted(rejection.status(), kind, &rejection.body_text())
    }
}

fn as_urn<S: serde::Serializer>(kind: &&'static str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{PREFIX}{kind}"))
}

fn known(kind: &str) -> Option<&'static (&'static str, &'static str, &'static str, &'static str, &'static str)> {
    KINDS.iter().find(|(name, ..)| *name == kind)
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).expect("strings and numbers are JSON");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_words_in_both_languages() {
        for (kind, ..) in KINDS {
            let problem = Problem::of_kind(StatusCode::BAD_REQUEST, kind);
            let english = problem.clone().rendered(Language::English, RequestId::default());
            let chinese = problem.rendered(Language::Chinese, RequestId::default());
            assert!(english.title.is_ascii() && english.detail.is_some_and(|detail| detail.is_ascii()), "{kind}");
            assert!(!chinese.title.is_ascii() && chinese.detail.is_some_and(|detail| !detail.is_ascii()), "{kind}");
        }
    }
}
