//! What was typed into a form.

use url::form_urlencoded;

/// The fields.
#[derive(Default)]
pub struct Form(Vec<(String, String)>);

impl Form {
    /// Reads it.
    pub fn read(body: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(body);
        Self(
            pairs
                .map(|(key, value)| (key.into_owned(), value.into_owned()))
                .collect(),
        )
    }

    /// A field; empty when it is not there.
    pub fn field(&self, name: &str) -> &str {
        self.all(name).next().unwrap_or_default()
    }

    /// A field that may be there more than once.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let mine = self.0.iter().filter(move |(key, _)| key == name);
        mine.map(|(_, value)| value.as_str())
    }
}
