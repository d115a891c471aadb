//! Numbers before and after, as bars.

use maud::{Markup, html};
use rollback_api::status::{CheckStatus, Measured, TargetStatus};
use rollback_core::health::numbers;

use crate::output::clean;

/// Width of the drawing, in units of its own.
const WIDTH: f64 = 1000.0;

/// What one check of numbers found.
struct Row<'a> {
    check: &'a CheckStatus,
    before: &'a Measured,
    was: f64,
    now: f64,
    bound: Option<f64>,
}

/// The checks of one target that found a number before and after.
pub fn draw(target: &TargetStatus) -> Markup {
    let rows = rows(target);
    html! {
        @for row in &rows {
            figure.numbers {
                figcaption {
                    b { (clean(&target.name)) ": " (clean(&row.check.name)) }
                    ", before " (clean(&row.before.result)) ", after " (clean(&row.check.last_result))
                }
                svg viewBox={"0 0 " (WIDTH) " 60"} preserveAspectRatio="none" aria-hidden="true" {
                    rect.before x="0" y="6" width=(share(row, row.was)) height="20" {}
                    rect.after x="0" y="34" width=(share(row, row.now)) height="20" {}
                    @if let Some(bound) = row.bound {
                        rect.tick x=(share(row, bound)) y="0" width="3" height="60" {}
                    }
                }
                p.key aria-hidden="true" {
                    span.before { "■ before" } " " span.after { "■ after" }
                    @if row.bound.is_some() { " " span.limit { "┃ limit" } }
                }
            }
        }
    }
}

fn rows(target: &TargetStatus) -> Vec<Row<'_>> {
    let of_fallback = target
        .fallback
        .as_ref()
        .and_then(|it| it.verification.as_ref());
    let Some(verification) = of_fallback.or(target.verification.as_ref()) else {
        return Vec::new();
    };
    let checks = verification.checks.iter();
    checks
        .filter_map(|check| row(check, &target.before))
        .collect()
}

fn row<'a>(check: &'a CheckStatus, before: &'a [Measured]) -> Option<Row<'a>> {
    let mut known = before.iter();
    let before = known.find(|it| it.kind == check.kind && it.check == check.name)?;
    let (was, _) = numbers(&before.result)?;
    let (now, bound) = numbers(&check.last_result)?;
    Some(Row {
        check,
        before,
        was,
        now,
        bound,
    })
}

/// How far a number reaches, with some room beyond the greatest. What is below nothing is nothing.
fn share(row: &Row, number: f64) -> String {
    let greatest = row.was.max(row.now).max(row.bound.unwrap_or(0.0)) * 1.1;
    let share = if greatest > 0.0 {
        number.max(0.0) / greatest
    } else {
        0.0
    };
    format!("{:.1}", (share * WIDTH).clamp(2.0, WIDTH - 3.0))
}
