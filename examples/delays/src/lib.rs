//! `delays FLIGHTS OUT MINUTES`: keeps a CSV file of flights as Parquet in `OUT`, then counts by carrier, from that, the flights that were so late.

use ingle::parquet::col;
use ingle::prelude::*;
use serde::{Deserialize, Serialize};

/// A line of the CSV file.
#[derive(Deserialize)]
struct Line {
    carrier: String,
    origin: String,
    dest: String,
    /// Minutes, or `NA` where the flight did not arrive.
    arr_delay: String,
}

/// A row of the Parquet files.
#[derive(Serialize, Deserialize)]
struct Flight {
    carrier: String,
    origin: String,
    dest: String,
    arr_delay: Option<f64>,
}

/// What is asked of them: of the other columns nothing is read.
#[derive(Deserialize)]
struct Late {
    carrier: String,
}

#[ingle::main]
fn main(ctx: &Context) -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [flights, out, minutes] = args.as_slice() else {
        bail!("usage: delays FLIGHTS OUT MINUTES");
    };
    ctx.csv_file::<Line>(flights)?
        .try_map(|line| {
            let Line { carrier, origin, dest, arr_delay: delay } = line;
            let arr_delay = match delay.as_str() {
                "NA" | "" => None,
                text => Some(text.parse().with_context(|| format!("arr_delay is `{text}`"))?),
            };
            Ok(Flight { carrier, origin, dest, arr_delay })
        })
        .save_as_parquet(out)?;

    let late = col("arr_delay").ge(minutes.parse::<f64>()?);
    let carriers = ctx.parquet_file_where::<Late>(out, late)?.map(|flight| (flight.carrier, 1u64));
    for (carrier, flights) in carriers.reduce_by_key(|a, b| a + b).sort_by_key(true).collect()? {
        println!("{carrier}\t{flights}");
    }
    Ok(())
}
