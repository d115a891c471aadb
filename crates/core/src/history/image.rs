//! Image references, compared by what they mean: `nginx` is `docker.io/library/nginx:latest`.

use semver::Version;

/// An image reference with everything implicit spelled out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Registry and path.
    pub repository: String,
    /// Tag; `latest` when neither tag nor digest is given.
    pub tag: Option<String>,
    /// Digest.
    pub digest: Option<String>,
}

const DEFAULT_REGISTRY: &str = "docker.io";

impl Reference {
    /// Reads a reference as a container runtime does.
    pub fn parse(image: &str) -> Self {
        let (name, digest) = match image.split_once('@') {
            Some((name, digest)) => (name, Some(digest.to_owned())),
            None => (image, None),
        };
        let after_path = name.rfind('/').map_or(0, |slash| slash + 1);
        let (path, tag) = match name[after_path..].find(':') {
            Some(colon) => (
                &name[..after_path + colon],
                Some(name[after_path + colon + 1..].to_owned()),
            ),
            None => (name, None),
        };
        let tag = tag.or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Self {
            repository: repository(path),
            tag,
            digest,
        }
    }

    /// Whether an image that a container has is the one that is asked for. A digest is met only by
    /// the same digest: what a tag points at nobody knows from here.
    pub fn is_met_by(&self, other: &Self) -> bool {
        self.repository == other.repository
            && match &self.digest {
                Some(_) => self.digest == other.digest,
                None => self.tag == other.tag,
            }
    }
}

fn repository(path: &str) -> String {
    let (first, rest) = path.split_once('/').unwrap_or(("", path));
    let is_registry = first.contains(['.', ':']) || first == "localhost";
    match (is_registry, first) {
        (true, "index.docker.io") => format!("{DEFAULT_REGISTRY}/{rest}"),
        (true, _) => path.to_owned(),
        (false, "") => format!("{DEFAULT_REGISTRY}/library/{path}"),
        (false, _) => format!("{DEFAULT_REGISTRY}/{path}"),
    }
}

/// Whether two versions are the same: as text, or as semantic versions with or without a leading v.
pub fn same_version(one: &str, other: &str) -> bool {
    let semantic = |text: &str| Version::parse(text.trim_start_matches('v')).ok();
    one == other || semantic(one).is_some_and(|version| semantic(other) == Some(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meets(asked: &str, has: &str) -> bool {
        Reference::parse(asked).is_met_by(&Reference::parse(has))
    }

    #[test]
    fn what_is_implicit_is_spelled_out() {
        let cases = [
            ("nginx", "docker.io/library/nginx", Some("latest")),
            ("shop/api:v1", "docker.io/shop/api", Some("v1")),
            (
                "index.docker.io/shop/api",
                "docker.io/shop/api",
                Some("latest"),
            ),
            ("localhost/api:v1", "localhost/api", Some("v1")),
            (
                "registry.example:5000/api",
                "registry.example:5000/api",
                Some("latest"),
            ),
            (
                "registry.example:5000/a/b:v1",
                "registry.example:5000/a/b",
                Some("v1"),
            ),
            ("nginx@sha256:ab", "docker.io/library/nginx", None),
            ("nginx:1@sha256:ab", "docker.io/library/nginx", Some("1")),
        ];
        for (image, repository, tag) in cases {
            let reference = Reference::parse(image);
            assert_eq!(
                (reference.repository.as_str(), reference.tag.as_deref()),
                (repository, tag),
                "{image}"
            );
        }
    }

    #[test]
    fn a_digest_is_met_by_the_digest_alone() {
        assert!(meets("nginx", "docker.io/library/nginx:latest"));
        assert!(meets("nginx:1", "nginx:1@sha256:ab"));
        assert!(meets("nginx@sha256:ab", "nginx:1@sha256:ab"));
        assert!(!meets("nginx@sha256:ab", "nginx:1"));
        assert!(!meets("nginx:1", "nginx@sha256:ab"));
        assert!(!meets("nginx:1", "nginx:2"));
        assert!(!meets("nginx:1", "other/nginx:1"));
    }

    #[test]
    fn versions_are_compared_as_versions() {
        for (one, other) in [
            ("v2.1.5", "2.1.5"),
            ("2.1.5", "2.1.5"),
            ("release-7", "release-7"),
        ] {
            assert!(same_version(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("v2.1.5", "v2.1.50"),
            ("v2.1", "v2.1.0"),
            ("v2.1.5", "v2.1.5-rc.1"),
            ("7", "v7"),
            ("", "v"),
        ] {
            assert!(!same_version(one, other), "{one} {other}");
        }
    }
}
