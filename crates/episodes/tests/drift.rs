//! The files are what the code makes, and they are labelled by their cause.

use episodes::cause::ALL;
use episodes::library;
use serde_json::Value;

/// All files together, in bytes.
const LIMIT: usize = 9_000_000;

#[test]
fn the_files_are_what_the_code_makes() {
    let made = library::generated();
    let mut stored = library::stored().unwrap();
    stored.retain(|_, episode| library::is_generated(episode));
    let stored_names: Vec<&String> = stored.keys().collect();
    assert_eq!(
        made.keys().collect::<Vec<_>>(),
        stored_names,
        "run `cargo run -p episodes -- generate`"
    );
    let differ: Vec<&String> = made
        .keys()
        .filter(|path| made[*path] != stored[*path])
        .collect();
    assert!(
        differ.is_empty(),
        "run `cargo run -p episodes -- generate`: {differ:?}"
    );
}

#[test]
fn every_file_is_labelled_by_its_cause_and_goes_forward() {
    let stored = library::stored().unwrap();
    let mut bytes = 0;
    for (path, episode) in &stored {
        bytes += episode.to_string().len();
        let cause = ALL.iter().find(|it| episode["cause"] == it.name);
        let cause = cause.unwrap_or_else(|| panic!("{path} has no cause of the table"));
        assert_eq!(episode["expect"], cause.expect.as_str(), "{path}");
        let frames = episode["frames"].as_array().unwrap();
        let moments: Vec<&str> = frames.iter().filter_map(|it| it["at"].as_str()).collect();
        assert!(moments.len() >= 2, "{path} shows nothing");
        assert!(moments.is_sorted(), "{path} goes back in time");
        assert!(
            frames[0]["set"]
                .as_array()
                .is_some_and(|set| set.iter().all(is_whole)),
            "{path}"
        );
    }
    assert!(stored.len() >= 300, "{} episodes", stored.len());
    assert!(bytes < LIMIT, "{bytes} bytes");
}

fn is_whole(object: &Value) -> bool {
    object["kind"].is_string() && object["metadata"]["uid"].is_string()
}
