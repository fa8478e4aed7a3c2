//! The pages of a column chunk, decompressed.
//!
//! Of what the crate `parquet` decompresses by C libraries, zstd is done here: pages are taken as they are, and decompressed by Rust alone.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::serialized_reader::SerializedPageReader;
use ruzstd::decoding::StreamingDecoder;

use super::file::{Chunk, HostFile};

/// The pages of a column, of a footer that was checked.
pub(crate) fn open(
    file: &Arc<HostFile>,
    group: &RowGroupMetaData,
    column: &ColumnChunkMetaData,
    ahead: u64,
) -> ParquetResult<Box<dyn PageReader>> {
    let (start, length) = column.byte_range();
    let chunk = Arc::new(Chunk::new(file, start + length, ahead));
    let rows = group.num_rows() as usize;
    let pages = |column| SerializedPageReader::new(Arc::clone(&chunk), column, rows, None);
    match column.compression() {
        Compression::ZSTD(_) => {
            let raw = column.clone().into_builder().set_compression(Compression::UNCOMPRESSED);
            let most = column.uncompressed_size().max(0) as u64;
            Ok(Box::new(Zstd { pages: pages(&raw.build()?)?, most }))
        }
        Compression::BROTLI(_) | Compression::LZO => {
            let codec = column.compression();
            let codec = codec.to_string();
            let name = codec.split('(').next().unwrap_or_default();
            Err(ParquetError::General(format!(
                "it is compressed by {name}, which can't be read here; write it by ZSTD, SNAPPY, LZ4_RAW, GZIP or not compressed"
            )))
        }
        _ => Ok(Box::new(pages(column)?)),
    }
}

/// Pages that are compressed by zstd.
struct Zstd {
    pages: SerializedPageReader<Chunk>,
    /// No page is larger than its column.
    most: u64,
}

impl Zstd {
    fn decompress(&self, page: Page) -> ParquetResult<Page> {
        Ok(match page {
            Page::DataPage {
                buf,
                num_values,
                encoding,
                def_level_encoding,
                rep_level_encoding,
                statistics,
            } => Page::DataPage {
                buf: self.text(&buf, 0)?,
                num_values,
                encoding,
                def_level_encoding,
                rep_level_encoding,
                statistics,
            },
            Page::DataPageV2 {
                buf,
                num_values,
                encoding,
                num_nulls,
                num_rows,
                def_levels_byte_len,
                rep_levels_byte_len,
                is_compressed: true,
                statistics,
            } => Page::DataPageV2 {
                buf: self
                    .text(&buf, def_levels_byte_len as usize + rep_levels_byte_len as usize)?,
                num_values,
                encoding,
                num_nulls,
                num_rows,
                def_levels_byte_len,
                rep_levels_byte_len,
                is_compressed: false,
                statistics,
            },
            Page::DictionaryPage { buf, num_values, encoding, is_sorted } => {
                Page::DictionaryPage { buf: self.text(&buf, 0)?, num_values, encoding, is_sorted }
            }
            other @ Page::DataPageV2 { .. } => other,
        })
    }

    /// What is behind the first `plain` bytes, decompressed, and these before it.
    fn text(&self, bytes: &Bytes, plain: usize) -> ParquetResult<Bytes> {
        let broken = |why: String| ParquetError::General(format!("a page is no sound zstd: {why}"));
        let Some((plain, mut compressed)) = bytes.split_at_checked(plain) else {
            return Err(broken("it is shorter than its levels".into()));
        };
        let mut text = plain.to_vec();
        // Nothing but nulls may be nothing at all.
        if !compressed.is_empty() {
            let frame =
                StreamingDecoder::new(&mut compressed).map_err(|e| broken(e.to_string()))?;
            let read = frame.take(self.most).read_to_end(&mut text);
            read.map_err(|e| broken(e.to_string()))?;
        }
        Ok(text.into())
    }
}

impl Iterator for Zstd {
    type Item = ParquetResult<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Zstd {
    fn get_next_page(&mut self) -> ParquetResult<Option<Page>> {
        let page = self.pages.get_next_page()?;
        page.map(|page| self.decompress(page)).transpose()
    }

    fn peek_next_page(&mut self) -> ParquetResult<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> ParquetResult<()> {
        self.pages.skip_next_page()
    }

    fn supports_deferred_dictionary(&self) -> bool {
        self.pages.supports_deferred_dictionary()
    }

    fn take_deferred_dictionary(&mut self) -> ParquetResult<Option<Page>> {
        let page = self.pages.take_deferred_dictionary()?;
        page.map(|page| self.decompress(page)).transpose()
    }

    fn at_record_boundary(&mut self) -> ParquetResult<bool> {
        self.pages.at_record_boundary()
    }
}
