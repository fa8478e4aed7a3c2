//! For fuzz targets only: what reads others' bytes, and isn't reached by itself.

use std::path::Path;

use crate::objects;
use crate::writer::{Marker, Writer};

/// Reads an answer of a store as everything that it may be.
pub fn answers(bytes: &[u8]) {
    objects::fuzzing::answers(bytes);
    if let Some(marker) = Marker::read(bytes) {
        assert!(!marker.is_left_for(&Writer::default()), "nobody takes it over");
        let token = marker.token.as_str();
        assert!(!token.contains(['/', '.']) && !Path::new(token).is_absolute(), "{token:?}");
    }
}

/// Reads a URL, which must be the same when it is read again.
pub fn location(text: &str) {
    objects::fuzzing::location(text);
}

/// Compresses as shuffle output is.
pub fn lz4(bytes: &[u8]) -> Vec<u8> {
    lz4_flex::block::compress(bytes)
}
