//! What the view shows of a state, by content, and what keys change.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::view::Table;
use super::*;
use crate::control::admin::status::{Backend, Core, Model, Percentiles, Status, Tenant, Traffic};

fn status() -> Status {
    let backend = |name: &str, state: &str, attempts_per_second: f64| Backend {
        name: name.to_owned(),
        address: "10.0.0.9:8000".to_owned(),
        state: state.to_owned(),
        attempts_per_second,
        attempts: 353,
        results: [("success".to_owned(), 348), ("server_error".to_owned(), 5), ("timeout".to_owned(), 0)].into(),
        ..Backend::default()
    };
    let tripped = Backend {
        check_fault: Some("it closes the connection without an answer".to_owned()),
        reason: Some("errors_in_row".to_owned()),
        ..backend("vllm-b", "tripped", 0.0)
    };
    let core = |core: usize, busy_ratio: f64| Core { core, cpu: Some(core + 2), busy_ratio, ..Core::default() };
    let tenant = |name: &str, requests_per_second: f64| Tenant {
        name: name.to_owned(),
        requests_per_second,
        ..Tenant::default()
    };
    let mut status = Status {
        state: "serving".to_owned(),
        listening: vec!["0.0.0.0:8080".to_owned()],
        uptime_seconds: 3661,
        config_generation: 4,
        traffic: Traffic { requests_per_second: 1284.4, requests_in_flight: 31, ..Traffic::default() },
        cores: vec![core(0, 0.31), core(1, 0.92)],
        backends: vec![backend("vllm-a", "serving", 64.5), tripped, backend("vllm-c", "probing", 3.0)],
        models: vec![Model { name: "gpt-4o-mini".to_owned(), backends: vec!["vllm-b".to_owned()], ..Model::default() }],
        tenants: vec![tenant("batch", 2.0), tenant("chat", 1200.0), tenant("idle", 0.0)],
        ..Status::default()
    };
    status.cache.enabled = true;
    status.cache.hit_ratio = Some(0.894);
    status.latency.request =
        Percentiles { p50_seconds: Some(0.000_307), p95_seconds: Some(0.205), p99_seconds: Some(3.21) };
    status
}

/// The lines on a screen of this size.
fn screen(view: &View, size: (u16, u16)) -> Vec<String> {
    text(view, size).lines().map(str::to_owned).collect()
}

fn press(view: &mut View, keys: &str) {
    for key in keys.chars() {
        let code = match key {
            '\t' => KeyCode::Tab,
            '\n' => KeyCode::Enter,
            '\x1b' => KeyCode::Esc,
            'v' => KeyCode::Down,
            key => KeyCode::Char(key),
        };
        assert_eq!(view.key(KeyEvent::new(code, KeyModifiers::NONE)), Next::Go, "{key:?}");
    }
}

#[track_caller]
fn line<'a>(lines: &'a [String], start: &str) -> &'a str {
    lines.iter().find(|line| line.trim_start().starts_with(start)).unwrap_or_else(|| panic!("no {start}: {lines:#?}"))
}

/// The first words of the rows of a table, from its head to the next title.
fn names(lines: &[String], title: &str) -> Vec<String> {
    let from = lines.iter().position(|line| line.contains(title)).unwrap_or_else(|| panic!("no {title}: {lines:#?}"));
    let at = lines[from].find(title).unwrap();
    let column = lines[from][..at].chars().count();
    let rows = lines[from + 2..].iter().map(|line| line.chars().skip(column.saturating_sub(1)).collect::<String>());
    let rows = rows.take_while(|row| !row.trim().is_empty() && !row.contains('─') && !row.contains("Tab table"));
    rows.map(|row| row.split_whitespace().next().unwrap().to_owned()).collect()
}

#[test]
fn a_screen_has_the_node_its_numbers_and_its_tables() {
    let view = View::new(status());
    let lines = screen(&view, (120, 40));
    assert!(
        lines[0].starts_with("Ringway serving  0.0.0.0:8080") && lines[0].ends_with("up 1 h 1 min"),
        "{}",
        lines[0]
    );
    let traffic = line(&lines, "Traffic");
    assert!(
        traffic.contains("1284 requests/s") && traffic.contains("31 in flight") && traffic.contains("62 % busy"),
        "{traffic}"
    );
    assert!(line(&lines, "Cache").contains("89 % hit rate"));
    let latency = line(&lines, "p50 p95 p99");
    assert!(latency.contains("307 us   205 ms   3.21 s") && latency.trim_end().ends_with('-'), "{latency}");
    let down = line(&lines, "vllm-b");
    assert!(down.contains("tripped") && down.contains("check: it closes the connection"), "{down}");
    assert_eq!(names(&lines, "Backends, 1 of 3 serving, by state"), ["vllm-b", "vllm-c", "vllm-a"]);
    assert_eq!(names(&lines, "Tenants, by requests/s"), ["chat", "batch", "idle"]);
    assert!(lines.iter().any(|line| line.contains("███······· ") && line.contains("31 %")), "{lines:#?}");
    // A small screen shows less, in the same order, and nothing fails on a tiny one.
    let small = screen(&view, (80, 24));
    assert!(line(&small, "vllm-b").contains("tripped") && small.last().unwrap().starts_with("Tab table"));
    for size in [(1, 1), (10, 3), (20, 8), (300, 100)] {
        screen(&view, size);
    }
    screen(&View::new(Status::default()), (80, 24));
}

#[test]
fn keys_sort_reverse_and_switch_tables() {
    let mut view = View::new(status());
    press(&mut view, "sss");
    let lines = screen(&view, (120, 40));
    assert_eq!(names(&lines, "Backends, 1 of 3 serving, by attempts/s"), ["vllm-a", "vllm-c", "vllm-b"]);
    press(&mut view, "r");
    let lines = screen(&view, (120, 40));
    assert_eq!(names(&lines, "Backends, 1 of 3 serving, by attempts/s, reversed"), ["vllm-b", "vllm-c", "vllm-a"]);
    press(&mut view, "\ts");
    let lines = screen(&view, (120, 40));
    assert!(line(&lines, "Cores, by busy").contains("Cores, by busy"));
    assert_eq!(view.cores()[0].core, 1);
    press(&mut view, "m");
    assert!(screen(&view, (120, 40)).iter().any(|line| line.contains("gpt-4o-mini")));
    press(&mut view, "\t");
    assert_eq!(view.focus, Table::Models);
    press(&mut view, "m");
    assert_eq!((view.focus, view.corner), (Table::Tenants, Table::Tenants));
    press(&mut view, "\t");
    assert_eq!(view.focus, Table::Backends, "and round again");
}

#[test]
fn a_backend_can_be_looked_into() {
    let mut view = View::new(status());
    press(&mut view, "vvv\n");
    let lines = screen(&view, (120, 40));
    assert!(lines.iter().any(|line| line.contains(" vllm-a ──")), "the last one, and no further: {lines:#?}");
    press(&mut view, "kk");
    let lines = screen(&view, (120, 40)).join("\n");
    for part in [
        " vllm-b ──",
        "10.0.0.9:8000",
        "Models       gpt-4o-mini",
        "server error   5",
        "answer; errors in",
        "Esc closes",
    ] {
        assert!(lines.contains(part), "{part}: {lines}");
    }
    assert!(!lines.contains("timeout        0"));
    press(&mut view, "\x1b");
    assert!(!view.is_open);
    let quit = |view: &mut View, code, modifiers| view.key(KeyEvent::new(code, modifiers));
    assert_eq!(quit(&mut view, KeyCode::Char('c'), KeyModifiers::CONTROL), Next::Quit);
    assert_eq!(quit(&mut view, KeyCode::Esc, KeyModifiers::NONE), Next::Quit);
    assert_eq!(quit(&mut view, KeyCode::Char('q'), KeyModifiers::NONE), Next::Quit);
}

#[test]
fn a_node_that_does_not_answer_is_told_and_what_was_there_stays() {
    let mut view = View::new(status());
    press(&mut view, "vv");
    view.take(Err("no connection to the admin listener".to_owned()));
    let lines = screen(&view, (120, 40));
    assert!(lines.last().unwrap().starts_with("Trying again: no connection to the admin listener"), "{lines:#?}");
    assert!(line(&lines, "vllm-b").contains("tripped"));
    let mut fewer = status();
    fewer.backends.truncate(1);
    view.take(Ok(fewer));
    assert_eq!((view.trouble.as_deref(), view.selected(Table::Backends)), (None, Some(0)));
    press(&mut view, "p");
    assert!(view.is_paused() && screen(&view, (120, 40)).last().unwrap().starts_with("paused"));
}

#[test]
fn once_names_no_keys_and_ends_with_its_last_row() {
    let printed = without_keys(&text(&View::new(Status::default()), ONCE));
    assert!(printed.starts_with("Ringway") && !printed.contains("q quit"), "{printed}");
    assert!(printed.ends_with('\n') && !printed.ends_with("\n\n"), "{printed}");
}
