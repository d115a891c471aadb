//! Strings of others, made fit for a place: every string of a request is hostile until it went
//! through here.

/// At most `limit` characters, without control characters; what is cut off leaves an ellipsis.
pub fn plain(text: &str, limit: usize) -> String {
    let mut characters = text.chars().map(|c| if steers(c) { ' ' } else { c });
    let mut kept: String = characters.by_ref().take(limit).collect();
    if characters.next().is_some() {
        kept.pop();
        kept.push('…');
    }
    kept
}

/// One line of Markdown that shows `text` and does nothing else. Only what would be obeyed is
/// escaped, because the page is also read as it is, in a terminal.
pub fn markdown(text: &str, limit: usize) -> String {
    let text = plain(text, limit);
    let mut escaped = String::with_capacity(text.len());
    let mut before = ' ';
    for (index, c) in text.char_indices() {
        let rest = &text[index..];
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '|' | '~' => {
                escaped.push('\\');
                escaped.push(c);
            }
            // At the beginning of a line these make a list, or a heading of the line before.
            '-' | '+' | '=' if text[..index].trim().is_empty() => {
                escaped.push('\\');
                escaped.push(c);
            }
            '.' | ')' if is_number(&text[..index]) => {
                escaped.push('\\');
                escaped.push(c);
            }
            // An address in running text would become a link, and a name would call somebody.
            ':' if rest.starts_with("://") => escaped.push_str("&#58;"),
            '.' if ends_with_www(&text[..index]) => escaped.push_str("&#46;"),
            '@' if !before.is_alphanumeric() => escaped.push_str("&#64;"),
            other => escaped.push(other),
        }
        before = c;
    }
    escaped
}

fn is_number(text: &str) -> bool {
    let text = text.trim();
    !text.is_empty() && text.chars().all(|c| c.is_ascii_digit())
}

fn ends_with_www(text: &str) -> bool {
    text.len() >= 3
        && text.is_char_boundary(text.len() - 3)
        && text[text.len() - 3..].eq_ignore_ascii_case("www")
}

/// A paragraph of Markdown, each line quoted, that shows `text` and does nothing else.
pub fn quote(text: &str, limit: usize) -> String {
    let limited: String = text.chars().take(limit).collect();
    limited
        .lines()
        .map(|line| format!("> {}", markdown(line, limit)))
        .collect::<Vec<_>>()
        .join("\n")
}

/// A code span of Markdown that shows `text` and does nothing else.
pub fn code(text: &str, limit: usize) -> String {
    let text = plain(text, limit).replace('`', "'").replace('|', "¦");
    // Two backticks with nothing between them would open a span that others close.
    format!("`{}`", if text.is_empty() { " " } else { &text })
}

/// Whether a character does something to a terminal or to the order of a text instead of being shown.
pub fn steers(c: char) -> bool {
    c.is_control() || is_bidi(c)
}

/// Characters that make text read in another order than it is written.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_cut_and_cleaned() {
        assert_eq!(plain("a\u{1b}[31mb\n", 10), "a [31mb ");
        assert_eq!(plain("abcdef", 3), "ab…");
        assert_eq!(plain("abc", 3), "abc");
        assert_eq!(plain("a\u{202e}b", 9), "a b");
    }

    #[test]
    fn markdown_is_shown_and_not_obeyed() {
        assert_eq!(
            markdown(
                "# x [a](http://b) <img> `c` @all www.d at 14:02 (a.b@c)",
                100
            ),
            "\\# x \\[a\\](http&#58;//b) &lt;img&gt; \\`c\\` &#64;all www&#46;d at 14:02 (a.b@c)"
        );
        assert_eq!(quote("one\n## two", 100), "> one\n> \\#\\# two");
        assert_eq!(quote("one\ntwo", 4), "> one");
        assert_eq!(code("a`b|c\n", 100), "`a'b¦c `");
    }
}
