//! `flights DIR`: flights and delays by carrier, with the carrier's name, from `DIR/flights.csv` and `DIR/airlines.csv` or
//! their `.gz`.

use ingle::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Flight {
    carrier: String,
    /// Minutes, or `NA` where the flight did not arrive.
    arr_delay: String,
}

#[derive(Deserialize)]
struct Airline {
    carrier: String,
    name: String,
}

#[ingle::main]
fn main(ctx: &Context) -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder] = args.as_slice() else {
        bail!("usage: flights DIR");
    };
    let delays = ctx
        .csv_file::<Flight>(table(folder, "flights"))?
        .try_map(|flight| match flight.arr_delay.as_str() {
            "NA" | "" => Ok((flight.carrier, (1u64, 0u64, 0.0))),
            delay => {
                let delay: f64 =
                    delay.parse().with_context(|| format!("arr_delay is `{delay}`"))?;
                Ok((flight.carrier, (1, 1, delay)))
            }
        })
        .reduce_by_key(|a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2));
    let names = ctx
        .csv_file::<Airline>(table(folder, "airlines"))?
        .map(|airline| (airline.carrier, airline.name));

    for (carrier, ((flights, arrived, delay), name)) in
        delays.join(&names).sort_by_key(true).collect()?
    {
        let mean = if arrived > 0 { delay / arrived as f64 } else { f64::NAN };
        println!("{carrier}\t{flights}\t{arrived}\t{mean:.4}\t{name}");
    }
    Ok(())
}

/// The path of a table, whichever form it is there in.
fn table(folder: &str, name: &str) -> String {
    let plain = format!("{folder}/{name}.csv");
    if std::fs::exists(&plain).unwrap_or(false) { plain } else { format!("{plain}.gz") }
}
