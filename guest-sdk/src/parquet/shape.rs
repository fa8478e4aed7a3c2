//! How columns make up a record: the same for records that are read and for those that are written.

use std::ops::Range;

use parquet::basic::{ConvertedType, LogicalType, Repetition};
use parquet::schema::types::Type;

/// Deeper than what people nest.
pub(crate) const MAX_DEPTH: usize = 64;

/// A field: one column, or several that make one value.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub name: String,
    /// The level of definition at which it isn't null, if it may be that.
    pub optional: Option<i16>,
    /// The level at which it is there.
    pub defined: i16,
    /// Its columns.
    pub leaves: Range<usize>,
    pub form: Form,
}

#[derive(Clone, Debug)]
pub(crate) enum Form {
    /// One value.
    Cell,
    Struct(Vec<Node>),
    List(Repeats, Box<Node>),
    Map(Repeats, Box<(Node, Node)>),
}

/// The levels of what is repeated: that of definition at which there is one, and that of repetition of a further one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Repeats {
    pub defined: i16,
    pub level: i16,
}

impl Node {
    /// A field of the schema; `leaf` counts columns. None if it is nested too deep.
    pub fn of(field: &Type, leaf: &mut usize) -> Option<Node> {
        build(field, Repeats { defined: 0, level: 0 }, leaf, MAX_DEPTH)
    }
}

/// How many columns a field of the schema has.
pub(crate) fn width(field: &Type) -> usize {
    match field {
        Type::PrimitiveType { .. } => 1,
        Type::GroupType { fields, .. } => fields.iter().map(|field| width(field)).sum(),
    }
}

fn repetition(field: &Type) -> Repetition {
    let info = field.get_basic_info();
    if info.has_repetition() { info.repetition() } else { Repetition::REQUIRED }
}

fn build(field: &Type, around: Repeats, leaf: &mut usize, depth: usize) -> Option<Node> {
    let depth = depth.checked_sub(1)?;
    let first = *leaf;
    let defined = around.defined.checked_add(1)?;
    match repetition(field) {
        Repetition::REQUIRED => {
            let form = form(field, around, leaf, depth)?;
            Some(node(field, None, around.defined, first..*leaf, form))
        }
        Repetition::OPTIONAL => {
            let form = form(field, Repeats { defined, ..around }, leaf, depth)?;
            Some(node(field, Some(defined), defined, first..*leaf, form))
        }
        // Without an annotation around it: a list of its own.
        Repetition::REPEATED => {
            let repeats = Repeats { defined, level: around.level + 1 };
            let form = form(field, repeats, leaf, depth)?;
            let element = node(field, None, defined, first..*leaf, form);
            let form = Form::List(repeats, Box::new(element));
            Some(node(field, None, around.defined, first..*leaf, form))
        }
    }
}

fn node(
    field: &Type,
    optional: Option<i16>,
    defined: i16,
    leaves: Range<usize>,
    form: Form,
) -> Node {
    Node { name: field.name().to_owned(), optional, defined, leaves, form }
}

fn form(field: &Type, around: Repeats, leaf: &mut usize, depth: usize) -> Option<Form> {
    let Type::GroupType { basic_info, fields } = field else {
        *leaf += 1;
        return Some(Form::Cell);
    };
    let (logical, converted) = (basic_info.logical_type_ref(), basic_info.converted_type());
    let repeated = match fields.as_slice() {
        [only] if repetition(only) == Repetition::REPEATED => Some(only),
        _ => None,
    };
    let inside = Repeats { defined: around.defined.checked_add(1)?, level: around.level + 1 };
    let is_map = matches!(logical, Some(LogicalType::Map))
        || matches!(converted, ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE);
    if let (true, Some(entry)) = (is_map, repeated)
        && let Type::GroupType { fields, .. } = &**entry
        && let [key, value] = fields.as_slice()
    {
        let key = build(key, inside, leaf, depth)?;
        let value = build(value, inside, leaf, depth)?;
        return Some(Form::Map(inside, Box::new((key, value))));
    }
    let is_list = matches!(logical, Some(LogicalType::List)) || converted == ConvertedType::LIST;
    if let (true, Some(list)) = (is_list, repeated) {
        let element = match &**list {
            // Old writers have the element itself repeated; these are their names for it.
            Type::GroupType { fields, .. }
                if fields.len() == 1
                    && list.name() != "array"
                    && list.name() != format!("{}_tuple", field.name()) =>
            {
                build(&fields[0], inside, leaf, depth)?
            }
            itself => {
                let first = *leaf;
                let form = form(itself, inside, leaf, depth)?;
                node(itself, None, inside.defined, first..*leaf, form)
            }
        };
        return Some(Form::List(inside, Box::new(element)));
    }
    let fields = fields.iter().map(|field| build(field, around, leaf, depth));
    Some(Form::Struct(fields.collect::<Option<_>>()?))
}
