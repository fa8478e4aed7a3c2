//! What all pages look like.

use ingle_core::size::ByteSize;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::answer::Paged;

/// The one style, which is in every page.
pub const STYLE: &str = include_str!("style.css");

/// A whole page. `title` is of this page, `home` of the daemon.
pub fn page(home: &str, title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · " (home) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    a href="/" { (home) }
                    h1 { bdi { (title) } }
                }
                main { (body) }
                footer { "Ingle " (env!("CARGO_PKG_VERSION")) " · the same as JSON: " code { "/json" } " before the path" }
            }
        }
    }
}

pub fn missing(words: &str) -> Markup {
    page(
        "Ingle",
        "Not here",
        &html! { p.words { (words) } p { a href="/" { "To the first page" } } },
    )
}

/// A list of facts: what, and how it is.
pub fn facts(facts: &[(&str, Markup)]) -> Markup {
    html! {
        dl.facts {
            @for (what, how) in facts { div { dt { (what) } dd { (how) } } }
        }
    }
}

/// Something in the colour of its state.
pub fn state(state: &str) -> Markup {
    let class = match state {
        "RUNNING" | "ALIVE" | "CONNECTED" => "good",
        "FINISHED" | "ENDED" => "over",
        "FAILED" | "KILLED" => "bad",
        _ => "wait",
    };
    html! { span.state.(class) { (state) } }
}

/// A column: its head, and whether it has numbers.
pub type Column = (&'static str, bool);

/// A table, and the way to its other parts at `path`.
pub fn table<T>(
    path: &str,
    columns: &[Column],
    list: &Paged<T>,
    none: &str,
    cells: impl Fn(&T) -> Vec<Markup>,
) -> Markup {
    if list.total == 0 {
        return html! { p.none { (none) } };
    }
    html! {
        table {
            thead { tr { @for (head, _) in columns { th { (head) } } } }
            tbody {
                @for row in &list.rows {
                    tr {
                        @for ((head, is_number), cell) in columns.iter().zip(cells(row)) {
                            td.n[*is_number] data-label=(head) { div { (cell) } }
                        }
                    }
                }
            }
        }
        @if list.pages > 1 {
            nav {
                "page " (list.page) " of " (list.pages)
                @if list.page > 1 { a href=(format!("{path}?page={}", list.page - 1)) { "← before" } }
                @if list.page < list.pages { a href=(format!("{path}?page={}", list.page + 1)) { "next →" } }
            }
        }
    }
}

/// A heading over a list that has so many.
pub fn heading(text: &str, total: usize) -> Markup {
    html! { h2 { (text) " " small { (total) } } }
}

/// How much of something is taken.
pub fn used(used: u64, all: u64, words: &str) -> Markup {
    html! { (words) meter min="0" max=(all.max(1)) value=(used.min(all)) {} }
}

pub fn cores(taken: u32, all: u32) -> Markup {
    used(taken.into(), all.into(), &format!("{taken} of {all}"))
}

pub fn memory(taken: u64, all: u64) -> Markup {
    used(taken, all, &format!("{} of {}", ByteSize(taken), ByteSize(all)))
}

/// A time in the two largest of its units.
pub fn time(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// A text of others, in brief: for a row.
pub fn brief(text: &str) -> String {
    const MOST: usize = 240;
    let line = text.lines().next().unwrap_or_default();
    let mut brief: String = line.chars().take(MOST).collect();
    if brief.len() < text.trim_end().len() {
        brief.push('…');
    }
    brief
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_people_tell_them() {
        let cases =
            [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3600, "1 h 0 min"), (90_000, "1 d 1 h")];
        for (seconds, text) in cases {
            assert_eq!(time(seconds), text);
        }
    }

    #[test]
    fn long_texts_are_cut_to_a_line() {
        assert_eq!(brief("one"), "one");
        assert_eq!(brief("one\ntwo"), "one…");
        assert_eq!(brief(&"é".repeat(1000)).chars().count(), 241);
        assert_eq!(brief(""), "");
    }

    #[test]
    fn other_parts_of_a_list_are_a_link_away() {
        let list = |page| Paged::of(120, page, 0..120);
        let show = |page| {
            let cells = |n: &i32| vec![html! { (n) }];
            table("/ended", &[("N", true)], &list(page), "none", cells).into_string()
        };
        assert!(show(1).contains("?page=2") && !show(1).contains("before"));
        assert!(show(2).contains("/ended?page=1") && show(2).contains("/ended?page=3"));
        assert!(show(3).contains("page 3 of 3") && !show(3).contains("next"));
        assert_eq!(show(3).matches("<tr>").count(), 1 + 20);
    }
}
