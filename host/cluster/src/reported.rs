//! An executor's reports in one message. They are read one by one, and not at all if they have more parts than any: each part takes many times its bytes.

use bytes::Bytes;
use ingle_proto::prost::encoding::{DecodeContext, WireType, decode_key, skip_field};
use ingle_proto::prost::{Message, decode_length_delimiter};
use ingle_proto::v1;

/// Reports in one message: those of a batch, and how many lines were dropped.
pub const MAX_REPORTS: usize = crate::executor::BATCH + 1;
/// Changes to accumulators and cached partitions of a task, and what else is said of its end. A task makes fewer.
const MAX_PARTS: usize = 2 << 20;
/// `ended` of a report.
const ENDED: u32 = 3;

/// As they are sent.
pub fn encode(reports: &[v1::ExecutorReport]) -> Bytes {
    let length = reports.iter().map(|report| report.encoded_len() + 10).sum();
    let mut bytes = Vec::with_capacity(length);
    for report in reports {
        // A vector has room for all.
        let _ = report.encode_length_delimited(&mut bytes);
    }
    bytes.into()
}

/// One by one, until one makes no sense.
pub struct Reported {
    rest: Bytes,
    left: usize,
}

impl Reported {
    pub fn new(reports: Bytes) -> Self {
        Self { rest: reports, left: MAX_REPORTS }
    }

    fn read(&mut self) -> Result<v1::ExecutorReport, String> {
        let Some(left) = self.left.checked_sub(1) else {
            return Err(format!("it sent more than {MAX_REPORTS} reports at a time"));
        };
        self.left = left;
        let report = next(&mut self.rest)?;
        if parts(&report, Some(ENDED))? > MAX_PARTS {
            return Err("it reported more of a task than a task can make".into());
        }
        v1::ExecutorReport::decode(report).map_err(senseless)
    }
}

impl Iterator for Reported {
    type Item = Result<v1::ExecutorReport, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.rest.clear();
        }
        Some(read)
    }
}

/// What has its length before it.
fn next(bytes: &mut Bytes) -> Result<Bytes, String> {
    let length = decode_length_delimiter(&mut *bytes).map_err(senseless)?;
    if length > bytes.len() {
        return Err(senseless("it ends before its end"));
    }
    Ok(bytes.split_to(length))
}

fn senseless(why: impl std::fmt::Display) -> String {
    format!("a report makes no sense: {why}")
}

/// How many fields a message has, with those of the messages in its field `within`.
fn parts(message: &Bytes, within: Option<u32>) -> Result<usize, String> {
    let (mut rest, mut count) = (message.clone(), 0);
    while !rest.is_empty() {
        let (tag, wire) = decode_key(&mut rest).map_err(senseless)?;
        count += 1;
        if Some(tag) == within && wire == WireType::LengthDelimited {
            count += parts(&next(&mut rest)?, None)?;
        } else {
            skip_field(wire, tag, &mut rest, DecodeContext::default()).map_err(senseless)?;
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use ingle_proto::v1::executor_report::Report;

    use super::*;

    fn ended(updates: usize) -> v1::ExecutorReport {
        let update = v1::AccumulatorUpdate { accumulator: 1, value: vec![1; 3] };
        let end = v1::TaskEnd { updates: vec![update; updates], ..v1::TaskEnd::default() };
        v1::ExecutorReport { report: Some(Report::Ended(end)) }
    }

    fn read(bytes: Bytes) -> Result<Vec<v1::ExecutorReport>, String> {
        Reported::new(bytes).collect()
    }

    #[test]
    fn reports_are_read_as_they_were_sent() {
        let ready = v1::ExecutorReport { report: Some(Report::Ready(v1::Ready {})) };
        let all = vec![ready.clone(), ended(0), v1::ExecutorReport::default(), ended(1000)];
        assert_eq!(read(encode(&all)).unwrap(), all);
        assert_eq!(read(Bytes::new()).unwrap(), []);
        assert_eq!(read(encode(&vec![ready.clone(); MAX_REPORTS])).unwrap().len(), MAX_REPORTS);
        let many = read(encode(&vec![ready; MAX_REPORTS + 1])).unwrap_err();
        assert!(many.contains("513"), "{many}");
    }

    #[test]
    fn what_would_take_many_times_its_bytes_is_not_read() {
        assert_eq!(read(encode(&[ended(MAX_PARTS - 1)])).unwrap().len(), 1);
        let refused = read(encode(&[ended(MAX_PARTS)])).unwrap_err();
        assert!(refused.contains("than a task can make"), "{refused}");
        // The same field, over and over, adds to what there was.
        let half = |_| encode(&[ended(MAX_PARTS / 2)])[4..].to_vec();
        let twice: Vec<u8> = (0..2).flat_map(half).collect();
        let length = ingle_proto::prost::length_delimiter_len(twice.len());
        let mut message = vec![0; length];
        ingle_proto::prost::encode_length_delimiter(twice.len(), &mut message.as_mut_slice())
            .unwrap();
        message.extend(twice);
        assert!(read(message.into()).unwrap_err().contains("than a task can make"));
    }

    #[test]
    fn what_makes_no_sense_ends_it() {
        for wrong in [&[0xff; 12][..], &[5, 1], &[2, 0xff, 0xff], &[3, 0x1a, 5, 1], &[1, 0x1f]] {
            let mut reported = Reported::new(Bytes::copy_from_slice(wrong));
            assert!(reported.next().is_some_and(|read| read.is_err()), "{wrong:?}");
            assert!(reported.next().is_none(), "{wrong:?}");
        }
    }
}
