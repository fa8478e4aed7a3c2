//! The plan of a Parquet file: a task reads the row groups of its split.

use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::schema::types::{SchemaDescriptor, Type};
use serde::de::DeserializeOwned;

use super::columns::{Group, Leaf};
use super::file::HostFile;
use super::filter::Filter;
use super::infer;
use super::predicate::Predicate;
use super::rows::{Bad, Row};
use super::shape::{Form, MAX_DEPTH, Node, width};
use crate::context::Context;
use crate::error::Result;
use crate::host::Framing;
use crate::plan::{Lineage, Plan};
use crate::sources::Files;
use crate::task::{self, TaskScope};

/// What all columns together may read ahead, about; and what one does at least and at most.
const AHEAD: u64 = 8 << 20;
const LEAST_AHEAD: u64 = 64 << 10;
const MOST_AHEAD: u64 = 1 << 20;

/// The plan of [`Context::parquet_file`].
pub struct ParquetFile<T> {
    files: Files,
    predicate: Option<Predicate>,
    row: PhantomData<fn() -> T>,
}

impl<T> ParquetFile<T> {
    pub(crate) fn open(
        ctx: &Context,
        path: &str,
        predicate: Option<Predicate>,
        partitions: usize,
    ) -> Result<ParquetFile<T>> {
        let files = Files::open(ctx, "parquet_file", path, Framing::Ranges, partitions)?;
        Ok(ParquetFile { files, predicate, row: PhantomData })
    }
}

impl<T: DeserializeOwned + 'static> Plan for ParquetFile<T> {
    type Item = T;

    fn partitions(&self) -> usize {
        self.files.splits()
    }

    fn compute(
        self: Rc<Self>,
        partition: usize,
        _: Rc<TaskScope>,
    ) -> impl Iterator<Item = T> + 'static {
        let file = HostFile::open(self.files.open_split(partition));
        task::set_place(Some(file.path.clone()));
        let rows = Rows::new(file, infer::wanted::<T>(), self.predicate.as_ref());
        task::set_place(None);
        Records { rows, record: PhantomData }
    }

    fn lineage(&self, lineage: &mut Lineage) {
        self.files.lineage(lineage);
        if let Some(predicate) = &self.predicate {
            lineage.operator(format!("where {predicate}"));
        }
    }

    fn prepare(&self, _: &Context) -> Result<()> {
        Ok(())
    }

    fn is_ordered(&self) -> bool {
        true
    }
}

struct Records<T> {
    rows: Rows,
    record: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Iterator for Records<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let rows = &mut self.rows;
        rows.find().then(|| {
            let row = Row { fields: &rows.fields, leaves: &mut rows.leaves };
            match T::deserialize(row) {
                Ok(record) => record,
                Err(bad) => rows.refuse(bad),
            }
        })
    }
}

/// The rows of a split.
struct Rows {
    file: Arc<HostFile>,
    /// The wanted ones.
    fields: Vec<Node>,
    /// Their columns, and behind them those that only the filter asks for.
    leaves: Vec<Leaf>,
    wanted: usize,
    filter: Option<Filter>,
    /// Row groups that are still to come, the next one last.
    groups: Vec<(usize, Arc<RowGroupMetaData>)>,
    group: usize,
    /// Rows of the group that are still to come.
    left: u64,
    row: u64,
    columns: Vec<String>,
    ahead: u64,
}

impl Rows {
    fn new(file: HostFile, wanted: Option<&[&str]>, predicate: Option<&Predicate>) -> Rows {
        let metadata = file.metadata();
        let schema = metadata.file_metadata().schema_descr();
        let columns = schema.root_schema().get_fields();
        let names: Vec<String> = columns.iter().map(|column| column.name().to_owned()).collect();
        let (mut fields, mut leaves) = (Vec::new(), Vec::new());
        let mut first = 0;
        for column in columns {
            if wanted.is_none_or(|wanted| wanted.contains(&column.name())) {
                fields.push(select(&file, schema, column, first, &mut leaves));
            }
            first += width(column);
        }
        let wanted = leaves.len();
        let filter = predicate.map(|predicate| {
            let mut find = |name: &str| filtered(&file, schema, name, &mut leaves);
            match Filter::new(&predicate.0, &mut find) {
                Ok(filter) => filter,
                Err(text) => file.refuse(text),
            }
        });
        let mut groups = own_groups(&file, &metadata);
        if let Some(filter) = &filter {
            let order = |column: usize| metadata.file_metadata().column_order(column);
            groups.retain(|(_, group)| filter.may_hold(&leaves, group, &order));
        }
        groups.reverse();
        let ahead = AHEAD / leaves.len().max(1) as u64;
        Rows {
            file: Arc::new(file),
            fields,
            leaves,
            wanted,
            filter,
            groups,
            group: 0,
            left: 0,
            row: 0,
            columns: names,
            ahead: ahead.clamp(LEAST_AHEAD, MOST_AHEAD),
        }
    }

    /// Goes to the next row that is wanted; false at the end.
    fn find(&mut self) -> bool {
        loop {
            if self.left == 0 {
                let Some((number, metadata)) = self.groups.pop() else { return false };
                self.left = metadata.num_rows() as u64;
                (self.group, self.row) = (number, 0);
                let (file, ahead) = (Arc::clone(&self.file), self.ahead);
                let group = Group { file, number, metadata, ahead };
                self.leaves.iter_mut().for_each(|leaf| leaf.begin(&group));
                continue;
            }
            self.left -= 1;
            self.row += 1;
            let holds = match &self.filter {
                Some(filter) => match filter.of_row(&mut self.leaves) {
                    Ok(holds) => holds == Some(true),
                    Err(bad) => self.refuse(bad),
                },
                None => true,
            };
            // The record takes what is its own.
            let skipped = if holds { self.wanted } else { 0 };
            self.leaves.iter_mut().skip(skipped).for_each(Leaf::skip_row);
            if holds {
                return true;
            }
        }
    }

    /// Ends the task for what is wrong with the row.
    fn refuse(&self, bad: Bad) -> ! {
        let Bad { text, is_missing, .. } = bad;
        let has = match is_missing {
            true => format!("; the file has {}", listed(&self.columns)),
            false => String::new(),
        };
        let (path, group, row) = (&self.file.path, self.group, self.row);
        task::fail(format_args!("{path}, row group {group}, row {row}: {text}{has}"))
    }
}

/// Names for a message.
fn listed(names: &[String]) -> String {
    const MOST: usize = 30;
    let mut text = names.iter().take(MOST).map(|name| format!("`{name}`")).collect::<Vec<_>>();
    if names.len() > MOST {
        text.push(format!("and {} more", names.len() - MOST));
    }
    match text.is_empty() {
        true => "no columns".to_owned(),
        false => text.join(", "),
    }
}

/// A field with its columns, of which the file's first is `first`.
fn select(
    file: &HostFile,
    schema: &SchemaDescriptor,
    column: &Type,
    first: usize,
    leaves: &mut Vec<Leaf>,
) -> Node {
    let mut next = leaves.len();
    let Some(node) = Node::of(column, &mut next) else {
        let name = column.name();
        file.refuse(format_args!("column `{name}` is nested more than {MAX_DEPTH} deep"));
    };
    let columns = first..first + width(column);
    leaves.extend(columns.map(|column| Leaf::new(column, schema.column(column))));
    node
}

/// The place of a column that a filter asks for, which may be one that is wanted already.
fn filtered(
    file: &HostFile,
    schema: &SchemaDescriptor,
    name: &str,
    leaves: &mut Vec<Leaf>,
) -> Result<usize, String> {
    let columns = schema.root_schema().get_fields();
    let mut first = 0;
    for column in columns {
        if column.name() == name {
            let known = leaves.iter().position(|leaf| leaf.column == first);
            let simple = column.is_primitive() && schema.column(first).max_rep_level() == 0;
            if !simple {
                return Err(format!(
                    "has a column `{name}` of many values, which can't be compared"
                ));
            }
            return Ok(known.unwrap_or_else(|| {
                let node = select(file, schema, column, first, leaves);
                debug_assert!(matches!(node.form, Form::Cell));
                node.leaves.start
            }));
        }
        first += width(column);
    }
    let names: Vec<_> = columns.iter().map(|column| column.name().to_owned()).collect();
    Err(format!("has no column `{name}`, which is asked for; it has {}", listed(&names)))
}

/// The row groups of a split: those whose middle lies in it. All of the file's are checked: what no split had would be lost.
fn own_groups(file: &HostFile, metadata: &ParquetMetaData) -> Vec<(usize, Arc<RowGroupMetaData>)> {
    let extent = file.extent;
    let mut own = Vec::new();
    for (number, group) in metadata.row_groups().iter().enumerate() {
        let (mut start, mut length) = (extent.length, 0u64);
        for column in group.columns() {
            let first = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
            let part = u64::try_from(first).ok().zip(u64::try_from(column.compressed_size()).ok());
            let part = part.filter(|(first, len)| {
                first.checked_add(*len).is_some_and(|end| end <= extent.length)
            });
            let Some((first, len)) = part else {
                let name = column.column_path().string();
                file.refuse(format_args!(
                    "is no sound Parquet file: row group {number}, column `{name}` lies outside of it"
                ));
            };
            start = start.min(first);
            length = length.saturating_add(len);
        }
        if group.num_rows() < 0
            || group.num_columns() != metadata.file_metadata().schema_descr().num_columns()
        {
            file.refuse(format_args!(
                "is no sound Parquet file: row group {number} has {} rows of {} columns",
                group.num_rows(),
                group.num_columns()
            ));
        }
        let last = extent.length.saturating_sub(1);
        let middle = start.saturating_add(length / 2).min(last);
        if (extent.start..extent.end).contains(&middle) {
            own.push((number, Arc::new(group.clone())));
        }
    }
    own
}
