//! What jobs say, on its way to a terminal: shown, and not obeyed.
//!
//! A terminal takes control characters as commands: to change what was shown, its title, the clipboard, or what its user seems to type
//! next. What a job printed may be anything. Files and pipes get it as it is.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

/// Makes a stream's bytes harmless, one after the other.
#[derive(Default)]
pub struct Tamed {
    /// The last byte begins what could be a control character of two bytes.
    begun: bool,
}

/// The first byte of U+0080 to U+00BF in UTF-8.
const LEAD: u8 = 0xC2;

impl Tamed {
    /// Control characters, but for tab and line feed, become the signs that Unicode has for them.
    pub fn tame<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let wild = |(n, byte): (usize, &u8)| {
            let begun = if n == 0 { self.begun } else { bytes[n - 1] == LEAD };
            is_control(*byte) || begun && matches!(byte, 0x80..=0x9F)
        };
        let last = bytes.last().map_or(self.begun, |byte| *byte == LEAD);
        let Some(first) = bytes.iter().enumerate().position(wild) else {
            self.begun = last;
            return Cow::Borrowed(bytes);
        };
        let mut tame = bytes[..first].to_vec();
        let mut begun = if first == 0 { self.begun } else { bytes[first - 1] == LEAD };
        for (n, byte) in bytes.iter().enumerate().skip(first) {
            match byte {
                b'\r' if bytes.get(n + 1) == Some(&b'\n') => {}
                0x7F => tame.extend("\u{2421}".bytes()),
                _ if is_control(*byte) => {
                    let sign = char::from_u32(0x2400 + u32::from(*byte)).unwrap_or('\u{FFFD}');
                    tame.extend(sign.to_string().bytes());
                }
                // With the byte before, which is written already, a middle dot.
                0x80..=0x9F if begun => tame.push(0xB7),
                _ => tame.push(*byte),
            }
            begun = *byte == LEAD;
        }
        self.begun = last;
        Cow::Owned(tame)
    }
}

fn is_control(byte: u8) -> bool {
    matches!(byte, 0..=8 | 11..=31 | 0x7F)
}

/// One of the process's own streams, which may lead to a terminal.
pub struct Screen(Option<Tamed>);

impl Screen {
    pub fn of(stream: &impl IsTerminal) -> Self {
        Self(stream.is_terminal().then(Tamed::default))
    }

    /// What of these bytes may be written to it.
    pub fn show<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        match &mut self.0 {
            Some(tamed) => tamed.tame(bytes),
            None => Cow::Borrowed(bytes),
        }
    }
}

/// Text of a job's own that is to be a part of a line, on whatever it is shown.
pub fn word(text: &str) -> String {
    let tame = Tamed::default().tame(text.as_bytes()).into_owned();
    String::from_utf8_lossy(&tame).replace(['\n', '\t'], " ")
}

/// A line for a person on stderr, of which a job may have chosen the words.
pub fn say(text: impl std::fmt::Display) {
    let mut stderr = io::stderr().lock();
    let line = format!("{text}\n");
    // Nobody is left to tell that nobody reads.
    let _ = stderr.write_all(&Screen::of(&stderr).show(line.as_bytes()));
}

/// An answer on stdout, of which a master, or whoever says that he is one, chose the words.
pub fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    // Nobody is left to tell that nobody reads.
    let _ = stdout.write_all(&Screen::of(&stdout).show(text.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tamed(pieces: &[&[u8]]) -> String {
        let mut stream = Tamed::default();
        let all: Vec<u8> =
            pieces.iter().flat_map(|piece| stream.tame(piece).into_owned()).collect();
        String::from_utf8(all).expect("text stays text")
    }

    #[test]
    fn text_stays_as_it_is() {
        let text = "words\tand \u{e9}\u{a0}\u{b5} \u{4f60}\u{1f980}\n";
        assert!(matches!(Tamed::default().tame(text.as_bytes()), Cow::Borrowed(_)));
        assert_eq!(tamed(&[text.as_bytes()]), text);
    }

    #[test]
    fn a_word_stays_in_its_line() {
        assert_eq!(word("map\n\tand \x1b]0;x\x07"), "map  and \u{241b}]0;x\u{2407}");
    }

    #[test]
    fn commands_become_signs() {
        assert_eq!(tamed(&[b"\x1b[2J\x1b]0;owned\x07"]), "\u{241b}[2J\u{241b}]0;owned\u{2407}");
        assert_eq!(tamed(&[b"12%\r13%\r\n\x08\x7f\0"]), "12%\u{240d}13%\n\u{2408}\u{2421}\u{2400}");
    }

    #[test]
    fn commands_of_two_bytes_are_found_also_across_writes() {
        let csi = "\u{9b}".as_bytes();
        assert_eq!(tamed(&[csi]), "\u{b7}");
        assert_eq!(tamed(&[&csi[..1], &csi[1..]]), "\u{b7}");
        assert_eq!(tamed(&[b"a", &csi[..1], &csi[1..], b"31m", csi]), "a\u{b7}31m\u{b7}");
        // The same byte in another character is none.
        assert_eq!(tamed(&["\u{41b}".as_bytes()]), "\u{41b}");
    }
}
