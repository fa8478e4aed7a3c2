//! Every target: which one, its binary's name says.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let target = ingle_fuzz::find(env!("CARGO_BIN_NAME")).expect("a binary is named as its target");
    (target.run)(data);
});
