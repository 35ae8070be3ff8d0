//! Forms of arbitrary bytes: what is found lies inside the body and is delimited, and what is cut off is no form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway::wire::multipart::{FormFault, FormReader, boundary, field};

const HEAD: &[u8] = b"--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n";

/// By pieces of so many bytes.
fn read(input: &[u8], most: usize) -> Result<Option<(u64, u64)>, FormFault> {
    let mut form = FormReader::new(b"b", "model");
    input.chunks(most).try_for_each(|piece| form.feed(piece))?;
    form.finish()?;
    Ok(form.found())
}

fuzz_target!(|input: &[u8]| {
    let whole = field(input, b"b", "model").ok().map(|found| found.map(|span| (span.start.into(), span.end.into())));
    for most in [1, 3, 1000] {
        assert_eq!(read(input, most).ok(), whole);
    }
    let _ = boundary(input);
    let _ = boundary(&[b"multipart/form-data;", input].concat());
    if let Ok(Some(found)) = field(input, b"b", "model") {
        let (start, end) = (found.start as usize, found.end as usize);
        assert!(start <= end && end <= input.len());
        assert!(input[..start].ends_with(b"\r\n\r\n") && input[end..].starts_with(b"\r\n--b"));
    }
    // A field in front of anything: it is found, it is there twice, or what follows is no form.
    let body = [HEAD, b"m\r\n", input].concat();
    if let Ok(found) = field(&body, b"b", "model") {
        assert_eq!(found.map(|span| span.start as usize), Some(HEAD.len()));
    }
});
