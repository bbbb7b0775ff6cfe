//! A database on a server is backed up where it is: the line for that, without a password.

/// The line of `pg_dump` for a URL.
pub(super) fn line(url: &str) -> String {
    format!("pg_dump --format=custom --file=tongtu.dump '{}'", without_password(url).replace('\'', "%27"))
}

fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", url));
    let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
    // A password may hold an @, and a path no user.
    let slash = rest.rfind('@').map_or(0, |at| at + 1);
    let (who, place) = rest.split_at(slash);
    let user = who.trim_end_matches('@').split(':').next().unwrap_or_default();
    let at = if user.is_empty() { "" } else { "@" };
    let kept: Vec<&str> = options.split('&').filter(|it| !it.is_empty() && !it.starts_with("password=")).collect();
    let (mark, options) = (if kept.is_empty() { "" } else { "?" }, kept.join("&"));
    format!("{scheme}://{user}{at}{place}{mark}{options}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_the_database_and_no_password() {
        for (url, expected) in [
            ("postgres://u:se@cr/et@h:1/db?sslmode=require&password=x", "postgres://u@h:1/db?sslmode=require"),
            ("postgresql://h/db", "postgresql://h/db"),
            ("postgres://u@h/db?password=x", "postgres://u@h/db"),
            ("postgres:///db?host=/run/it's", "postgres:///db?host=/run/it%27s"),
        ] {
            assert_eq!(line(url), format!("pg_dump --format=custom --file=tongtu.dump '{expected}'"));
        }
    }
}
