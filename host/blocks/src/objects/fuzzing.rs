//! As [`crate::fuzzing`].

use object_store::path::Path as Key;

use super::output::Record;
use super::{Location, is_url, uploads};

pub fn answers(bytes: &[u8]) {
    if let Ok(found) = uploads::parse(bytes) {
        for key in found.keys() {
            let _ = Key::parse(key);
        }
    }
    if let Ok(record) = serde_json::from_slice::<Record>(bytes) {
        let output = Key::from("an/output");
        let part = output.clone().join(record.name);
        // An upload is given up of what lies right in the output, and nothing else.
        assert_eq!(part.prefix_match(&output).map(Iterator::count), Some(1), "{part}");
    }
}

pub fn location(text: &str) {
    if !is_url(text) {
        return;
    }
    let Ok(location) = Location::parse(text) else { return };
    let shown = location.to_string();
    let again = Location::parse(&shown);
    assert_eq!(again.ok(), Some(location.clone()), "{text:?} is shown as {shown:?}");
    assert!(location.is_in(&location.at(Key::ROOT)));
    assert!(!location.key.as_ref().split('/').any(|part| part == ".."));
}
