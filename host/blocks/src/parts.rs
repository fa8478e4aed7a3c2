//! How the files of an output are named and compressed.

use std::io::{self, Write};
use std::sync::Arc;

use flate2::write::GzEncoder;
use ingle_core::memory::{Account, MemoryPool, MemoryUse, Reservation};

use crate::error::{Error, Result};
use crate::input::Compression;

/// What the names of all parts begin with.
pub(crate) const PART_NAME: &str = "part-";
/// The longest extension, with its point.
const MAX_EXTENSION: usize = 16;
/// What gzip holds, about: 256 KiB of tables, and what waits to be written.
const GZIP_MEMORY: u64 = 384 << 10;
/// What zstd holds at its usual level, about.
const ZSTD_MEMORY: u64 = 4 << 20;

/// How the files of an output are named and compressed. The default is `part-00000`, as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    extension: String,
    compression: Compression,
}

impl Parts {
    /// Files whose names end in `extension` (empty, or a point with letters and digits) and in what says how they are compressed.
    pub fn new(extension: &str, compression: Compression) -> Result<Self> {
        let is_extension = |text: &str| {
            let letters = text.strip_prefix('.').unwrap_or_default();
            text.len() <= MAX_EXTENSION
                && !letters.is_empty()
                && letters.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        if !extension.is_empty() && !is_extension(extension) {
            return Err(Error::Invalid(format!("{extension:?} is no extension for files")));
        }
        Ok(Self { extension: extension.to_owned(), compression })
    }

    /// What their names end in, but for the compression.
    pub fn extension(&self) -> &str {
        &self.extension
    }

    /// How they are compressed.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// What a partition's file is called.
    pub(crate) fn name(&self, partition: u32) -> String {
        let compressed = match self.compression {
            Compression::None => "",
            Compression::Gzip => ".gz",
            Compression::Zstd => ".zst",
        };
        format!("{PART_NAME}{partition:05}{}{compressed}", self.extension)
    }

    /// Compresses one of them; none if they aren't compressed.
    pub(crate) fn encoder(&self, pool: &MemoryPool) -> Result<Option<Encoder>> {
        let failed = |error| Error::io("compressing", "a part".as_ref())(error);
        let (encode, memory) = match self.compression {
            Compression::None => return Ok(None),
            Compression::Gzip => {
                let level = flate2::Compression::default();
                (Encode::Gzip(GzEncoder::new(Vec::new(), level)), GZIP_MEMORY)
            }
            Compression::Zstd => {
                let level = zstd::DEFAULT_COMPRESSION_LEVEL;
                let encoder = zstd::Encoder::new(Vec::new(), level).map_err(failed)?;
                (Encode::Zstd(encoder), ZSTD_MEMORY)
            }
        };
        let charge = pool.reserve(MemoryUse::Shuffle, memory)?;
        Ok(Some(Encoder { encode, charge }))
    }
}

/// Compresses a file as it is written.
pub(crate) struct Encoder {
    encode: Encode,
    charge: Reservation,
}

enum Encode {
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::Encoder<'static, Vec<u8>>),
}

/// What is taken in at a time, so that little waits to be written.
const STEP: usize = 64 << 10;

impl Encoder {
    /// What it holds is counted on an account.
    pub fn count_on(&mut self, account: &Arc<Account>) {
        self.charge.count_on(account);
    }

    /// Takes bytes, and gives to `write` what there is of the file so far.
    pub fn add(
        &mut self,
        bytes: &[u8],
        mut write: impl FnMut(&[u8]) -> Result<()>,
        failed: impl FnOnce(io::Error) -> Error,
    ) -> Result<()> {
        for some in bytes.chunks(STEP) {
            let (taken, made) = match &mut self.encode {
                Encode::Gzip(encoder) => (encoder.write_all(some), encoder.get_mut()),
                Encode::Zstd(encoder) => (encoder.write_all(some), encoder.get_mut()),
            };
            if let Err(error) = taken {
                return Err(failed(error));
            }
            write(made)?;
            made.clear();
        }
        Ok(())
    }

    /// The end of the file.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        match self.encode {
            Encode::Gzip(encoder) => encoder.finish(),
            Encode::Zstd(encoder) => encoder.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_named_by_what_is_in_them() {
        let name = |extension, compression| Parts::new(extension, compression).unwrap().name(7);
        assert_eq!(name("", Compression::None), "part-00007");
        assert_eq!(name("", Compression::Gzip), "part-00007.gz");
        assert_eq!(name(".csv", Compression::Zstd), "part-00007.csv.zst");
    }

    #[test]
    fn an_extension_is_no_way_out_of_the_folder() {
        for extension in
            [".", "csv", "/x", "./x", "..", ".a/b", ".a.b", ".\0", ".waytoolongforthis"]
        {
            assert!(Parts::new(extension, Compression::None).is_err(), "{extension:?}");
        }
    }
}
