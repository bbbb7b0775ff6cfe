//! Refusals in Chinese: what is wrong with a question is said to who asks in Chinese in Chinese, whatever they ask.

use super::matrix::started_with_askers;
use super::*;

#[tokio::test]
async fn what_is_refused_is_said_in_chinese() {
    let (started, _) = started_with_askers().await;
    // Who asks: a machine token, or somebody's session.
    let (machine, security) = ("token-10", "session-security_administrator");
    let json = "application/json";
    #[rustfmt::skip]
    let cases = [
        (machine, "GET", "/api/v1/hosts?limit=0", "", 400, "`limit` 应为 1 到 10000 之间的数字"),
        (machine, "GET", "/api/v1/hosts?sort=size", "", 400, "`sort` 应为"),
        (machine, "GET", "/api/v1/hosts?state=off", "", 400, "`state` 应为 never_seen、up、stale 中的一个或几个"),
        (machine, "GET", "/api/v1/hosts?after=7", "", 400, "`after` 应为上一页返回的 `next`"),
        (machine, "GET", "/api/v1/hosts?sort=name&after=host_1", "", 400, "`after` 属于另一种排序的列表"),
        (machine, "GET", "/api/v1/hosts?many=1", "", 400, "没有 `many` 这一项，可用的有 `search`"),
        (machine, "GET", "/api/v1/hosts/host_404", "", 404, "没有主机 host_404"),
        (machine, "GET", "/api/v1/live?topics=all", "", 400, "`topics` 应为"),
        (machine, "GET", "/api/v1/series", "", 400, "缺少 `source`"),
        (machine, "GET", "/api/v1/series?source=source_1&metric=a&from_ms=x", "", 400, "`from_ms` 应为整数"),
        (machine, "GET", "/api/v1/series?source=source_404&metric=a", "", 404, "没有来源 source_404"),
        (machine, "GET", "/api/v1/series?source=source_1&metric=a", "", 404, "没有这样的指标"),
        (machine, "GET", "/api/v1/series?source=source_1&metric=a&from_ms=5&to_ms=5", "", 400, "时间范围为空"),
        (machine, "GET", "/api/v1/series?source=source_1&metric=a&step_seconds=7", "", 400, "300（五分钟）的正整数倍"),
        (machine, "GET", "/api/v1/series?source=source_1&metric=a&points=1", "", 400, "`points` 应为 2 到 20000"),
        (machine, "GET", "/api/v1/series?source=source_1&metric=a&from_ms=0&step_seconds=300", "", 400, "超过上限 20000"),
        (machine, "GET", "/api/v1/sources?after=x", "", 400, "应为形如 source_1 的标识"),
        (machine, "GET", "/metrics/sources/x", "", 404, "没有来源 x"),
        (machine, "GET", "/api/v1/agents?limit=many", "", 400, "`limit` 应为 1 到 10000 之间的数字"),
        (machine, "GET", "/api/v1/agents/x", "", 400, "路径不正确：应为形如 agent_1 的标识"),
        (machine, "GET", "/api/v1/agents/agent_404", "", 404, "没有探针 agent_404"),
        (machine, "GET", "/api/v1/agents/agent_404/losses", "", 404, "没有探针 agent_404"),
        (machine, "GET", "/api/v1/agents/agent_1/losses?after=x", "", 400, "`after` 应为上一页返回的 `next`"),
        (machine, "POST", "/api/v1/agents/tokens", r#"{"ttl_seconds":0}"#, 422, "令牌的有效期应为"),
        (machine, "POST", "/api/v1/agents/tokens", r#"{"uses":0}"#, 422, "令牌可登记 1 到"),
        (machine, "POST", "/api/v1/agents/tokens", r#"{"uses":"x"}"#, 422, "`uses` 类型不正确"),
        (machine, "POST", "/api/v1/agents/tokens", r#"{"organization":"org_404"}"#, 404, "没有组织 org_404"),
        (machine, "DELETE", "/api/v1/agents/tokens/enrolment_404", "", 404, "没有登记令牌 enrolment_404"),
        (machine, "PUT", "/api/v1/agents/configuration", "{", 400, "请求体不是有效的 JSON：内容不完整"),
        (machine, "PUT", "/api/v1/agents/configuration", "{}", 422, "缺少 `version`"),
        (machine, "GET", "/api/v1/audit?result=good", "", 400, "不能是 `good`，应为 `done`、`refused`、`failed`"),
        (machine, "GET", "/api/v1/audit/export", "", 400, "缺少 `format`"),
        (machine, "GET", "/api/v1/audit", "", 403, "权限"),
        (machine, "GET", "/api/v1/nothing", "", 404, "没有此路径"),
        (machine, "PATCH", "/api/v1/hosts", "", 405, "此路径不支持该方法"),
        (machine, "POST", "/api/v1/session", "[", 400, "请求体不是有效的 JSON"),
        (security, "GET", "/api/v1/users?limit=0", "", 400, "`limit` 应为"),
        (security, "GET", "/api/v1/users/x", "", 400, "应为形如 user_1 的标识"),
        (security, "GET", "/api/v1/users/user_404", "", 404, "没有用户 user_404"),
        (security, "GET", "/api/v1/organizations/org_404", "", 404, "没有组织 org_404"),
        (security, "GET", "/api/v1/sessions?limit=0", "", 400, "`limit` 应为"),
        (security, "GET", "/api/v1/tokens?after=x", "", 400, "应为形如 token_1 的标识"),
    ];
    let mut wrong = Vec::new();
    for (secret, method, path, body, status, expected) in cases {
        let request = started.client.request(method.parse().expect("a method"), format!("{}{path}", started.base()));
        let mut request = request.header("accept-language", "zh-CN");
        request = if secret == machine {
            request.bearer_auth(secret)
        } else {
            request.header("cookie", format!("tongtu_session={secret}"))
        };
        if !body.is_empty() {
            request = request.header("content-type", json).body(body);
        }
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.headers()["content-language"], "zh-CN", "{path}");
        let answered = answer.status().as_u16();
        let said: Value = answer.json().await.expect("a problem");
        let detail = said["detail"].as_str().unwrap_or_default();
        if answered != status || !detail.contains(expected) {
            wrong.push(format!("{method} {path} {body}: {answered}, {detail}; expected {status}, {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
