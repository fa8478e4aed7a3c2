//! What a connection begins with that a worker hands to a process: for whom that is. It isn't the process's own word, and says only whose process may
//! have been broken out of.

/// No other peer begins so: HTTP/2 begins with `PRI`.
const MAGIC: [u8; 8] = *b"\0ingle\0\x01";
/// The longest id.
const MAX_ID: usize = 64;
/// The magic, the id's length, the id, and zeros.
pub const LENGTH: usize = MAGIC.len() + 1 + MAX_ID;
/// By which a preamble is told from a peer's own first word.
pub const FIRST: u8 = MAGIC[0];

/// For the process of an application, or of a driver.
pub fn of(id: &str) -> Result<[u8; LENGTH], String> {
    let mut preamble = [0; LENGTH];
    let (head, place) = preamble.split_at_mut(MAGIC.len() + 1);
    let (Ok(length), Some(place)) = (u8::try_from(id.len()), place.get_mut(..id.len())) else {
        return Err("an id is longer than any is".into());
    };
    head[..MAGIC.len()].copy_from_slice(&MAGIC);
    head[MAGIC.len()] = length;
    place.copy_from_slice(id.as_bytes());
    Ok(preamble)
}

/// Whose process it is for; none if that is no preamble.
pub fn read(preamble: &[u8; LENGTH]) -> Option<&str> {
    let (length, id) = preamble.strip_prefix(&MAGIC)?.split_first()?;
    let (id, rest) = id.split_at_checked(usize::from(*length))?;
    let id = std::str::from_utf8(id).ok()?;
    (!id.is_empty() && rest.iter().all(|byte| *byte == 0)).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_was_written_and_nothing_else_is() {
        let longest = "x".repeat(MAX_ID);
        for id in ["driver-20260131235959-0001", "a", &longest] {
            assert_eq!(read(&of(id).unwrap()), Some(id));
        }
        assert!(of(&"x".repeat(MAX_ID + 1)).is_err());
        assert!(of(&"x".repeat(300)).is_err());
        let sound = of("app-1").unwrap();
        assert_eq!(read(&of("").unwrap()), None);
        for (at, byte) in [(0, 1), (7, 2), (8, 65), (8, 255), (9, 0xff), (LENGTH - 1, 1), (8, 3)] {
            let mut wrong = sound;
            wrong[at] = byte;
            assert_eq!(read(&wrong), None, "{at}: {byte}");
        }
    }
}
