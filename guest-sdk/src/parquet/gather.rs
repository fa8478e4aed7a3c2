//! What is gathered of records, column by column, until it is a row group.

use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::{ParquetError, Result as ParquetResult};

use super::shape::Node;

/// What is gathered of a column for a row group.
#[derive(Debug)]
pub(crate) struct Gathered {
    pub values: Values,
    pub is_unsigned: bool,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
}

#[derive(Debug)]
pub(crate) enum Values {
    Bool(Vec<bool>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bytes(Vec<ByteArray>),
}

impl Gathered {
    pub fn new(values: Values, is_unsigned: bool) -> Gathered {
        Gathered { values, is_unsigned, definitions: Vec::new(), repetitions: Vec::new() }
    }

    /// Writes it to a column of its type, and forgets it.
    pub fn write(&mut self, to: &mut ColumnWriter<'_>) -> ParquetResult<()> {
        let levels = (Some(&self.definitions[..]), Some(&self.repetitions[..]));
        let written = match (&self.values, to) {
            (Values::Bool(values), ColumnWriter::BoolColumnWriter(to)) => {
                to.write_batch(values, levels.0, levels.1)
            }
            (Values::I32(values), ColumnWriter::Int32ColumnWriter(to)) => {
                to.write_batch(values, levels.0, levels.1)
            }
            (Values::I64(values), ColumnWriter::Int64ColumnWriter(to)) => {
                to.write_batch(values, levels.0, levels.1)
            }
            (Values::F32(values), ColumnWriter::FloatColumnWriter(to)) => {
                to.write_batch(values, levels.0, levels.1)
            }
            (Values::F64(values), ColumnWriter::DoubleColumnWriter(to)) => {
                to.write_batch(values, levels.0, levels.1)
            }
            (Values::Bytes(values), ColumnWriter::ByteArrayColumnWriter(to)) => {
                to.write_batch(values, levels.0, levels.1)
            }
            _ => Err(ParquetError::General("a column is of another type".into())),
        };
        self.definitions.clear();
        self.repetitions.clear();
        match &mut self.values {
            Values::Bool(values) => values.clear(),
            Values::I32(values) => values.clear(),
            Values::I64(values) => values.clear(),
            Values::F32(values) => values.clear(),
            Values::F64(values) => values.clear(),
            Values::Bytes(values) => values.clear(),
        }
        written.map(drop)
    }
}

/// All columns of a row group in the making.
#[derive(Debug)]
pub(crate) struct Columns {
    pub gathered: Vec<Gathered>,
    /// How much that is, about.
    pub bytes: usize,
}

impl Columns {
    /// Adds the levels of a value, and gives where it goes if there is one.
    pub fn levels(&mut self, leaf: usize, definition: i16, repetition: i16) -> Option<&mut Values> {
        // What the levels take.
        self.bytes += 4;
        let gathered = self.gathered.get_mut(leaf)?;
        gathered.definitions.push(definition);
        gathered.repetitions.push(repetition);
        Some(&mut gathered.values)
    }

    /// Nothing of a field, from this level of definition on.
    pub fn nothing(&mut self, node: &Node, definition: i16, repetition: i16) {
        for leaf in node.leaves.clone() {
            self.levels(leaf, definition, repetition);
        }
    }
}
