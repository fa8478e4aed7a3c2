//! Texts that are read as sizes and names.

use ingle_core::master::{AppId, DriverId};
use ingle_core::size::ByteSize;

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match text.parse::<ByteSize>() {
        Ok(size) => assert!(size.0 > 0 && !size.to_string().is_empty()),
        Err(error) => assert!(error.to_string().len() < 1024, "as much as a person reads"),
    }
    // One name has one spelling: names become folders.
    if let Ok(id) = text.parse::<AppId>() {
        assert_eq!(id.to_string(), text);
        assert_eq!(AppId::new(id.given_at(), 1).given_at(), id.given_at());
    }
    if let Ok(id) = text.parse::<DriverId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Some(number) = data.first_chunk::<8>() {
        let number = u64::from_le_bytes(*number);
        assert!(!ByteSize(number).to_string().is_empty());
    }
}
