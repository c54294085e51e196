//! Lists in pages: `{"items": […], "next": "…"}`. A page is asked for with `?cursor=` (the `next` of the page before) and `?limit=`.
//!
//! A cursor is the place where the next page begins, encoded so that nobody reads meaning into it; it holds nothing secret and nothing
//! that is trusted, so it stays valid for ever, on every node. A list may be asked for with the cursor of another one: the answer is
//! a page that begins at some odd place, or that the cursor cannot be read.

use crate::error::{ApiError, Code};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// The `cursor` of the next page; absent: this is the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Which page of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// The `next` of the page before; absent: the first page.
    #[param(pattern = "^[A-Za-z0-9_-]{1,256}$")]
    cursor: Option<String>,
    /// How many items at most, 1 to 200; 50 when absent.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

/// Items of a page when the request does not say.
const LIMIT_DEFAULT: u32 = 50;
/// Items of a page at most.
pub const LIMIT_MAX: u32 = 200;

impl PageQuery {
    /// How many items are asked for.
    pub fn limit(&self) -> Result<usize, ApiError> {
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        let fits = (1..=LIMIT_MAX).contains(&limit);
        fits.then_some(limit as usize).ok_or_else(|| ApiError::new(Code::Invalid, format!("limit: 1 to {LIMIT_MAX}")))
    }
    /// Where the page begins; `None`: at the beginning.
    pub fn place<P: DeserializeOwned>(&self) -> Result<Option<P>, ApiError> {
        let unreadable = || ApiError::new(Code::Invalid, "cursor: not the `next` of a page of this list");
        let Some(cursor) = self.cursor.as_deref() else { return Ok(None) };
        let bytes = BASE64.decode(cursor).map_err(|_| unreadable())?;
        crate::storage::records::decode(&bytes).map(Some).map_err(|_| unreadable())
    }
}

impl<T> Page<T> {
    /// A page, and the place where the next one begins, if there is one.
    pub fn new<P: Serialize>(items: Vec<T>, next: Option<P>) -> Page<T> {
        Page { items, next: next.map(cursor) }
    }
    /// The same page of what makes of the items.
    pub fn map<U>(self, make: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(make).collect(), next: self.next }
    }
    /// A page out of up to `limit + 1` items in order; `place` of the last item shown is where the next page begins (after it).
    pub fn of<P: Serialize>(mut items: Vec<T>, limit: usize, place: impl FnOnce(&T) -> P) -> Page<T> {
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(place);
        Page::new(items, next)
    }
}

/// A place as a cursor.
pub fn cursor<P: Serialize>(place: P) -> String {
    BASE64.encode(rmp_serde::to_vec(&place).expect("places are plain numbers and texts, and a Vec takes every write"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn query(cursor: Option<String>, limit: Option<u32>) -> PageQuery {
        PageQuery { cursor, limit }
    }

    #[test]
    fn the_pages_of_a_list_are_the_list() {
        let list: Vec<u64> = (0..105).collect();
        let (mut seen, mut at) = (Vec::new(), query(None, Some(10)));
        loop {
            let limit = at.limit().unwrap();
            let after: Option<u64> = at.place().unwrap();
            let rest = list.iter().copied().filter(|n| after.is_none_or(|a| *n > a)).take(limit + 1).collect();
            let page = Page::of(rest, limit, |last| *last);
            assert!(!page.items.is_empty() && page.items.len() <= 10);
            seen.extend(page.items);
            match page.next {
                Some(next) => at = query(Some(next), Some(10)),
                None => break,
            }
        }
        assert_eq!(seen, list);
    }

    #[test]
    fn what_is_no_cursor_or_limit_is_refused() {
        for bad in ["", "%", "=", "AAAA", "gg", &"A".repeat(400)] {
            assert_eq!(query(Some(bad.into()), None).place::<(u64, u64)>().unwrap_err().code, Code::Invalid, "{bad}");
        }
        assert_eq!(query(Some(cursor((1u64, 2u64))), None).place::<(u64, u64)>().unwrap(), Some((1, 2)));
        assert!([0, 201, u32::MAX].iter().all(|n| query(None, Some(*n)).limit().is_err()));
        assert_eq!(query(None, None).limit().unwrap(), 50);
    }
}
