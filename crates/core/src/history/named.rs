//! Revisions named by what they run: an image or a version.

use std::collections::BTreeSet;

use rollback_api::Reason;
use rollback_api::request::ToImage;

use crate::history::image::{Reference, same_version};
use crate::history::template::Template;
use crate::history::{Choice, History, Revision};
use crate::message::text::plain;

/// Label of a pod template that says which version it is.
const VERSION_LABEL: &str = "app.kubernetes.io/version";
/// How many images or versions a message lists.
const LISTED: usize = 10;

impl History {
    /// The newest revision in which the container has this image.
    pub(crate) fn with_image(
        &self,
        asked: &ToImage,
        current: &Template,
        bad: &[String],
    ) -> Choice<'_> {
        let wanted = Reference::parse(&asked.image);
        let shown = plain(&asked.image, 200);
        let container = match &asked.container {
            Some(container) => container.clone(),
            None => match self.container_with(&wanted.repository, current) {
                Ok(container) => container,
                Err(message) => return Choice::None(Reason::Ambiguous, message),
            },
        };
        let fits = |template: &Template| {
            let image = template.images().remove(&container);
            image.is_some_and(|image| wanted.is_met_by(&Reference::parse(&image)))
        };
        // No container has this repository at all: then every image is worth knowing.
        let nowhere = container.is_empty();
        let place = if nowhere {
            String::new()
        } else {
            format!(" in container {}", plain(&container, 63))
        };
        let runs = |template: &Template| {
            let mut images = template.images();
            if nowhere {
                images
                    .into_values()
                    .reduce(|all, next| format!("{all}, {next}"))
            } else {
                images.remove(&container)
            }
        };
        self.newest(&format!("image {shown}"), &fits, current, bad).unwrap_or_else(|| {
            Choice::None(
                Reason::ImageNotInHistory,
                format!(
                    "to.image: no revision in the history has image {shown}{place}; images there: {}. \
                     Ask for one of them, or deploy the image anew.",
                    self.list(&runs)
                ),
            )
        })
    }

    /// The container that a new image is for: the one that is named, the one whose images come from the same
    /// repository, or the only one.
    pub(crate) fn container_of(
        &self,
        asked: &ToImage,
        current: &Template,
    ) -> Result<String, String> {
        if let Some(container) = &asked.container {
            return Ok(container.clone());
        }
        let repository = Reference::parse(&asked.image).repository;
        let found = self.container_with(&repository, current)?;
        if !found.is_empty() {
            return Ok(found);
        }
        let mut names = current.main_images().into_keys();
        match (names.next(), names.next()) {
            (Some(only), None) => Ok(only),
            (Some(_) | None, _) => Err(
                "to.image: none of the containers has an image of this repository. Say which one is meant with container."
                    .to_owned(),
            ),
        }
    }

    /// The container whose images come from this repository, in what runs and in all revisions.
    fn container_with(&self, repository: &str, current: &Template) -> Result<String, String> {
        let templates = self.revisions.iter().map(|revision| &revision.template);
        let containers: BTreeSet<String> = templates
            .chain([current])
            .flat_map(Template::images)
            .filter(|(_, image)| Reference::parse(image).repository == repository)
            .map(|(container, _)| container)
            .collect();
        if containers.len() > 1 {
            return Err(format!(
                "to.image: the containers {} have images from this repository. Say which one is meant with container.",
                containers.into_iter().collect::<Vec<_>>().join(", ")
            ));
        }
        Ok(containers.into_iter().next().unwrap_or_default())
    }

    /// The newest revision of this version: by the version label of its pod template or, without the
    /// label, by the tag of its image.
    pub(crate) fn with_version(
        &self,
        asked: &str,
        current: &Template,
        bad: &[String],
    ) -> Choice<'_> {
        let shown = plain(asked, 128);
        let templates = self.revisions.iter().map(|revision| &revision.template);
        if templates.chain([current]).any(has_no_single_version) {
            return Choice::None(
                Reason::Ambiguous,
                format!(
                    "to.version: some pod templates have several containers and no label {VERSION_LABEL}, so {shown} could be the version of any of them. \
                     Ask for an image and its container, or for a revision."
                ),
            );
        }
        let fits = |template: &Template| {
            version(template).is_some_and(|found| same_version(&found, asked))
        };
        self.newest(&format!("version {shown}"), &fits, current, bad).unwrap_or_else(|| {
            Choice::None(
                Reason::VersionNotInHistory,
                format!(
                    "to.version: no revision in the history is version {shown}; versions there: {}. \
                     Ask for one of them, or deploy the version anew.",
                    self.list(&version)
                ),
            )
        })
    }

    /// The newest revision that fits, rather one that is not known to be bad; what runs, if it fits.
    fn newest(
        &self,
        what: &str,
        fits: &dyn Fn(&Template) -> bool,
        current: &Template,
        bad: &[String],
    ) -> Option<Choice<'_>> {
        if fits(current) {
            return Some(Choice::Current(what.to_owned()));
        }
        let fitting: Vec<&Revision> = self
            .revisions
            .iter()
            .filter(|revision| fits(&revision.template))
            .collect();
        let is_bad = |revision: &Revision| bad.contains(&revision.template.digest());
        let mut notes: Vec<String> = self.unreadable_note().into_iter().collect();
        let revision = if let Some(good) = fitting.iter().find(|revision| !is_bad(revision)) {
            good
        } else {
            let named = fitting.first()?;
            notes.push(format!(
                "{what} was rolled back before; it is chosen because the request names it"
            ));
            named
        };
        Some(Choice::Revision { revision, notes })
    }

    /// What the revisions run, newest first, each once.
    fn list(&self, what: &dyn Fn(&Template) -> Option<String>) -> String {
        let mut known: Vec<String> = Vec::new();
        for found in self
            .revisions
            .iter()
            .filter_map(|revision| what(&revision.template))
        {
            let found = plain(&found, 200);
            if !known.contains(&found) {
                known.push(found);
            }
        }
        known.truncate(LISTED);
        if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        }
    }
}

fn label(template: &Template) -> Option<String> {
    let labels = template.as_json().pointer("/metadata/labels")?;
    Some(labels.get(VERSION_LABEL)?.as_str()?.to_owned())
}

/// The version of a template, when it has one that is not open to doubt.
fn version(template: &Template) -> Option<String> {
    label(template).or_else(|| {
        let mut images = template.main_images().into_values();
        Reference::parse(&images.next()?).tag
    })
}

fn has_no_single_version(template: &Template) -> bool {
    label(template).is_none() && template.main_images().len() > 1
}
