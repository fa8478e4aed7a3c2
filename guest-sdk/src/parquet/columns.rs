//! One column of the row group that is read: its values, one after the other, with the levels that say how they make rows.

use std::sync::Arc;

use parquet::column::page::PageReader;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::{
    BoolType, ByteArrayType, DataType, DoubleType, FixedLenByteArrayType, FloatType, Int32Type,
    Int64Type, Int96Type,
};
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::RowGroupMetaData;
use parquet::schema::types::ColumnDescPtr;

use super::cells::{Cell, Kind, Raw};
use super::file::{HostFile, words};
use super::pages;
use super::rows::Bad;
use crate::task;

/// How many rows are decoded at a time.
const ROWS: usize = 1024;

/// A row group of a file.
#[derive(Clone)]
pub(crate) struct Group {
    pub file: Arc<HostFile>,
    pub number: usize,
    pub metadata: Arc<RowGroupMetaData>,
    /// How much of a column is read at once.
    pub ahead: u64,
}

/// A column, and where in it the next row begins. Opened when something of it is first asked for.
pub(crate) struct Leaf {
    /// With what it lies in: `address.town`.
    pub name: String,
    /// Its place in the file.
    pub column: usize,
    descriptor: ColumnDescPtr,
    pub kind: Kind,
    most_defined: i16,
    repeats: bool,
    group: Option<Group>,
    reader: Option<Typed>,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
    levels: usize,
    /// The next of the levels, and of the values.
    at: usize,
    value: usize,
    /// Rows to skip before more are decoded.
    skipped: usize,
}

impl Leaf {
    pub fn new(column: usize, descriptor: ColumnDescPtr) -> Leaf {
        Leaf {
            name: descriptor.path().string(),
            column,
            kind: Kind::of(&descriptor),
            most_defined: descriptor.max_def_level(),
            repeats: descriptor.max_rep_level() > 0,
            descriptor,
            group: None,
            reader: None,
            definitions: Vec::new(),
            repetitions: Vec::new(),
            levels: 0,
            at: 0,
            value: 0,
            skipped: 0,
        }
    }

    /// Goes to the first row of a row group.
    pub fn begin(&mut self, group: &Group) {
        self.group = Some(group.clone());
        self.reader = None;
        (self.levels, self.at, self.value, self.skipped) = (0, 0, 0, 0);
    }

    /// An error about this column.
    pub fn bad(&self, text: impl std::fmt::Display) -> Bad {
        let physical = self.descriptor.physical_type();
        let logical = match self.kind {
            Kind::Text => " text",
            Kind::Unsigned => " unsigned",
            Kind::Decimal(_) => " decimal",
            _ => "",
        };
        Bad::new(format!("column `{}` ({physical}{logical}): {text}", self.name))
    }

    /// Decodes the next rows; there are some.
    fn fill(&mut self) -> Result<(), Bad> {
        let place = self.group.as_ref().map(|group| {
            format!("{}, row group {}, column `{}`", group.file.path, group.number, self.name)
        });
        task::set_place(place);
        let filled = self.decode();
        task::set_place(None);
        match filled {
            Ok(0) => Err(self.bad("it has fewer rows than its row group")),
            Ok(_) => Ok(()),
            Err(error) => Err(self.bad(words(&error))),
        }
    }

    fn decode(&mut self) -> ParquetResult<usize> {
        let mut reader = match (self.reader.take(), &self.group) {
            (Some(reader), _) => reader,
            (None, Some(group)) => {
                let chunk = group.metadata.column(self.column);
                let pages = pages::open(&group.file, &group.metadata, chunk, group.ahead)?;
                Typed::new(self.descriptor.clone(), pages)
            }
            (None, None) => return Ok(0),
        };
        let skipped = std::mem::take(&mut self.skipped);
        if skipped > 0 && reader.skip(skipped)? < skipped {
            return Ok(0);
        }
        self.definitions.clear();
        self.repetitions.clear();
        (self.at, self.value) = (0, 0);
        let (rows, levels) = reader.read(&mut self.definitions, &mut self.repetitions)?;
        self.levels = levels;
        self.reader = Some(reader);
        Ok(rows)
    }

    /// How much is defined of what is next.
    pub fn definition(&mut self) -> Result<i16, Bad> {
        if self.at == self.levels {
            self.fill()?;
        }
        Ok(self.defined())
    }

    fn defined(&self) -> i16 {
        match self.most_defined {
            0 => 0,
            _ => self.definitions.get(self.at).copied().unwrap_or_default(),
        }
    }

    /// At which level what is next repeats; 0: it is of the next row. To be asked within a row.
    pub fn repetition(&self) -> i16 {
        match self.repeats {
            // Whole rows are decoded.
            true => self.repetitions.get(self.at).copied().unwrap_or_default(),
            false => 0,
        }
    }

    /// The value that is next; none if it is null.
    pub fn cell(&mut self) -> Result<Option<Cell<'_>>, Bad> {
        if self.definition()? < self.most_defined {
            return Ok(None);
        }
        let raw = self.reader.as_ref().and_then(|reader| reader.value(self.value));
        match raw.map(|raw| Cell::of(self.kind, raw)) {
            Some(Some(cell)) => Ok(Some(cell)),
            Some(None) => Err(self.bad("a value is longer than its type")),
            None => Err(self.bad("it has fewer values than it says")),
        }
    }

    /// Goes on to what follows.
    pub fn advance(&mut self) {
        if self.defined() == self.most_defined {
            self.value += 1;
        }
        self.at += 1;
    }

    /// Goes on to the next row; what wasn't decoded needn't be.
    pub fn skip_row(&mut self) {
        if self.at == self.levels {
            self.skipped += 1;
            return;
        }
        self.advance();
        while self.repetition() > 0 {
            self.advance();
        }
    }

    /// Goes on to what follows a value that repeats below a level.
    pub fn skip_value(&mut self, level: i16) -> Result<(), Bad> {
        self.definition()?;
        self.advance();
        while self.repetition() > level {
            self.advance();
        }
        Ok(())
    }
}

/// Of one type: a reader, and what it decoded.
struct Decoder<D: DataType> {
    reader: ColumnReaderImpl<D>,
    values: Vec<D::T>,
}

enum Typed {
    Bool(Decoder<BoolType>),
    I32(Decoder<Int32Type>),
    I64(Decoder<Int64Type>),
    I96(Decoder<Int96Type>),
    F32(Decoder<FloatType>),
    F64(Decoder<DoubleType>),
    Bytes(Decoder<ByteArrayType>),
    Fixed(Decoder<FixedLenByteArrayType>),
}

/// The same for a decoder of any type.
macro_rules! each {
    ($typed:expr, $decoder:ident => $body:expr) => {
        match $typed {
            Typed::Bool($decoder) => $body,
            Typed::I32($decoder) => $body,
            Typed::I64($decoder) => $body,
            Typed::I96($decoder) => $body,
            Typed::F32($decoder) => $body,
            Typed::F64($decoder) => $body,
            Typed::Bytes($decoder) => $body,
            Typed::Fixed($decoder) => $body,
        }
    };
}

impl Typed {
    fn new(descriptor: ColumnDescPtr, pages: Box<dyn PageReader>) -> Typed {
        fn decoder<D: DataType>(reader: ColumnReaderImpl<D>) -> Decoder<D> {
            Decoder { reader, values: Vec::new() }
        }
        match get_column_reader(descriptor, pages) {
            ColumnReader::BoolColumnReader(reader) => Typed::Bool(decoder(reader)),
            ColumnReader::Int32ColumnReader(reader) => Typed::I32(decoder(reader)),
            ColumnReader::Int64ColumnReader(reader) => Typed::I64(decoder(reader)),
            ColumnReader::Int96ColumnReader(reader) => Typed::I96(decoder(reader)),
            ColumnReader::FloatColumnReader(reader) => Typed::F32(decoder(reader)),
            ColumnReader::DoubleColumnReader(reader) => Typed::F64(decoder(reader)),
            ColumnReader::ByteArrayColumnReader(reader) => Typed::Bytes(decoder(reader)),
            ColumnReader::FixedLenByteArrayColumnReader(reader) => Typed::Fixed(decoder(reader)),
        }
    }

    /// How many rows and levels were decoded.
    fn read(
        &mut self,
        definitions: &mut Vec<i16>,
        repetitions: &mut Vec<i16>,
    ) -> ParquetResult<(usize, usize)> {
        each!(self, decoder => {
            decoder.values.clear();
            let (levels, values) = ((Some(definitions), Some(repetitions)), &mut decoder.values);
            let read = decoder.reader.read_records(ROWS, levels.0, levels.1, values)?;
            Ok((read.0, read.2))
        })
    }

    fn skip(&mut self, rows: usize) -> ParquetResult<usize> {
        each!(self, decoder => decoder.reader.skip_records(rows))
    }

    fn value(&self, at: usize) -> Option<Raw<'_>> {
        Some(match self {
            Typed::Bool(decoder) => Raw::Bool(*decoder.values.get(at)?),
            Typed::I32(decoder) => Raw::I32(*decoder.values.get(at)?),
            Typed::I64(decoder) => Raw::I64(*decoder.values.get(at)?),
            Typed::I96(decoder) => Raw::I96(decoder.values.get(at)?),
            Typed::F32(decoder) => Raw::F32(*decoder.values.get(at)?),
            Typed::F64(decoder) => Raw::F64(*decoder.values.get(at)?),
            Typed::Bytes(decoder) => Raw::Bytes(decoder.values.get(at)?.data()),
            Typed::Fixed(decoder) => Raw::Bytes(decoder.values.get(at)?.data()),
        })
    }
}
