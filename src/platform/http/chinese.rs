//! What extractors say of a request, in Chinese. They speak English alone: what is commonest of it has words
//! here, and the rest stands as it is behind Chinese words that say of what it is.

/// How they begin, and of what that is.
const BEGINNINGS: [(&str, &str); 5] = [
    ("Failed to deserialize query string: ", "查询参数不正确："),
    ("Failed to deserialize the JSON body into the target type: ", "请求体的内容不符合要求："),
    ("Failed to parse the request body as JSON: ", "请求体不是有效的 JSON："),
    ("Invalid URL: ", "路径不正确："),
    ("Expected request with `Content-Type: application/json`", "请以 application/json 发送"),
];

/// Reasons that are always the same.
const REASONS: [(&str, &str); 6] = [
    ("invalid digit found in string", "应为整数"),
    ("cannot parse integer from empty string", "应为整数"),
    ("number too large to fit in target type", "数字过大"),
    ("number too small to fit in target type", "数字过小"),
    ("provided string was not `true` or `false`", "应为 true 或 false"),
    ("expected value", "此处应有值"),
];

/// What was said, if it is known what it is of.
pub(super) fn said(english: &str) -> Option<String> {
    BEGINNINGS.iter().find_map(|(beginning, chinese)| {
        let rest = english.strip_prefix(beginning)?;
        Some(format!("{chinese}{}", placed(rest)))
    })
}

/// A reason with where it is: `FIELD: REASON at line 1 column 2`.
fn placed(english: &str) -> String {
    let (english, place) = match english.rsplit_once(" at line ") {
        Some((english, place)) => match place.split_once(" column ") {
            Some((line, column)) => (english, format!("（第 {line} 行第 {column} 列）")),
            None => (english, String::new()),
        },
        None => (english, String::new()),
    };
    let is_field = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-[]".contains(c));
    let said = match english.split_once(": ").filter(|(field, _)| is_field(field)) {
        Some((field, english)) => {
            let said = reason(english);
            // Some name it themselves.
            if said.contains(&format!("`{field}`")) { said } else { format!("`{field}` {said}") }
        }
        None => reason(english),
    };
    said + &place
}

fn reason(english: &str) -> String {
    if let Some((_, chinese)) = REASONS.iter().find(|(known, _)| *known == english) {
        return (*chinese).to_owned();
    }
    let expected = |rest: &str| rest.strip_prefix("one of ").unwrap_or(rest).replace(" or ", "、").replace(", ", "、");
    let named = |beginning: &str| english.strip_prefix(beginning);
    if let Some(field) = named("missing field ") {
        return format!("缺少 {field}");
    }
    if let Some(field) = named("duplicate field ") {
        return format!("{field} 重复");
    }
    if let Some((field, rest)) = named("unknown field ").and_then(|rest| rest.split_once(", expected ")) {
        return format!("没有 {field} 这一项，可用的有 {}", expected(rest));
    }
    if let Some((value, rest)) = named("unknown variant ").and_then(|rest| rest.split_once(", expected ")) {
        return format!("不能是 {value}，应为 {}", expected(rest));
    }
    if let Some((value, rest)) = named("invalid type: ").and_then(|rest| rest.split_once(", expected ")) {
        return format!("类型不正确：得到的是 {value}，应为 {rest}");
    }
    if let Some((value, rest)) = named("invalid value: ").and_then(|rest| rest.split_once(", expected ")) {
        return format!("值不正确：得到的是 {value}，应为 {rest}");
    }
    if let Some(example) = named("expected an id like ") {
        return format!("应为形如 {example} 的标识");
    }
    if english.starts_with("EOF while parsing") {
        return "内容不完整".to_owned();
    }
    english.split_once(" must be ").and_then(|(field, rest)| must_be(field, rest)).unwrap_or_else(|| english.to_owned())
}

/// As our own parameters say it: `` `FIELD` must be … ``.
fn must_be(field: &str, english: &str) -> Option<String> {
    if english.starts_with("the `next` of a page") {
        return Some(format!("{field} 应为上一页返回的 `next`"));
    }
    if let Some((names, _)) = english.strip_prefix("one of ").and_then(|rest| rest.split_once(", or one with `-`")) {
        return Some(format!("{field} 应为 {} 之一，前面可加 `-`", names.replace(", ", "、")));
    }
    if let Some(names) = english.strip_prefix("one or more of ") {
        return Some(format!("{field} 应为 {} 中的一个或几个", names.replace(", ", "、")));
    }
    let (least, rest) = english.strip_prefix("a number from ")?.split_once(" to ")?;
    let (most, value) = rest.split_once(", not ")?;
    Some(format!("{field} 应为 {least} 到 {most} 之间的数字，而不是 {value}"))
}

#[cfg(test)]
mod tests {
    //! With what the extractors really say: another version of theirs may say it otherwise.

    use axum::Json;
    use axum::body::Body;
    use axum::extract::{FromRequest, Query};
    use axum::http::{Request, header};
    use serde::Deserialize;

    use super::super::page::Limit;
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Asked {
        number: u8,
        #[serde(default)]
        kind: Option<Kind>,
        #[serde(default)]
        limit: Limit,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        One,
        Other,
    }

    #[test]
    fn a_query_that_cannot_be_read_is_said_in_chinese() {
        for (query, expected) in [
            ("", "查询参数不正确：缺少 `number`"),
            ("number=x", "查询参数不正确：`number` 应为整数"),
            ("number=300", "查询参数不正确：`number` 数字过大"),
            ("number=1&number=2", "查询参数不正确：`number` 重复"),
            ("number=1&many=1", "查询参数不正确：没有 `many` 这一项，可用的有 `number`、`kind`、`limit`"),
            ("number=1&kind=none", "查询参数不正确：`kind` 不能是 `none`，应为 `one`、`other`"),
            ("number=1&limit=0", "查询参数不正确：`limit` 应为 1 到 10000 之间的数字，而不是 \"0\""),
        ] {
            let uri = format!("/list?{query}").parse().expect("a path");
            let refused = Query::<Asked>::try_from_uri(&uri).expect_err(query);
            assert_eq!(said(&refused.body_text()).as_deref(), Some(expected), "{}", refused.body_text());
        }
    }

    #[tokio::test]
    async fn a_body_that_cannot_be_read_is_said_in_chinese() {
        for (body, expected) in [
            ("{", "请求体不是有效的 JSON：内容不完整（第 1 行第 1 列）"),
            ("nonsense", "请求体不是有效的 JSON："),
            ("{}", "请求体的内容不符合要求：缺少 `number`（第 1 行第 2 列）"),
            (
                r#"{"number":"x"}"#,
                "请求体的内容不符合要求：`number` 类型不正确：得到的是 string \"x\"，应为 u8（第 1 行第 13 列）",
            ),
            (r#"{"number":1,"kind":"none"}"#, "请求体的内容不符合要求：`kind` 不能是 `none`，应为 `one`、`other`"),
        ] {
            let request = Request::post("/").header(header::CONTENT_TYPE, "application/json").body(Body::from(body));
            let refused = Json::<Asked>::from_request(request.expect("a request"), &()).await.expect_err(body);
            let chinese = said(&refused.body_text()).unwrap_or_default();
            assert!(chinese.starts_with(expected), "{chinese}: {}", refused.body_text());
        }
        let request = Request::post("/").body(Body::empty()).expect("a request");
        let refused = Json::<Asked>::from_request(request, &()).await.expect_err("no type");
        assert_eq!(said(&refused.body_text()).as_deref(), Some("请以 application/json 发送"));
    }

    #[test]
    fn what_we_say_ourselves_is_said_in_chinese() {
        for (english, expected) in [
            ("Invalid URL: expected an id like agent_1", "路径不正确：应为形如 agent_1 的标识"),
            (
                "Failed to deserialize query string: after: `after` must be the `next` of a page",
                "查询参数不正确：`after` 应为上一页返回的 `next`",
            ),
            (
                "Failed to deserialize query string: sort: `sort` must be one of name, id, or one with `-` before it",
                "查询参数不正确：`sort` 应为 name、id 之一，前面可加 `-`",
            ),
            (
                "Failed to deserialize query string: state: `state` must be one or more of never_seen, up, stale",
                "查询参数不正确：`state` 应为 never_seen、up、stale 中的一个或几个",
            ),
            ("Failed to deserialize query string: a riddle", "查询参数不正确：a riddle"),
        ] {
            assert_eq!(said(english).as_deref(), Some(expected));
        }
        assert_eq!(said("anything else"), None);
    }
}
