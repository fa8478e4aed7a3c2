//! How a worker hands descriptors to a process that it started: messages behind their lengths, on a Unix socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ingle_proto::prost::{Message, decode_length_delimiter};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// The longest message: an address, or words.
pub const MAX_MESSAGE: usize = 8 << 10;
/// And the longest that says why not.
pub const MAX_WORDS: usize = 1 << 10;

/// Messages, as their bytes come.
#[derive(Default)]
pub struct Messages(Vec<u8>);

impl Messages {
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next message, once all of it is there. The error: that is none.
    pub fn take<M: Message + Default>(&mut self) -> Result<Option<M>, String> {
        let mut rest = self.0.as_slice();
        let length = match decode_length_delimiter(&mut rest) {
            Ok(length) if length <= MAX_MESSAGE => length,
            Ok(length) => return Err(format!("a message of {length} bytes is too long")),
            // The longest length has ten bytes.
            Err(_) if self.0.len() < 10 => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let Some((message, rest)) = rest.split_at_checked(length) else { return Ok(None) };
        let message = M::decode(message).map_err(|e| e.to_string())?;
        let read = self.0.len() - rest.len();
        self.0.drain(..read);
        Ok(Some(message))
    }
}

/// Sends some of these bytes, and with the first one a descriptor.
pub fn send(socket: impl AsFd, bytes: &[u8], with: Option<BorrowedFd<'_>>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let handed = with.map(|with| [with]);
    if let Some(handed) = &handed {
        // There is space for one.
        control.push(SendAncillaryMessage::ScmRights(handed));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)?)
}

/// As many descriptors as the kernel lets come with a message.
const MOST: usize = 253;

/// Waits for bytes; 0: there are no more. Descriptors that come with one of them are put into `handed`.
pub fn receive(
    socket: impl AsFd,
    bytes: &mut [u8],
    handed: &mut impl Extend<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let into = &mut [IoSliceMut::new(bytes)];
    let received = loop {
        match recvmsg(&socket, into, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            received => break received?,
        }
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            handed.extend(descriptors);
        }
    }
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use ingle_proto::v1;

    use super::*;

    #[test]
    fn messages_come_in_any_pieces_and_within_bounds() {
        let sent =
            [(1, "no"), (300, "")].map(|(number, why)| v1::Handed { number, refusal: why.into() });
        let bytes: Vec<_> = sent.iter().flat_map(Message::encode_length_delimited_to_vec).collect();
        let (mut messages, mut read) = (Messages::default(), Vec::new());
        for byte in bytes {
            messages.add(&[byte]);
            read.extend(messages.take::<v1::Handed>().unwrap());
        }
        assert_eq!(read, sent);
        // A length may be longer than it needs to be.
        let mut messages = Messages::default();
        messages.add(&[0x82, 0x00, 0x08, 0x05]);
        assert_eq!(messages.take::<v1::Handed>().unwrap().unwrap().number, 5);
        assert_eq!(messages.take::<v1::Handed>(), Ok(None));
        for wrong in [&[0xff; 11][..], &[0xff, 0x7f], &[2, 0xff, 0xff]] {
            let mut messages = Messages::default();
            messages.add(wrong);
            assert!(messages.take::<v1::Handed>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_descriptor_comes_with_its_message_and_not_before() {
        let (worker, process) = UnixStream::pair().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "handed").unwrap();
        let opened = File::open(file.path()).unwrap();
        assert_eq!(send(&worker, b"one", None).unwrap(), 3);
        assert_eq!(send(&worker, b"two", Some(opened.as_fd())).unwrap(), 3);
        assert_eq!(send(&worker, b"three", None).unwrap(), 5);
        drop(worker);
        let (mut bytes, mut handed, mut had) = ([0; 64], Vec::new(), String::new());
        loop {
            let count = receive(&process, &mut bytes, &mut handed).unwrap();
            if count == 0 {
                break;
            }
            had.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
            assert_eq!(handed.len(), usize::from(had.len() >= 6), "{had}");
        }
        assert_eq!(had, "onetwothree");
        let mut text = String::new();
        File::from(handed.remove(0)).read_to_string(&mut text).unwrap();
        assert_eq!(text, "handed");
    }
}
