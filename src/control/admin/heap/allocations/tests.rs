//! Queries, and samples with names in each format.

use super::*;

fn amount(blocks: u32, bytes: u32) -> Amount {
    Amount { blocks: blocks.into(), bytes: bytes.into() }
}

fn site(thread: u32, frames: &[usize], allocated: Amount, in_use: Amount) -> Site {
    Site { thread, frames: frames.to_vec(), allocated, in_use }
}

fn name(address: usize) -> Vec<String> {
    let names: &[&str] = match address {
        1 => &["backtrace::trace", "ringway::net::sys::stack"],
        2 => &["ringway::net::allocations::allocated", "ringway::net::sys::seen"],
        3 => &[
            "<ringway::net::sys::SamplingAllocator as core::alloc::global::GlobalAlloc>::alloc",
            "__rustc::__rust_alloc",
        ],
        4 => &["alloc::alloc::alloc", "alloc_impl", "with_capacity", "insert"],
        5 => &["poll<alloc::boxed::Box<Task, alloc::alloc::Global>>", "__rust_try", "main"],
        6 => &["copy", "main"],
        _ => &[],
    };
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn profile(elsewhere: Amount, not_followed: Amount) -> Profile {
    let samples = Allocations {
        sites: vec![
            site(7, &[1, 2, 3, 4, 5], amount(100, 6_000_000), amount(10, 600_000)),
            site(7, &[1, 2, 3, 6], amount(4, 400), amount(0, 0)),
            site(9, &[1, 2, 3, 6], amount(2, 2_000_000), amount(1, 1_000_000)),
        ],
        elsewhere: site(0, &[], elsewhere, elsewhere),
        not_followed,
    };
    Profile::new(10, &samples, &[(7, "ringway-data-0".to_owned())].into(), name)
}

fn text(format: Format, kind: Kind) -> String {
    String::from_utf8(profile(Amount::default(), Amount::default()).write(format, kind)).unwrap()
}

#[test]
fn a_query_says_what_is_counted() {
    assert_eq!(parse("seconds=3"), Ok((3, Format::Pprof, Kind::InUse)));
    assert_eq!(parse("kind=alloc&format=svg"), Ok((10, Format::Svg, Kind::Allocated)));
    assert_eq!(parse("format=folded&kind=inuse&seconds=60"), Ok((60, Format::Folded, Kind::InUse)));
    for (wrong, said) in [
        ("seconds=0", "from 1 to 60"),
        ("seconds=61", "from 1 to 60"),
        ("format=json", "format is"),
        ("kind=", "kind is inuse or alloc"),
        ("kind=all", "kind is inuse or alloc"),
        ("kind", "without a query"),
        ("minutes=1", "without a query"),
    ] {
        let told = parse(wrong).unwrap_err();
        assert!(told.contains(said), "{wrong}: {told}");
    }
}

#[test]
fn stacks_end_with_the_function_that_asks_for_memory() {
    let in_use = text(Format::Folded, Kind::InUse);
    let insert =
        "ringway-data-0;main;__rust_try;poll<alloc::boxed::Box<Task, alloc::alloc::Global>>;insert;with_capacity";
    assert_eq!(in_use, format!("(ended);main;copy 1000000\n{insert} 600000\n"));
    let allocated = text(Format::Folded, Kind::Allocated);
    assert_eq!(allocated, format!("(ended);main;copy 2000000\n{insert} 6000000\nringway-data-0;main;copy 400\n"));
}

#[test]
fn a_picture_says_how_much_and_how_fast() {
    let picture = text(Format::Svg, Kind::InUse);
    assert!(
        picture.contains("8.0 MB in 106 blocks allocated in 10 s (0.8 MB/s, 11 blocks/s); 1.6 MB in 11 blocks"),
        "{picture}"
    );
    assert!(picture.contains("<title>ringway-data-0: 37.50 %, 600000 bytes</title>"), "{picture}");
    assert!(text(Format::Svg, Kind::Allocated).contains("<title>(ended): 25.00 %, 2000000 bytes</title>"));
}

#[test]
fn what_there_was_no_room_for_is_told() {
    let full = profile(amount(5, 500), amount(2, 200));
    let folded = |kind| profile::folded(&full.stacks(kind));
    let [beyond, lost] = [
        "(unknown);stacks beyond the first 8192 500\n",
        "(unknown);blocks that were not followed: in use or freed 200\n",
    ];
    assert!(folded(Kind::InUse).contains(beyond) && folded(Kind::InUse).contains(lost), "{}", folded(Kind::InUse));
    assert!(folded(Kind::Allocated).contains(beyond) && !folded(Kind::Allocated).contains("followed"));
    assert_eq!(full.total.allocated, amount(111, 8_000_900));
    assert_eq!(full.total.in_use, amount(18, 1_600_700));
}

#[test]
fn pprof_gets_blocks_and_bytes_allocated_and_in_use() {
    let profile = profile(Amount::default(), Amount::default());
    let bytes = profile.encode(Kind::Allocated);
    let fields = profile::decoded::fields(&bytes);
    let of = |number: u64| fields.iter().filter(move |(field, ..)| *field == number).collect::<Vec<_>>();
    let strings: Vec<String> = of(6).iter().map(|(_, _, text)| String::from_utf8(text.clone()).unwrap()).collect();
    let kinds: Vec<&str> =
        of(1).iter().map(|kind| &*strings[profile::decoded::fields(&kind.2)[0].1 as usize]).collect();
    assert_eq!(kinds, ["alloc_objects", "alloc_space", "inuse_objects", "inuse_space"]);
    let values: Vec<Vec<u64>> =
        of(2).iter().map(|sample| profile::decoded::varints(&profile::decoded::fields(&sample.2)[1].2)).collect();
    assert_eq!(values, [[2, 2_000_000, 1, 1_000_000], [100, 6_000_000, 10, 600_000], [4, 400, 0, 0]]);
    assert_eq!((of(10)[0].1, of(12)[0].1), (10_000_000_000, ALLOCATION_SAMPLE_BYTES));
    assert_eq!(strings[of(14)[0].1 as usize], "alloc_space");
    let comment = profile::decoded::varints(&of(13)[0].2)[0];
    assert!(strings[comment as usize].starts_with("8.0 MB in 106 blocks allocated"), "{strings:?}");
}
