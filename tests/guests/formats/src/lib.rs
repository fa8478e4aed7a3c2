//! `formats WHAT ARGS`: files of other formats than plain lines, written and read.

use std::collections::BTreeMap;

use ingle::parquet::{ParquetCodec, ParquetOptions, col};
use ingle::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    number: u64,
    half: Option<f64>,
    /// Large, so that it shows whether it is read: nothing compresses it.
    noise: Vec<u8>,
    words: Vec<String>,
    by_name: BTreeMap<String, Option<i32>>,
}

#[derive(Deserialize)]
struct Number {
    number: u64,
}

#[derive(Deserialize)]
struct Town {
    town: Option<String>,
    people: i64,
}

fn row(number: u64) -> Row {
    let mut state = number;
    let mut noise = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    Row {
        number,
        half: (!number.is_multiple_of(3)).then_some(number as f64 / 2.0),
        noise: (0..400).map(|_| noise()).collect(),
        words: (0..number % 4).map(|at| format!("word {at} of {number}")).collect(),
        by_name: (0..number % 2).map(|at| (format!("{number}"), Some(at as i32))).collect(),
    }
}

#[ingle::main]
fn main(ctx: &Context) -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        // Rows to files of so many row groups.
        ["write", path, size, files, group, codec] => {
            let codec = match *codec {
                "none" => ParquetCodec::None,
                "gzip" => ParquetCodec::Gzip,
                "lz4" => ParquetCodec::Lz4,
                _ => ParquetCodec::Snappy,
            };
            let options = ParquetOptions::new().codec(codec).row_group_rows(group.parse()?);
            ctx.range(0..size.parse()?, files.parse()?)
                .map(row)
                .save_as_parquet_with(path, &options)?;
        }
        ["all", path] => {
            let rows = ctx.parquet_file::<Row>(path)?;
            let wrong = rows.filter(|read| *read != row(read.number));
            println!("{} rows, {} wrong", rows.count()?, wrong.count()?);
        }
        ["numbers", path] => {
            let numbers = ctx.parquet_file::<Number>(path)?.map(|row| row.number);
            println!("{}", numbers.sum()?);
        }
        ["from", path, least] => {
            let some = col("number").ge(least.parse::<u64>()?);
            let rows = ctx.parquet_file_where::<Row>(path, some)?;
            println!("{}", rows.map(|row| row.number).sum()?);
        }
        ["towns", path] => {
            let towns = ctx.parquet_file::<Town>(path)?;
            for town in towns.map(|town| (town.town, town.people)).collect()? {
                println!("{town:?}");
            }
        }
        // Text as it is and compressed, by what the text says.
        ["lines", path, size, compression] => {
            let compression = match *compression {
                "gzip" => Compression::Gzip,
                "zstd" => Compression::Zstd,
                _ => Compression::None,
            };
            let lines = ctx.range(0..size.parse()?, 3).map(|n| format!("line {n} of many"));
            lines.save_as_text_file_compressed(path, compression)?;
            println!("{}", ctx.text_file(path)?.count()?);
        }
        _ => bail!("usage: formats write PATH SIZE FILES GROUP CODEC | all PATH | …"),
    }
    Ok(())
}
