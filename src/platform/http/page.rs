//! Lists in pages, the same way everywhere: `?after=CURSOR&limit=N` → `{"items": […], "next": CURSOR}`.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// How many items a page has at most: 1 to [`MOST`](Self::MOST), 1000 if nobody says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(usize);

impl Limit {
    /// The largest page.
    pub const MOST: usize = 10_000;

    /// As a number.
    #[must_use]
    pub fn get(self) -> usize {
        self.0
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(1_000)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let limit = text.parse().ok().filter(|limit| (1..=Self::MOST).contains(limit));
        limit.map(Self).ok_or_else(|| {
            serde::de::Error::custom(format_args!("`limit` must be a number from 1 to {}, not {text:?}", Self::MOST))
        })
    }
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// What `after` must be for the next page; null: this is the last one.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// The page that begins with `items`, of which one more than the limit are enough. `cursor` names
    /// an item as `after` takes it.
    pub fn cut<C: std::fmt::Display>(
        items: impl IntoIterator<Item = T>,
        limit: Limit,
        cursor: impl FnOnce(&T) -> C,
    ) -> Self {
        let mut rest = items.into_iter();
        let items: Vec<T> = rest.by_ref().take(limit.0).collect();
        let more = rest.next().is_some();
        let next = items.last().filter(|_| more).map(|last| cursor(last).to_string());
        Self { items, next }
    }

    /// The same page of other things.
    pub fn map<U>(self, each: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(each).collect(), next: self.next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::extract::Query;
    use axum::http::Uri;

    #[derive(Debug, Deserialize)]
    struct Asked {
        #[serde(default)]
        limit: Limit,
    }

    fn limit(query: &str) -> Result<usize, String> {
        let uri: Uri = format!("/list?{query}").parse().expect("a path");
        Query::<Asked>::try_from_uri(&uri).map(|asked| asked.limit.get()).map_err(|refused| refused.body_text())
    }

    #[test]
    fn a_limit_is_a_number_in_its_bounds() {
        assert_eq!(limit(""), Ok(1_000));
        assert_eq!(limit("limit=1"), Ok(1));
        assert_eq!(limit("limit=10000"), Ok(10_000));
        for nonsense in ["0", "-1", "10001", "many", "", "1.5", "99999999999999999999999"] {
            let said = limit(&format!("limit={nonsense}")).expect_err(nonsense);
            assert!(said.contains("`limit` must be a number from 1 to 10000"), "{said}");
        }
    }

    #[test]
    fn a_page_names_the_next_one_only_if_there_is_one() {
        let cut = |items: std::ops::Range<u32>| Page::cut(items, Limit(3), |last| format!("item_{last}"));
        assert_eq!(cut(0..0), Page { items: vec![], next: None });
        assert_eq!(cut(0..3), Page { items: vec![0, 1, 2], next: None });
        assert_eq!(cut(0..4), Page { items: vec![0, 1, 2], next: Some("item_2".to_owned()) });
    }
}
