//! What people ask a cluster: `ingle apps`, `workers`, `logs`, `explain`, `decommission`.

use std::io::Write;

use clap::Args;
use ingle_cluster::verbs::Asker;
use ingle_core::size::ByteSize;

use crate::master;
use crate::terminal::{self, Screen};

/// Which cluster is asked.
#[derive(Args, Clone, Debug)]
pub struct Which {
    /// The master: ingle://HOST:PORT.
    #[arg(long, value_name = "MASTER", env = "INGLE_MASTER")]
    master: Option<String>,
}

/// A question.
pub enum Question<'a> {
    /// All applications and drivers.
    Apps,
    /// All workers.
    Workers,
    /// What an application or a driver waits for.
    Explain(&'a str),
    /// What an application or a driver printed, and whether to go on.
    Logs(&'a str, bool),
    /// Gives a worker no more work.
    Decommission(&'a str),
}

/// Asks, and prints the answer.
pub fn ask(which: &Which, question: &Question<'_>) -> Result<(), String> {
    let named = which.master.as_deref();
    let named =
        named.ok_or("which cluster? give --master ingle://HOST:PORT, or set INGLE_MASTER")?;
    let address = master::cluster(named)
        .ok_or_else(|| format!("{named} is no master: write ingle://HOST:PORT"))?
        .map_err(|failure| failure.text)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("starting: {e}"))?;
    runtime.block_on(async {
        let mut asker = Asker::connect(&address).await?;
        match question {
            Question::Apps => print(&apps(&asker.applications().await?)),
            Question::Workers => print(&workers(&asker.workers().await?)),
            Question::Explain(id) => print(&format!("{}\n", asker.explain(id).await?)),
            Question::Decommission(id) => print(&format!("{}\n", asker.decommission(id).await?)),
            Question::Logs(id, follow) => return logs(&mut asker, id, *follow).await,
        }
        Ok(())
    })
}

fn print(text: &str) {
    terminal::print(text);
}

/// Drivers' and tasks' output, each line on the stream that it was printed to. Lines of several sources are told apart.
async fn logs(asker: &mut Asker, id: &str, follow: bool) -> Result<(), String> {
    let mut parts = asker.logs(id, follow).await?;
    let mut shown = String::new();
    let mut screens = [Screen::of(&std::io::stdout()), Screen::of(&std::io::stderr())];
    loop {
        let part = match parts.message().await {
            Ok(Some(part)) => part,
            Ok(None) => return Ok(()),
            Err(status) => return Err(format!("the master: {}", status.message())),
        };
        if part.source != shown {
            terminal::say(format_args!("--- {}", part.source));
            shown = part.source;
        }
        let data = screens[usize::from(part.stderr)].show(&part.data);
        let written = match part.stderr {
            true => std::io::stderr().lock().write_all(&data),
            false => std::io::stdout().lock().write_all(&data),
        };
        if written.is_err() {
            return Ok(());
        }
    }
}

/// Columns as wide as what is in them.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (cell, width) in cells.zip(&widths) {
            line += &format!("{cell:<width$}  ");
        }
        line.trim_end().to_owned() + "\n"
    };
    let mut text = line(&mut head.iter().copied());
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

fn apps(list: &ingle_cluster::verbs::ListApplicationsReply) -> String {
    let mut rows = Vec::new();
    for driver in &list.drivers {
        rows.push(vec![
            driver.id.clone(),
            driver.name.clone(),
            driver.state.clone(),
            String::new(),
            String::new(),
            first_line(&driver.text),
        ]);
    }
    for app in &list.applications {
        rows.push(vec![
            app.id.clone(),
            app.name.clone(),
            app.state.clone(),
            app.executors.to_string(),
            app.cores.to_string(),
            first_line(&app.text),
        ]);
    }
    table(&["ID", "NAME", "STATE", "EXECUTORS", "CORES", ""], &rows)
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(240).collect()
}

fn workers(list: &ingle_cluster::verbs::ListWorkersReply) -> String {
    let rows: Vec<_> = list
        .workers
        .iter()
        .map(|worker| {
            vec![
                format!("worker-{}", worker.id),
                worker.address.clone(),
                worker.state.clone(),
                format!("{} of {}", worker.cores_used, worker.cores),
                format!("{} of {}", ByteSize(worker.memory_used), ByteSize(worker.memory)),
                worker.executors.to_string(),
                worker.drivers.to_string(),
            ]
        })
        .collect();
    table(&["ID", "ADDRESS", "STATE", "CORES", "MEMORY", "EXECUTORS", "DRIVERS"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".into(), "long one".into()], vec!["bcd".into(), String::new()]];
        assert_eq!(table(&["X", "Y"], &rows), "X    Y\na    long one\nbcd\n");
    }
}
