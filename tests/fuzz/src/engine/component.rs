//! A job's file. Its code is compiled only if there is little of it: what compiles it in earnest has a process of its own.

use ingle_sandbox::{ComponentHash, FileKind, LoadError, kind};

use super::SANDBOX;

const TINY: usize = 8 << 10;

pub fn run(data: &[u8]) {
    let found = kind(data);
    if data.len() > TINY {
        return;
    }
    let loaded = SANDBOX.load::<LoadError>(ComponentHash::of(data), || Ok(data.to_vec()));
    match loaded {
        Ok(job) => {
            assert_eq!(found.ok(), Some(FileKind::Component));
            assert_eq!(job.hash(), ComponentHash::of(data));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
