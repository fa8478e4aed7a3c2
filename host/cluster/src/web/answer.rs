//! A view as HTML and as JSON, and its lists cut into pages.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use maud::Markup;
use serde::Serialize;

use super::html;

/// Rows of a list that are shown at once.
pub const ROWS: usize = 50;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Of `/app/ID`.
    pub id: String,
    /// Of `?page=2`; the first one is 1.
    pub page: usize,
}

impl Asked {
    fn new(id: Option<Path<String>>, query: Option<String>) -> Self {
        let page = query
            .as_deref()
            .unwrap_or_default()
            .split('&')
            .find_map(|pair| pair.strip_prefix("page=")?.parse::<usize>().ok());
        Self { id: id.map(|Path(id)| id).unwrap_or_default(), page: page.unwrap_or(1).max(1) }
    }
}

/// A part of a list.
#[derive(Clone, Debug, Serialize)]
pub struct Paged<T> {
    /// Of the whole list.
    pub total: usize,
    /// From 1.
    pub page: usize,
    pub pages: usize,
    pub rows: Vec<T>,
}

impl<T> Paged<T> {
    /// Takes the rows of a page from a list that has so many; those before it are not looked at for long.
    pub fn of(total: usize, page: usize, rows: impl Iterator<Item = T>) -> Self {
        let pages = total.div_ceil(ROWS).max(1);
        let page = page.clamp(1, pages);
        let rows = rows.skip((page - 1) * ROWS).take(ROWS).collect();
        Self { total, page, pages, rows }
    }

    /// The same part with other rows.
    pub fn map<U>(self, mut map: impl FnMut(T) -> U) -> Paged<U> {
        self.filter_map(|row| Some(map(row)))
    }

    /// The same part with other rows, and without some.
    pub fn filter_map<U>(self, map: impl FnMut(T) -> Option<U>) -> Paged<U> {
        let Self { total, page, pages, rows } = self;
        Paged { total, page, pages, rows: rows.into_iter().filter_map(map).collect() }
    }
}

/// Routes to a view: `PATH` has it as HTML, `/json` and PATH as JSON.
pub fn view<S, V>(
    router: Router<S>,
    path: &str,
    look: fn(&S, &Asked) -> Option<V>,
    show: fn(&V) -> Markup,
) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    V: Serialize + 'static,
{
    let as_html = move |State(site): State<S>,
                        id: Option<Path<String>>,
                        RawQuery(query): RawQuery| async move {
        let asked = Asked::new(id, query);
        match look(&site, &asked) {
            Some(view) => respond(StatusCode::OK, HTML, show(&view).into_string().into()),
            None => missing(&asked.id),
        }
    };
    let as_json = move |State(site): State<S>,
                        id: Option<Path<String>>,
                        RawQuery(query): RawQuery| async move {
        let asked = Asked::new(id, query);
        match look(&site, &asked).map(|view| serde_json::to_string(&view)) {
            Some(Ok(json)) => respond(StatusCode::OK, JSON, (json + "\n").into()),
            Some(Err(error)) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
            None => {
                let error = serde_json::json!({ "error": no_such(&asked.id) });
                respond(StatusCode::NOT_FOUND, JSON, format!("{error}\n").into())
            }
        }
    };
    let json = if path == "/" { "/json".to_owned() } else { format!("/json{path}") };
    router.route(path, get(as_html)).route(&json, get(as_json))
}

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

fn respond(status: StatusCode, kind: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Text as it is.
pub fn text(status: StatusCode, body: impl Into<Body>) -> Response {
    respond(status, TEXT, body.into())
}

/// No, in words.
pub fn refusal(status: StatusCode, words: &str) -> Response {
    text(status, format!("{words}\n"))
}

fn no_such(id: &str) -> String {
    match id {
        "" => "There is no such page.".into(),
        id => format!(
            "There is no {}, or it ended long ago.",
            id.chars().take(100).collect::<String>()
        ),
    }
}

/// What isn't there.
pub fn missing(id: &str) -> Response {
    let page = html::missing(&no_such(id));
    respond(StatusCode::NOT_FOUND, HTML, page.into_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_a_number_and_all_else_is_the_first() {
        let page = |query: &str| Asked::new(None, Some(query.to_owned())).page;
        assert_eq!((page("page=3"), page("x=1&page=7"), page("page=3&page=4")), (3, 7, 3));
        for odd in
            ["", "page=", "page=0", "page=-1", "page=x", "page=99999999999999999999", "apage=2"]
        {
            assert_eq!(page(odd), 1, "{odd}");
        }
    }

    #[test]
    fn a_long_list_is_shown_in_parts() {
        let part = |page| Paged::of(10_120, page, 0..10_120);
        let first = part(1);
        assert_eq!((first.total, first.page, first.pages), (10_120, 1, 203));
        assert_eq!(first.rows, (0..50).collect::<Vec<_>>());
        assert_eq!(part(203).rows, (10_100..10_120).collect::<Vec<_>>());
        assert_eq!(part(usize::MAX).page, 203, "the last one, if there are no more");
        let none = Paged::of(0, 5, std::iter::empty::<u8>());
        assert_eq!((none.page, none.pages, none.rows.len()), (1, 1, 0));
    }
}
