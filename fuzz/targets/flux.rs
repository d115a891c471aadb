#![no_main]

#[path = "../check.rs"]
mod check;

use rollback_receiver::intake::Format;

libfuzzer_sys::fuzz_target!(|body: &[u8]| check::reading(Format::Flux, body));
