//! What a configuration must be like beyond its shape.

use std::collections::BTreeSet;
use std::path::Path;

use rollback_receiver::intake::{self, Proof};

use super::{Auth, Error, File, Hmac, Source};
use crate::resolve::names::{is_label, is_subdomain};

/// The name that the controller's own watch has as a source.
const RESERVED: &str = rollback_api::WATCH_SOURCE;

/// Checks all of it; the first fault is the answer.
pub fn check(file: &File, has_tls: bool) -> Result<(), Error> {
    if file.sources.is_empty() {
        return wrong("sources", "name at least one source of alerts");
    }
    let mut names = BTreeSet::new();
    for (index, source) in file.sources.iter().enumerate() {
        let at = format!("sources[{index}]");
        if !names.insert(&source.name) {
            return wrong(
                &format!("{at}.name"),
                &format!("{} is the name of another source already", source.name),
            );
        }
        check_source(&at, source, has_tls)?;
    }
    Ok(())
}

fn check_source(at: &str, source: &Source, has_tls: bool) -> Result<(), Error> {
    if !is_label(&source.name) {
        return wrong(
            &format!("{at}.name"),
            "use small letters, digits and '-', at most 63",
        );
    }
    if source.name == RESERVED {
        return wrong(
            &format!("{at}.name"),
            "that is the name of the controller's own watch; take another",
        );
    }
    if source.namespaces.is_empty() {
        return wrong(
            &format!("{at}.namespaces"),
            "name the namespaces that this source may ask in, or [\"*\"] for any",
        );
    }
    let is_any = source.namespaces == ["*"];
    for (index, namespace) in source.namespaces.iter().enumerate() {
        if !is_any && !is_label(namespace) {
            return wrong(
                &format!("{at}.namespaces[{index}]"),
                "no namespace has such a name; \"*\" stands alone or not at all",
            );
        }
    }
    if source.per_minute == 0 {
        return wrong(
            &format!("{at}.perMinute"),
            "nothing would be taken; give at least 1, or leave the source out",
        );
    }
    check_rules(at, source)?;
    check_auth(at, source, has_tls)
}

fn check_rules(at: &str, source: &Source) -> Result<(), Error> {
    for (index, rule) in source.category.rules.iter().enumerate() {
        if rule.alert.is_none() && rule.labels.is_empty() {
            return wrong(
                &format!("{at}.category.rules[{index}]"),
                "say which alerts it is for, by alert or labels",
            );
        }
    }
    for (index, mapping) in source.mapping.iter().enumerate() {
        let at = format!("{at}.mapping[{index}]");
        if mapping.labels.is_empty() {
            return wrong(
                &format!("{at}.labels"),
                "name at least one label; without one, every alert would be meant",
            );
        }
        if !is_label(&mapping.namespace) {
            return wrong(
                &format!("{at}.namespace"),
                "no namespace has such a name; use small letters, digits and '-'",
            );
        }
        if !is_subdomain(&mapping.deployment) {
            return wrong(
                &format!("{at}.deployment"),
                "no Deployment has such a name; use small letters, digits, '-' and '.'",
            );
        }
    }
    Ok(())
}

fn check_auth(at: &str, source: &Source, has_tls: bool) -> Result<(), Error> {
    let at = format!("{at}.auth");
    match (&source.auth, &source.format.description().proof) {
        (Auth::Sns(_), Proof::Credentials | Proof::Hmac(_)) => {
            wrong(&format!("{at}.sns"), "only the format sns is signed so")
        }
        (Auth::Bearer(_) | Auth::Basic(_) | Auth::Mtls(_) | Auth::Hmac(_), Proof::Amazon) => wrong(
            &at,
            "the format sns proves who it is by Amazon's signature: use sns: {topics: [...]}",
        ),
        (Auth::Hmac(_), Proof::Credentials) => wrong(
            &format!("{at}.hmac"),
            "this sender signs nothing: use bearer, basic or mtls instead",
        ),
        (Auth::Hmac(hmac), Proof::Hmac(usual)) => check_hmac(&format!("{at}.hmac"), usual, hmac),
        (Auth::Bearer(bearer), Proof::Credentials | Proof::Hmac(_)) => {
            some(&format!("{at}.bearer.usernames"), &bearer.usernames)
        }
        (Auth::Basic(basic), Proof::Credentials | Proof::Hmac(_)) => {
            if basic.username.is_empty() || basic.username.contains(':') {
                return wrong(
                    &format!("{at}.basic.username"),
                    "give a name without a colon",
                );
            }
            file(&format!("{at}.basic.passwordFile"), &basic.password_file)
        }
        (Auth::Mtls(mtls), Proof::Credentials | Proof::Hmac(_)) => {
            if !has_tls {
                return wrong(
                    &format!("{at}.mtls"),
                    "client certificates need TLS: give --tls-cert and --tls-key instead of --insecure-http",
                );
            }
            some(&format!("{at}.mtls.subjects"), &mtls.subjects)?;
            file(&format!("{at}.mtls.caFile"), &mtls.ca_file)
        }
        (Auth::Sns(sns), Proof::Amazon) => {
            some(&format!("{at}.sns.topics"), &sns.topics)?;
            let files = [
                ("rootsFile", &sns.roots_file),
                ("tlsRootsFile", &sns.tls_roots_file),
            ];
            for (field, path) in files {
                let at = format!("{at}.sns.{field}");
                path.as_ref().map_or(Ok(()), |it| file(&at, it))?;
            }
            Ok(())
        }
    }
}

fn check_hmac(at: &str, usual: &intake::Hmac, hmac: &Hmac) -> Result<(), Error> {
    let chosen = hmac.signature_header.is_some() || hmac.timestamp_header.is_some();
    if chosen && !usual.can_be_renamed {
        return wrong(
            at,
            "this sender does not let one choose its headers: leave signatureHeader and timestampHeader out",
        );
    }
    for header in [&hmac.signature_header, &hmac.timestamp_header]
        .into_iter()
        .flatten()
    {
        if http::HeaderName::from_bytes(header.as_bytes()).is_err() {
            return wrong(at, &format!("{header:?} is not the name of a header"));
        }
    }
    if hmac.secret_files.is_empty() {
        return wrong(
            &format!("{at}.secretFiles"),
            "name at least one file with a secret",
        );
    }
    for (index, path) in hmac.secret_files.iter().enumerate() {
        file(&format!("{at}.secretFiles[{index}]"), path)?;
    }
    Ok(())
}

fn some(at: &str, list: &[String]) -> Result<(), Error> {
    if list.is_empty() || list.iter().any(String::is_empty) {
        return wrong(at, "name at least one, and none that is empty");
    }
    Ok(())
}

/// It is there and not empty. What it holds later is seen later.
fn file(at: &str, path: &Path) -> Result<(), Error> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() && found.len() > 0 => Ok(()),
        Ok(_) => wrong(at, &format!("{} is empty or no file", path.display())),
        Err(error) => wrong(at, &format!("cannot read {}: {error}", path.display())),
    }
}

fn wrong(field: &str, reason: &str) -> Result<(), Error> {
    Err(Error::Field {
        field: field.to_owned(),
        reason: reason.to_owned(),
    })
}
