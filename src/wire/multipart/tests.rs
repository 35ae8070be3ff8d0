//! Forms as clients send them, and forms that two servers would parse differently.

use super::*;
use proptest::prelude::*;

fn found(body: &str) -> Result<Option<&str>, FormFault> {
    let span = field(body.as_bytes(), b"b", "model");
    let found = span.map(|span| span.map(|span| std::str::from_utf8(span.of(body.as_bytes())).unwrap()));
    for most in [1, 2, 3, 7, 64, body.len().max(1)] {
        let by_pieces = found_in_pieces(body, most);
        // Of two faults it may see the other one first.
        assert_eq!(by_pieces.ok(), found.ok(), "{body:?} by {most}: {by_pieces:?}");
    }
    found
}

#[test]
fn a_field_that_comes_late_or_again_is_refused() {
    let head = form(&[MODEL, FILE]).replace("--b--\r\n", "");
    let mut again = FormReader::new(b"b", "model");
    again.feed(head.as_bytes()).unwrap();
    assert_eq!(again.found().map(|(start, end)| &head[start as usize..end as usize]), Some("whisper-1"));
    again.close_search().unwrap();
    again.feed(FILE.1.repeat(10_000).as_bytes()).unwrap();
    assert!(again.window.len() < 100, "{} bytes are kept of a file", again.window.len());
    assert_eq!(again.feed(form(&[MODEL]).as_bytes()), Ok(()), "its first boundary does not begin a line");
    let mut again = FormReader::new(b"b", "model");
    again.feed(head.as_bytes()).unwrap();
    again.close_search().unwrap();
    assert_eq!(again.feed(form(&[MODEL]).as_bytes()), Err(FormFault::Twice));
    let mut late = FormReader::new(b"b", "model");
    late.feed(form(&[FILE]).replace("--b--\r\n", "").as_bytes()).unwrap();
    late.close_search().unwrap();
    assert_eq!(late.feed(form(&[MODEL]).as_bytes()), Err(FormFault::Late));
}

/// The same by pieces of so many bytes.
fn found_in_pieces(body: &str, most: usize) -> Result<Option<&str>, FormFault> {
    let mut form = FormReader::new(b"b", "model");
    for piece in body.as_bytes().chunks(most) {
        form.feed(piece)?;
    }
    form.finish()?;
    Ok(form.found().map(|(start, end)| &body[start as usize..end as usize]))
}

/// A form of `parts`, each with its head and content.
fn form(parts: &[(&str, &str)]) -> String {
    let parts = parts.iter().map(|(head, content)| format!("--b\r\n{head}\r\n\r\n{content}\r\n"));
    parts.collect::<String>() + "--b--\r\n"
}

const MODEL: (&str, &str) = ("Content-Disposition: form-data; name=\"model\"", "whisper-1");
const FILE: (&str, &str) = (
    "Content-Disposition: form-data; name=\"file\"; filename=\"a; name=model.wav\"\r\nContent-Type: audio/wav",
    "RIFF\r\n--\r\n--a\r\n\r\nx--b \n --b\0",
);

#[test]
fn the_field_is_found_wherever_it_stands() {
    for parts in [&[MODEL][..], &[MODEL, FILE], &[FILE, MODEL], &[FILE, FILE, MODEL, FILE]] {
        assert_eq!(found(&form(parts)), Ok(Some("whisper-1")));
    }
    assert_eq!(found(&form(&[FILE])), Ok(None));
    assert_eq!(found(&form(&[("content-disposition:form-data;name=model", "")])), Ok(Some("")));
    assert_eq!(found("--b--"), Ok(None));
    assert_eq!(found("preamble\r\n--b--\r\nepilogue"), Ok(None));
    let padded = form(&[MODEL]).replace("--b\r\n", "--b \t\r\n").replace("--b--", "--b-- ");
    assert_eq!(found(&padded), Ok(Some("whisper-1")));
    for head in [
        "Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=\"model\"",
        "Content-Disposition: form-data; name=\"model\"\r\nContent-Transfer-Encoding: 8bit",
        "CONTENT-DISPOSITION: Form-Data; NAME=\"model\";",
    ] {
        assert_eq!(found(&form(&[(head, "m")])), Ok(Some("m")), "{head}");
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    let disposition = |value: &str| form(&[(&format!("Content-Disposition: {value}"), "m")]);
    for (body, fault) in [
        (form(&[MODEL, FILE, MODEL]), FormFault::Twice),
        (disposition("form-data; name=\"Model\""), FormFault::Ambiguous),
        (disposition("form-data; name=\"mod\\el\""), FormFault::Ambiguous),
        (disposition("form-data; name=\"%6Dodel\""), FormFault::Ambiguous),
        (disposition("form-data; name=\" model\""), FormFault::Ambiguous),
        (disposition("form-data; name=\"model\"; filename=\"m\""), FormFault::Ambiguous),
        (disposition("form-data; name=\"model\"\r\nContent-Transfer-Encoding: base64"), FormFault::Ambiguous),
        (disposition("form-data; name=\"a\"; name=\"model\""), FormFault::Head),
        (disposition("form-data; name*=utf-8''model"), FormFault::Head),
        (disposition("form-data"), FormFault::Head),
        (disposition("form-data; name=\"model"), FormFault::Head),
        (disposition("form-data; name=a\"model\""), FormFault::Head),
        (disposition("attachment; name=\"model\""), FormFault::Head),
        (disposition("form-data;\r\n name=\"model\""), FormFault::Head),
        (disposition("form-data; x=\"\n\"; name=\"model\""), FormFault::Head),
        (disposition("form-data; name=\"a\"\r\nContent-Disposition: form-data; name=\"model\""), FormFault::Head),
        (form(&[("", "m")]), FormFault::Head),
        ("--b\r\n--b--\r\n".to_owned(), FormFault::Head),
        (form(&[MODEL]).replace("--b--\r\n", ""), FormFault::NoEnd),
        (String::new(), FormFault::NoEnd),
        ("{}".to_owned(), FormFault::NoEnd),
        (form(&[("Content-Disposition: form-data; name=\"a\"", "x\n--b\r\n")]), FormFault::Delimiter),
        (form(&[("Content-Disposition: form-data; name=\"a\"", "x\r\n--bc\r\n")]), FormFault::Delimiter),
        (form(&[MODEL]).replace("\r\n", "\n"), FormFault::Delimiter),
        (form(&[MODEL]) + &form(&[MODEL]), FormFault::Delimiter),
    ] {
        assert_eq!(found(&body), Err(fault), "{body:?}");
    }
}

#[test]
fn boundaries_are_those_of_the_rfc() {
    let of = |text: &str| boundary(text.as_bytes()).map(|found| found.map(|bytes| bytes.to_vec()));
    for (text, expected) in [
        ("multipart/form-data; boundary=b", "b"),
        ("Multipart/Form-Data;BOUNDARY=\"a b\"", "a b"),
        ("multipart/form-data; charset=utf-8; boundary=----x/y=; z=1", "----x/y="),
    ] {
        assert_eq!(of(text), Ok(Some(expected.as_bytes().to_vec())), "{text}");
    }
    for text in ["application/json", "multipart/mixed; boundary=b", "", "multipart/form-datax; boundary=b"] {
        assert_eq!(of(text), Ok(None), "{text}");
    }
    let long = format!("multipart/form-data; boundary={}", "x".repeat(71));
    for text in [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"b \"",
        "multipart/form-data; boundary=\"b",
        "multipart/form-data; boundary=b\\c",
        "multipart/form-data; boundary=a; boundary=b",
        "multipart/form-data; boundary=a; boundary*=b",
        "multipart/form-data; boundary*0=a; boundary=b",
        "multipart/form-data; boundary",
        &long,
    ] {
        assert_eq!(of(text), Err(FormFault::Boundary), "{text}");
    }
}

proptest! {
    /// Round trip: a field's content is found, whatever the other parts.
    #[test]
    fn a_field_comes_out_as_it_went_in(content in "[a-z\r\n-]{0,40}", other in proptest::collection::vec(any::<u8>(), 0..80)) {
        prop_assume!(!content.contains("--b") && memmem::find(&other, b"--b").is_none());
        let head = b"--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n";
        let file = b"\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n";
        let body = [&head[..], content.as_bytes(), file, &other, b"\r\n--b--\r\n"].concat();
        let span = field(&body, b"b", "model");
        prop_assert_eq!(span.map(|span| span.map(|span| span.of(&body).to_vec())), Ok(Some(content.into_bytes())));
    }

    /// No panic, and a truncated form is refused.
    #[test]
    fn any_bytes_are_read(body in "(--b|\r\n|--|Content-Disposition: form-data; name=\"|model|\"|;|x| ){0,24}", cut: prop::sample::Index) {
        let whole = field(body.as_bytes(), b"b", "model");
        if let Ok(Some(span)) = whole {
            prop_assert!(span.end as usize <= body.len());
        }
        let _ = boundary(body.as_bytes());
        let part = &body.as_bytes()[..cut.index(body.len() + 1)];
        let _ = field(part, b"b", "model");
    }
}
