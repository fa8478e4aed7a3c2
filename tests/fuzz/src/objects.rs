//! What object stores, and whoever else can write there, answer: lists of uploads, markers, records; and URLs.

pub fn run(data: &[u8]) {
    ingle_blocks::fuzzing::answers(data);
    if let Ok(text) = std::str::from_utf8(data) {
        ingle_blocks::fuzzing::location(text);
    }
}
