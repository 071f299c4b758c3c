#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fedcircuit_fuzz::fuzz("overrides", input));
