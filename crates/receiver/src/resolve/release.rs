//! Whether a release that a sender names can be the version that is live: only where the two can be compared.

use rollback_core::history::template::Template;
use serde_json::Value;

use super::tag;

/// Labels of pods that say which version runs.
const VERSIONS: [&str; 3] = [
    "app.kubernetes.io/version",
    "tags.datadoghq.com/version",
    "version",
];

/// Whether the release, for example `shop-api@2.1.4` or a commit, is known to be another one than what runs.
pub fn is_another(release: &str, live: &Template) -> bool {
    let (package, version) = match release.rsplit_once('@') {
        Some((package, version)) => (Some(package), version),
        None => (None, release),
    };
    let Some(version) = Version::of(version) else {
        return false;
    };
    let images = live.main_images();
    // The image that is called as the package is goes before the others, sidecars among them.
    let of_package = |image: &&String| package.is_some_and(|package| name(image) == package);
    let named: Vec<&String> = images.values().filter(of_package).collect();
    let images: Vec<&String> = if named.is_empty() {
        images.values().collect()
    } else {
        named
    };
    let labels = live.as_json().pointer("/metadata/labels");
    let label = |key: &&str| {
        labels
            .and_then(|labels| labels.get(*key))
            .and_then(Value::as_str)
    };
    let said = VERSIONS.iter().filter_map(label);
    let tags = images.iter().map(|image| tag(image).unwrap_or_default());
    let mut all = said.chain(tags).map(Version::of).peekable();
    // One that cannot be compared may be it.
    all.peek().is_some() && all.all(|live| live.is_some_and(|live| live.differs(&version)))
}

/// Last part of the name of an image, without tag and digest.
fn name(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    let last = image.rsplit('/').next().unwrap_or_default();
    last.split(':').next().unwrap_or_default()
}

/// A version that can be told from another one of its kind.
enum Version {
    /// Numbers with dots between them. What comes after a `-` may say how it was packed, and so says nothing.
    Numbers(Vec<String>),
    /// A commit, or the beginning of its hash.
    Commit(String),
}

impl Version {
    fn of(text: &str) -> Option<Self> {
        // What is built of the same source again is the same release.
        let text = text.split('+').next().unwrap_or_default().trim();
        let text = text.strip_prefix('v').unwrap_or(text).to_ascii_lowercase();
        let core = text.split('-').next().unwrap_or_default();
        let is_number =
            |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if core.contains('.') && core.split('.').all(is_number) {
            let number = |part: &str| part.trim_start_matches('0').to_owned();
            return Some(Self::Numbers(core.split('.').map(number).collect()));
        }
        let is_commit = (7..=40).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_hexdigit())
            && text.bytes().any(|byte| byte.is_ascii_alphabetic());
        is_commit.then_some(Self::Commit(text))
    }

    /// Whether the two are of one kind and not the same. Those of two kinds cannot be compared, nor 2.1 with 2.1.5.
    fn differs(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Numbers(one), Self::Numbers(other)) => one.len() == other.len() && one != other,
            (Self::Commit(one), Self::Commit(other)) => {
                !one.starts_with(other.as_str()) && !other.starts_with(one.as_str())
            }
            (Self::Numbers(_), Self::Commit(_)) | (Self::Commit(_), Self::Numbers(_)) => false,
        }
    }
}
