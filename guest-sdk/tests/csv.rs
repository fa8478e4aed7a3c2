//! Rows of CSV files.

use std::fs;

use ingle::prelude::*;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct City {
    name: String,
    people: u32,
    height: Option<f64>,
}

fn city(name: &str, people: u32, height: Option<f64>) -> City {
    City { name: name.to_owned(), people, height }
}

fn file(text: &[u8]) -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cities.csv");
    fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

fn read(text: &[u8]) -> Result<Vec<City>> {
    let (_dir, path) = file(text);
    Context::local().csv_file::<City>(path)?.collect()
}

/// The message of a file that can't be read.
fn refusal(text: &[u8]) -> String {
    let error = read(text).unwrap_err().to_string();
    assert!(error.contains("cities.csv"), "{error}");
    error
}

#[test]
fn rows_become_structs_by_the_names_of_columns() {
    let rows = read(b"people,name,height\n10,Ulm,478.5\n20,Bonn,\n").unwrap();
    assert_eq!(rows, [city("Ulm", 10, Some(478.5)), city("Bonn", 20, None)]);
}

#[test]
fn columns_that_nobody_asks_for_are_left_out() {
    let rows = read(b"name,mayor,people,height\nUlm,X,10,1\n").unwrap();
    assert_eq!(rows, [city("Ulm", 10, Some(1.0))]);
}

#[test]
fn rows_may_become_tuples() {
    let (_dir, path) = file(b"name,people\nUlm,10\n");
    let rows = Context::local().csv_file::<(String, u32)>(path).unwrap();
    assert_eq!(rows.collect().unwrap(), [("Ulm".to_owned(), 10)]);
}

#[test]
fn quotes_hold_separators_and_quotes() {
    let rows = read(b"name,people,height\n\"Frankfurt, \"\"Main\"\"\",3,\n").unwrap();
    assert_eq!(rows, [city("Frankfurt, \"Main\"", 3, None)]);
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_are_no_part_of_fields() {
    let rows = read(b"\xEF\xBB\xBFname,people,height\r\nUlm,10,1\r\n").unwrap();
    assert_eq!(rows, [city("Ulm", 10, Some(1.0))]);
}

#[test]
fn a_last_row_needs_no_line_break() {
    assert_eq!(read(b"name,people,height\nUlm,10,").unwrap(), [city("Ulm", 10, None)]);
}

#[test]
fn a_file_with_nothing_or_only_a_header_has_no_rows() {
    assert_eq!(read(b"").unwrap(), []);
    assert_eq!(read(b"name,people,height").unwrap(), []);
    assert_eq!(read(b"name,people,height\n").unwrap(), []);
}

#[test]
fn empty_lines_are_no_rows() {
    let rows = read(b"name,people,height\n\nUlm,10,\n\r\n\nBonn,20,\n\n").unwrap();
    assert_eq!(rows, [city("Ulm", 10, None), city("Bonn", 20, None)]);
}

#[test]
fn too_few_fields_name_file_and_line() {
    let error = refusal(b"name,people,height\nUlm,10,\nBonn,20\n");
    assert!(error.contains("cities.csv, line 3: the row has 2 fields, the header 3"), "{error}");
}

#[test]
fn too_many_fields_name_file_and_line() {
    let error = refusal(b"name,people,height\nUlm,10,1,1\n");
    assert!(error.contains("cities.csv, line 2: the row has 4 fields, the header 3"), "{error}");
}

#[test]
fn a_bad_field_names_line_and_column() {
    let error = refusal(b"name,people,height\nUlm,10,\nBonn,many,\n");
    assert!(error.contains("cities.csv, line 3: column `people`"), "{error}");
}

#[test]
fn a_missing_column_is_named() {
    let error = refusal(b"name,height\nUlm,1\n");
    assert!(error.contains("line 2") && error.contains("missing field `people`"), "{error}");
}

#[test]
fn empty_lines_count_where_a_line_is_named() {
    let error = refusal(b"name,people,height\nUlm,10,\n\n\r\nBonn,many,\n");
    assert!(error.contains("line 5: column `people`"), "{error}");
}

#[test]
fn a_field_that_is_not_utf8_names_line_and_column() {
    let error = refusal(b"name,people,height\nUlm,10,\nB\xFFnn,20,\n");
    assert!(error.contains("line 3: column `name`: not UTF-8"), "{error}");
}

#[test]
fn a_line_break_in_a_field_is_refused() {
    let error = refusal(b"name,people,height\nUlm,10,\n\"Bad\nHomburg\",20,\n");
    assert!(error.contains("line 3: a field holds a line break"), "{error}");
}

#[test]
fn lines_are_named_rightly_in_later_partitions() {
    let mut text = "name,people,height\n".to_owned();
    text.extend((0..99).map(|i| format!("city {i},{i},\n")));
    text.push_str("last,many,\n");
    let (_dir, path) = file(text.as_bytes());
    let rows = Context::local().csv_file_with_partitions::<City>(path, 5).unwrap();
    let error = rows.count().unwrap_err().to_string();
    assert!(error.contains("partition 4"), "{error}");
    assert!(error.contains("line 101: column `people`"), "{error}");
}

#[test]
fn csv_file_with_partitions_reads_each_row_once() {
    let mut text = "name,people,height\n".to_owned();
    text.extend((0..100).map(|i| format!("city {i},{i},{i}.5\n")));
    let (_dir, path) = file(text.as_bytes());
    let model: Vec<City> =
        (0..100).map(|i| city(&format!("city {i}"), i, Some(f64::from(i) + 0.5))).collect();
    for partitions in [1, 2, 7, 40] {
        let rows = Context::local().csv_file_with_partitions::<City>(&path, partitions).unwrap();
        assert_eq!(rows.num_partitions(), partitions);
        assert_eq!(rows.collect().unwrap(), model);
    }
}

#[test]
fn each_file_of_a_folder_has_its_own_header() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.csv"), "name,people,height\nUlm,1,\n").unwrap();
    fs::write(dir.path().join("b.csv"), "height,people,name\n3,2,Bonn\n").unwrap();
    fs::write(dir.path().join("_SUCCESS"), "").unwrap();
    let rows = Context::local().csv_file::<City>(dir.path().to_str().unwrap()).unwrap();
    assert_eq!(rows.collect().unwrap(), [city("Ulm", 1, None), city("Bonn", 2, Some(3.0))]);
}

#[test]
fn rows_beyond_one_block_are_read_and_named() {
    let mut text = "name,people,height\n".to_owned();
    text.extend((0..30_000).map(|i| format!("a city with some name {i},{i},\n")));
    let rows = read(text.as_bytes()).unwrap();
    assert_eq!(rows.len(), 30_000);
    assert!(rows.iter().zip(0..).all(|(row, i)| row.people == i));
    text.push_str("last,many,\n");
    let error = refusal(text.as_bytes());
    assert!(error.contains("line 30002: column `people`"), "{error}");
}

#[test]
fn what_save_as_csv_wrote_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out").to_str().unwrap().to_owned();
    let ctx = Context::local();
    let cities = [city("Köln \"am Rhein\", links", 7, None), city("", 0, Some(-0.5))];
    ctx.parallelize(cities.clone(), 3).save_as_csv(&path).unwrap();
    assert_eq!(ctx.csv_file::<City>(&path).unwrap().collect().unwrap(), cities);
}
