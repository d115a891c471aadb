//! The incident report as one page that stands alone. Its sentences are those of the Markdown that the controller
//! wrote; what it draws is made of the JSON beside it.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use rollback_api::status::TargetStatus;
use rollback_core::report::{Moment, Phase, TIMELINE, WELL};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{STYLE, numbers, only_style, timeline};
use crate::output::clean;

/// The page.
pub fn page(markdown: &str, report: &Value) -> Markup {
    let body = body(markdown, report);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(only_style());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                meta name="color-scheme" content="light dark";
                title { (title(markdown)) }
                // The style is our own file, and its digest is in the policy above.
                style { (PreEscaped(STYLE)) }
            }
            body { main.report { (body) } }
        }
    }
}

/// The first heading.
pub fn title(markdown: &str) -> String {
    let mut inside = false;
    let mut title = String::new();
    for event in Parser::new_ext(markdown, options()) {
        match event {
            Event::Start(Tag::Heading { .. }) => inside = true,
            Event::End(TagEnd::Heading(_)) => break,
            Event::Text(text) | Event::Code(text) if inside => title.push_str(&text),
            _other => {}
        }
    }
    clean(&title)
}

fn options() -> Options {
    Options::ENABLE_TABLES | Options::ENABLE_TASKLISTS
}

/// The Markdown as HTML. What it is made of is ours; nevertheless no HTML in it is taken for HTML, nothing is a link and
/// nothing is loaded.
pub fn body(markdown: &str, report: &Value) -> Markup {
    let mut events = Vec::new();
    let mut heading = None;
    for event in Parser::new_ext(markdown, options()) {
        match event {
            Event::Start(Tag::Link { .. } | Tag::Image { .. })
            | Event::End(TagEnd::Link | TagEnd::Image) => {}
            Event::Html(text) | Event::InlineHtml(text) => events.push(Event::Text(text)),
            Event::TaskListMarker(done) => {
                let mark = if done { "☑" } else { "☐" };
                let mark = html! { span.box { (mark) } " " };
                events.push(Event::InlineHtml(mark.into_string().into()));
            }
            Event::Start(Tag::Heading { .. }) => {
                heading = Some(String::new());
                events.push(event);
            }
            Event::End(TagEnd::Heading(_)) => {
                events.push(event);
                let drawn = drawing(heading.take().as_deref(), report);
                events.push(Event::Html(drawn.into_string().into()));
            }
            Event::Text(ref text) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(text);
                }
                events.push(event);
            }
            other => events.push(other),
        }
    }
    let mut out = String::new();
    pulldown_cmark::html::push_html(&mut out, events.into_iter());
    PreEscaped(out)
}

/// What is drawn below a heading.
fn drawing(heading: Option<&str>, report: &Value) -> Markup {
    match heading {
        Some(TIMELINE) => {
            let moments: Vec<Moment> = part(report, "timeline");
            let phases: Vec<Phase> = part(report, "phases");
            timeline::draw(&moments, &phases)
        }
        Some(WELL) => {
            let targets: Vec<TargetStatus> = part(report, "targets");
            html! { @for target in &targets { (numbers::draw(target)) } }
        }
        Some(_) | None => html! {},
    }
}

/// A list of the report; of one that an older or a newer controller wrote in another way nothing is drawn.
fn part<T: DeserializeOwned>(report: &Value, name: &str) -> Vec<T> {
    let part = report.get(name).cloned().unwrap_or_default();
    serde_json::from_value(part).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKDOWN: &str = include_str!("../../../../docs/example-report.md");
    const JSON: &str = include_str!("../../../../docs/example-report.json");

    fn example() -> String {
        page(MARKDOWN, &serde_json::from_str(JSON).unwrap()).into_string()
    }

    #[test]
    fn the_example_is_one_page_that_loads_nothing() {
        let page = example();
        for text in [
            "<title>Rollback of api: Succeeded</title>",
            "<h2>Timeline</h2>\n<figure class=\"timeline\">",
            "ann@broxiva.com asked for the rollback",
            "<span class=\"box\">☐</span> Log in with a test user",
            "default-src 'none'; style-src 'sha256-",
        ] {
            assert!(page.contains(text), "{text} is not in {page}");
        }
        for text in [
            "<script", "<a ", "<img", "<link", "<input", " src=", " href=", " style=", "url(",
        ] {
            assert!(!page.contains(text), "{text} is in {page}");
        }
    }

    #[test]
    fn nothing_of_a_report_is_obeyed() {
        let markdown = "# x <script>alert(1)</script>\n\n<img src=x onerror=alert(1)>\n\n[a](javascript:alert(1)) ![b](http://evil/x)\n\n## Timeline\n\n\
            <style>@import 'http://evil'</style>\n";
        let report = serde_json::json!({"timeline": [{"at": "2026-11-30T14:00:00Z", "what": "<svg onload=alert(1)>"}],
            "phases": [{"name": "\"><script>", "milliseconds": 1}], "targets": "none"});
        let page = page(markdown, &report).into_string();
        for text in [
            "<script",
            "<img",
            "<a ",
            "javascript:alert(1)\"",
            "onload=alert(1)>",
            "<style>@",
        ] {
            assert!(!page.contains(text), "{text} is in {page}");
        }
        assert!(page.contains("&lt;script&gt;alert(1)"), "{page}");
    }
}
