//! How records become bytes and come back: postcard, known to this file alone.
//!
//! Encoded records follow each other without any frame; a tuple's encoding is that of its parts, one after the other.

use std::ops::Range;
use std::rc::Rc;

use postcard::ser_flavors::Flavor;
use postcard::{Error, Serializer};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::str::{Block, decode_from};

/// What may cross a shuffle, or come back to the driver: all that serde can write and read.
pub trait Record: Serialize + DeserializeOwned + 'static {}

impl<T: Serialize + DeserializeOwned + 'static> Record for T {}

/// Appends to a buffer that is used again and again.
struct Append<'a>(&'a mut Vec<u8>);

impl Flavor for Append<'_> {
    type Output = ();

    #[inline]
    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    #[inline]
    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.0.push(data);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Appends a record.
pub(crate) fn encode<T: Serialize + ?Sized>(record: &T, out: &mut Vec<u8>) -> Result<(), String> {
    let start = out.len();
    let mut serializer = Serializer { output: Append(out) };
    let encoded = record.serialize(&mut serializer);
    if out.len() == start {
        // A `()` is a record too: it must count where records follow each other.
        out.push(0);
    }
    encoded.map_err(|error| {
        let name = std::any::type_name::<T>();
        match error {
            Error::SerializeSeqLengthUnknown => {
                format!("can't encode a {name}: it has a sequence or map of unknown length (serde's `flatten` makes one)")
            }
            other => format!("can't encode a {name}: {other}"),
        }
    })
}

/// Reads one record that lies by itself.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    postcard::from_bytes(bytes).map_err(cant_decode::<T>)
}

fn cant_decode<T>(error: Error) -> String {
    let name = std::any::type_name::<T>();
    format!(
        "can't decode a {name}: {error}; `Serialize` and `Deserialize` must agree (serde's `untagged` can't be used)"
    )
}

/// Reads records one after the other.
pub(crate) struct Cursor {
    block: Block,
    at: usize,
}

impl Cursor {
    pub(crate) fn new(block: Vec<u8>) -> Cursor {
        Cursor::over(Rc::new(block), 0)
    }

    pub(crate) fn over(block: Block, at: usize) -> Cursor {
        Cursor { block, at }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at >= self.block.len()
    }

    /// Where the next record begins.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// The encoding of what was decoded there.
    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.block.get(range).unwrap_or_default()
    }

    pub(crate) fn decode<T: DeserializeOwned>(&mut self) -> Result<T, String> {
        decode_from(&self.block);
        let rest = self.block.get(self.at..).unwrap_or_default();
        let (record, left) = postcard::take_from_bytes(rest).map_err(cant_decode::<T>)?;
        self.at += (rest.len() - left.len()).max(1);
        Ok(record)
    }
}
