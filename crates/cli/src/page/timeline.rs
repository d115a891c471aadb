//! The timeline, drawn: a bar of the phases, with a line at each moment.

use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};
use rollback_core::report::{ALL, Moment, Phase};
use rollback_core::time::human;

use super::time;
use crate::output::clean;

/// Width of the drawing, in units of its own.
const WIDTH: i64 = 1000;
/// The least width of a phase, so that a short one is seen beside a long wait.
const LEAST: i64 = 14;
/// How many colours there are.
const COLOURS: usize = 8;

/// One phase in the drawing.
struct Bar<'a> {
    phase: &'a Phase,
    begin: i64,
    end: i64,
    left: i64,
    width: i64,
}

/// The bar, and what its colours mean. Nothing when there is nothing to draw.
pub fn draw(moments: &[Moment], phases: &[Phase]) -> Markup {
    let bars = bars(phases);
    let Some(first) = moments.first() else {
        return html! {};
    };
    if bars.is_empty() {
        return html! {};
    }
    html! {
        figure.timeline {
            svg viewBox={"0 0 " (WIDTH) " 60"} preserveAspectRatio="none" aria-hidden="true" {
                @for (index, bar) in bars.iter().enumerate() {
                    rect class={"phase p" (index % COLOURS)} x=(bar.left) y="20" width=(bar.width) height="40" {}
                }
                @for moment in moments {
                    @let x = place(&bars, between(first.at, moment.at));
                    rect.tick x=(x) y="0" width="2" height="60" {}
                }
            }
            figcaption {
                ol.legend aria-label="Phases" {
                    @for (index, bar) in bars.iter().enumerate() {
                        li {
                            svg.swatch viewBox="0 0 10 10" aria-hidden="true" {
                                rect class={"phase p" (index % COLOURS)} width="10" height="10" {}
                            }
                            " " (clean(&bar.phase.name)) " "
                            b { (human(SignedDuration::from_millis(bar.phase.milliseconds))) }
                        }
                    }
                }
            }
        }
    }
}

/// The moments, one below the other.
pub fn list(moments: &[Moment]) -> Markup {
    let Some(first) = moments.first() else {
        return html! {};
    };
    html! {
        ol.moments {
            @for moment in moments {
                li {
                    (time(moment.at)) " "
                    span.since { "+" (human(moment.at.duration_since(first.at))) } " "
                    span.what { (clean(&moment.what)) }
                }
            }
        }
    }
}

fn bars(phases: &[Phase]) -> Vec<Bar<'_>> {
    let phases: Vec<&Phase> = phases.iter().filter(|phase| phase.name != ALL).collect();
    let many = i64::try_from(phases.len()).unwrap_or(WIDTH);
    let total: i64 = phases.iter().map(|phase| took(phase)).sum();
    let free = (WIDTH - many * LEAST).max(0);
    let (mut left, mut begin) = (0, 0);
    let mut bars = Vec::new();
    for phase in phases {
        let share = if total > 0 {
            i128::from(free) * i128::from(took(phase)) / i128::from(total)
        } else {
            0
        };
        let width = LEAST + i64::try_from(share).unwrap_or(0);
        let end = begin + took(phase);
        bars.push(Bar {
            phase,
            begin,
            end,
            left,
            width,
        });
        (left, begin) = (left + width, end);
    }
    bars
}

/// How long a phase took. What a report says may be anything.
fn took(phase: &Phase) -> i64 {
    const YEAR: i64 = 366 * 86_400_000;
    phase.milliseconds.clamp(0, YEAR)
}

/// Where a moment is in the drawing, so many milliseconds after the first one.
fn place(bars: &[Bar], at: i64) -> i64 {
    let last = bars.last().map_or(0, |bar| bar.left + bar.width);
    let x = bars.iter().find(|bar| at < bar.end).map_or(last, |bar| {
        let share = i128::from(at - bar.begin) * i128::from(bar.width)
            / i128::from((bar.end - bar.begin).max(1));
        bar.left + i64::try_from(share).unwrap_or(0)
    });
    x.clamp(0, WIDTH - 2)
}

fn between(first: Timestamp, at: Timestamp) -> i64 {
    i64::try_from(at.duration_since(first).as_millis().max(0)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(name: &str, milliseconds: i64) -> Phase {
        Phase {
            name: name.to_owned(),
            milliseconds,
        }
    }

    #[test]
    fn a_short_phase_is_seen_beside_a_long_one() {
        let phases = [
            phase("approval", 86_400_000),
            phase("write", 40),
            phase(ALL, 86_400_040),
        ];
        let bars = bars(&phases);
        let widths: Vec<i64> = bars.iter().map(|bar| bar.width).collect();
        assert_eq!(widths, [985, 14]);
        assert_eq!(place(&bars, 0), 0);
        assert_eq!(place(&bars, 86_400_020), 992);
        assert_eq!(place(&bars, i64::MAX), 998);
    }

    #[test]
    fn a_report_may_say_anything() {
        let moments = [Moment {
            at: Timestamp::MIN,
            what: "<script>alert(1)</script>".to_owned(),
        }];
        let phases = [phase("</svg><script>", i64::MAX), phase("x", i64::MIN)];
        let drawn = draw(&moments, &phases).into_string() + &list(&moments).into_string();
        assert!(!drawn.contains("<script"), "{drawn}");
        assert_eq!(draw(&[], &phases).into_string(), "");
        assert_eq!(draw(&moments, &[]).into_string(), "");
    }
}
