//! `tongtu agent …`: enrolment tokens and agents, asked of the running service.

use std::path::Path;

use serde_json::{Value, json};

use super::client::{Client, ClientError};
use super::{Agent, CliError, print};

pub(super) async fn run(command: Agent) -> Result<(), CliError> {
    match command {
        Agent::Token { ttl, uses, organization, server } => {
            let body = json!({ "ttl_seconds": ttl.as_secs(), "uses": uses, "organization": organization });
            let made = Client::open(&server)?.post("/api/v1/agents/tokens", &body).await?;
            // The token alone, so that a script can take it as it is.
            print(&if server.json { made.to_string() } else { text(&made, "token") });
        }
        Agent::List { server } => {
            let listed = list(&Client::open(&server)?).await?;
            print(&if server.json { listed.to_string() } else { table(&listed) });
        }
        Agent::Revoke { id, server } => {
            let revoked = Client::open(&server)?.post(&format!("/api/v1/agents/{id}/revoke"), &json!({})).await?;
            print(&if server.json { revoked.to_string() } else { format!("{id} is revoked") });
        }
        Agent::Deploy(asked) => super::deploy::run(*asked).await?,
        Agent::Configuration { set, server } => {
            let client = Client::open(&server)?;
            let configuration = match set {
                None => client.get(CONFIGURATION).await?,
                Some(file) => client.put(CONFIGURATION, &document(&file)?).await?,
            };
            // What a person reads is what can be edited and set.
            print(&if server.json { configuration.to_string() } else { format!("{configuration:#}") });
        }
    }
    Ok(())
}

const CONFIGURATION: &str = "/api/v1/agents/configuration";

fn document(file: &Path) -> Result<Value, CliError> {
    let text =
        if file == Path::new("-") { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(file) };
    let fault = |fault: String| CliError::Stopped(format!("{}: {fault}", file.display()));
    let text = text.map_err(|error| fault(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| fault(format!("this is no JSON: {error}")))
}

/// Every page as one.
async fn list(client: &Client) -> Result<Value, ClientError> {
    let mut agents = Vec::new();
    let mut path = "/api/v1/agents".to_owned();
    loop {
        let mut page = client.get(&path).await?;
        if let Some(Value::Array(some)) = page.get_mut("items").map(Value::take) {
            agents.extend(some);
        }
        match page.get("next").and_then(Value::as_str) {
            Some(next) => path = format!("/api/v1/agents?after={next}"),
            None => return Ok(json!({ "items": agents, "next": null })),
        }
    }
}

/// Columns of the list: heading and the answer's field.
const COLUMNS: [(&str, &str); 8] = [
    ("ID", "id"),
    ("STATE", "state"),
    ("HOST", "hostname"),
    ("VERSION", "version"),
    ("LAST REPORT", "last_report_ms"),
    ("COMPLETE", "completeness"),
    ("LOST", "records_lost"),
    ("ORGANIZATION", "organization"),
];

fn table(listed: &Value) -> String {
    let agents = listed.get("items").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if agents.is_empty() {
        return "no agents yet; `tongtu agent token` makes a token with which one enrols".to_owned();
    }
    let mut rows = vec![COLUMNS.map(|(heading, _)| heading.to_owned())];
    rows.extend(agents.iter().map(|agent| COLUMNS.map(|(_, field)| text(agent, field))));
    let widths: [usize; COLUMNS.len()] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let mut out = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// A field as a person reads it.
fn text(of: &Value, field: &str) -> String {
    match of.get(field) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(ms)) if field.ends_with("_ms") => ms
            .as_i64()
            .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
            .map_or_else(|| "-".to_owned(), |at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        Some(Value::Number(share)) if field == "completeness" => {
            share.as_f64().map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
        }
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_reads_as_a_table() {
        let listed = json!({ "items": [
            { "id": "agent_1", "state": "up", "hostname": "web-1", "version": "0.1.0", "last_report_ms": 1_700_000_000_000_i64,
              "completeness": 0.998, "records_lost": 0, "organization": "org_1" },
            { "id": "agent_12", "state": "never_seen", "hostname": "db" },
        ]});
        let table = table(&listed);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].starts_with("ID        STATE"), "{table}");
        assert!(lines[1].contains("2023-11-14T22:13:20Z  99.8 %"), "{table}");
        assert!(lines[2].starts_with("agent_12  never_seen  db"), "{table}");
    }
}
