//! A view to a screen: the node's line, traffic, latency and cache, then the tables. Cuts off what has no room.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Clear, Paragraph, Row, Sparkline, Table as Rows, TableState, Wrap};

use super::numbers::{bytes, count, percent, seconds, span, whole};
use super::view::{Table, View};
use crate::control::admin::status::Percentiles;

/// Cells of a core's bar.
const BAR: usize = 10;

pub fn draw(frame: &mut Frame<'_>, view: &View) {
    let rows = frame.area().height;
    let backends = (view.status.backends.len() as u16 + 3).clamp(4, (rows / 3).max(4));
    let [head, numbers, line, upper, lower, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(5),
        Constraint::Length(if rows >= 24 { 4 } else { 0 }),
        Constraint::Length(backends),
        Constraint::Min(4),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let [left, right] = Layout::horizontal([Constraint::Percentage(45), Constraint::Percentage(55)]).areas(lower);
    draw_head(frame, head, view);
    draw_numbers(frame, numbers, view);
    draw_requests(frame, line, view);
    draw_backends(frame, upper, view);
    draw_cores(frame, left, view);
    match view.corner {
        Table::Models => draw_models(frame, right, view),
        _ => draw_tenants(frame, right, view),
    }
    draw_foot(frame, foot, view);
    if view.is_open {
        draw_backend(frame, view);
    }
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let status = &view.status;
    let about = format!(
        "  {}  version {}  generation {}  up {}",
        status.listening.join(", "),
        status.version,
        status.config_generation,
        span(status.uptime_seconds)
    );
    let line = Line::from(vec![
        "Ringway ".bold(),
        Span::styled(status.state.clone(), state_style(&status.state)),
        about.into(),
    ]);
    frame.render_widget(line, area);
}

fn draw_numbers(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let (traffic, latency, cache) = (&view.status.traffic, &view.status.latency, &view.status.cache);
    let busy =
        view.status.cores.iter().map(|core| core.busy_ratio).sum::<f64>() / view.status.cores.len().max(1) as f64;
    let of = |percentiles: &Percentiles| {
        let [p50, p95, p99] = [percentiles.p50_seconds, percentiles.p95_seconds, percentiles.p99_seconds].map(seconds);
        format!("{p50:>8} {p95:>8} {p99:>8}")
    };
    let lines = [
        format!(
            "Traffic    {} requests/s, {} failed/s, {} tokens/s, {} in flight, {} connections, cores {} busy",
            count(traffic.requests_per_second),
            count(traffic.failures_per_second),
            count(traffic.tokens_per_second),
            whole(traffic.requests_in_flight),
            whole(traffic.connections),
            percent(Some(busy)),
        ),
        format!(
            "Since start {} requests, {} failed, {} upstream calls, {} retries, {} fallbacks, {} hedges",
            whole(traffic.requests),
            whole(traffic.failures),
            whole(traffic.upstream_calls),
            whole(traffic.retries),
            whole(traffic.fallbacks),
            whole(traffic.hedges),
        ),
        match cache.enabled {
            false => "Cache      off".to_owned(),
            true => format!(
                "Cache      {} hit rate, {} of {}, {} answers, {} hits, {} joined, {} misses",
                percent(cache.hit_ratio),
                bytes(cache.bytes),
                bytes(cache.budget_bytes),
                whole(cache.entries),
                whole(cache.hits),
                whole(cache.joined),
                whole(cache.misses),
            ),
        },
        format!("p50 p95 p99  request {}   first token {}", of(&latency.request), of(&latency.first_token)),
        format!("overhead     of a hit {}  of a miss  {}", of(&latency.overhead_hit), of(&latency.overhead_miss)),
    ];
    frame.render_widget(Paragraph::new(lines.map(Line::from).to_vec()), area);
}

fn draw_requests(frame: &mut Frame<'_>, area: Rect, view: &View) {
    if area.height == 0 {
        return;
    }
    let width = usize::from(area.width);
    let values: Vec<u64> = view.requests.iter().rev().take(width).rev().map(|rate| rate.round() as u64).collect();
    let most = values.iter().copied().max().unwrap_or(0);
    let title = format!(" Requests/s, at most {} in {} ", whole(most), span(values.len() as u64));
    let sparkline = Sparkline::default().data(values).max(most.max(1)).style(Style::new().fg(Color::Blue));
    frame.render_widget(sparkline.block(Block::new().borders(Borders::TOP).title(title)), area);
}

/// A table with its order in the title, and the selected row marked where it has the focus.
fn table<'a>(
    frame: &mut Frame<'_>,
    area: Rect,
    (view, table): (&View, Table),
    (title, heads): (String, &[&'static str]),
    widths: &[Constraint],
    rows: impl Iterator<Item = Row<'a>>,
) {
    let (order, is_focused) = (view.order(table), view.focus == table);
    let way = if order.is_reversed { ", reversed" } else { "" };
    let title = format!(" {title}, by {}{way} ", table.columns()[order.column]);
    let style = if is_focused { Style::new().fg(Color::Blue).bold() } else { Style::new().dim() };
    let block = Block::new().borders(Borders::TOP).border_style(style).title(Span::styled(title, style));
    let head = Row::new(heads.iter().map(|head| Cell::from(*head))).style(Style::new().dim());
    let marked = if is_focused { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
    let rows = Rows::new(rows, widths.iter().copied()).header(head).block(block).row_highlight_style(marked);
    frame.render_stateful_widget(rows, area, &mut TableState::new().with_selected(view.selected(table)));
}

fn draw_backends(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let all = &view.status.backends;
    let serving = all.iter().filter(|backend| backend.state == "serving").count();
    let rows = view.backends().into_iter().map(|backend| {
        let connections = &backend.connections;
        let failed = Cell::from(count(backend.failed_attempts_per_second));
        Row::new([
            Cell::from(backend.name.clone()),
            Cell::from(backend.state.clone()).style(state_style(&backend.state)),
            Cell::from(whole(backend.requests_in_flight)),
            Cell::from(count(backend.attempts_per_second)),
            if backend.failed_attempts_per_second > 0.0 { failed.red() } else { failed },
            Cell::from(format!("{}/{}/{}", connections.idle, connections.busy, connections.http2)),
            Cell::from(reason(backend.check_fault.as_deref(), backend.reason.as_deref())),
        ])
    });
    let title = format!("Backends, {serving} of {} serving", all.len());
    let heads = ["name", "state", "in flight", "attempts/s", "failed/s", "idle/busy/h2", "why"];
    let widths = [
        Constraint::Min(14),
        Constraint::Length(8),
        Constraint::Length(9),
        Constraint::Length(10),
        Constraint::Length(8),
        Constraint::Length(12),
        Constraint::Fill(2),
    ];
    table(frame, area, (view, Table::Backends), (title, &heads), &widths, rows);
}

fn draw_cores(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let rows = view.cores().into_iter().map(|core| {
        let full = (core.busy_ratio * BAR as f64).round().clamp(0.0, BAR as f64) as usize;
        let colour = match core.busy_ratio {
            ratio if ratio > 0.85 => Color::Red,
            ratio if ratio > 0.7 => Color::Yellow,
            _ => Color::Green,
        };
        Row::new([
            Cell::from(core.core.to_string()),
            Cell::from(core.cpu.map_or("-".to_owned(), |cpu| cpu.to_string())),
            Cell::from(format!("{}{}", "█".repeat(full), "·".repeat(BAR - full))).style(Style::new().fg(colour)),
            Cell::from(percent(Some(core.busy_ratio))),
            Cell::from(count(core.requests_per_second)),
            Cell::from(count(core.messages_per_second)),
        ])
    });
    let heads = ["core", "CPU", "busy", "", "req/s", "msg/s"];
    let widths = [4, 3, BAR as u16, 5, 6, 6].map(Constraint::Length);
    table(frame, area, (view, Table::Cores), ("Cores".to_owned(), &heads), &widths, rows);
}

fn draw_models(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let rows = view.models().into_iter().map(|model| {
        Row::new([
            model.name.clone(),
            count(model.requests_per_second),
            whole(model.queue_depth),
            model.backends.join(", "),
        ])
    });
    let widths = [Constraint::Min(16), Constraint::Length(10), Constraint::Length(7), Constraint::Fill(1)];
    let heads = ["name", "requests/s", "waiting", "backends"];
    table(frame, area, (view, Table::Models), ("Models".to_owned(), &heads), &widths, rows);
}

fn draw_tenants(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let rows = view.tenants().into_iter().map(|tenant| {
        Row::new([
            tenant.name.clone(),
            count(tenant.requests_per_second),
            count(tenant.tokens_per_second),
            whole(tenant.requests),
            whole(tenant.failures),
            whole(tenant.prompt_tokens + tenant.completion_tokens),
            whole(tenant.saved_tokens),
        ])
    });
    let [a, b, c] = [6, 8, 6].map(Constraint::Length);
    let widths = [Constraint::Min(12), a, b, b, a, c, c];
    let heads = ["name", "req/s", "tokens/s", "requests", "failed", "tokens", "saved"];
    table(frame, area, (view, Table::Tenants), ("Tenants".to_owned(), &heads), &widths, rows);
}

fn draw_foot(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let keys = "Tab table  ↑↓ select  Enter look into a backend  s order  r reverse  m models/tenants  p pause  q quit";
    let line = match &view.trouble {
        Some(why) => Line::from(format!("Trying again: {why}")).style(Style::new().fg(Color::Red).bold()),
        None if view.is_paused() => Line::from("paused; p goes on").style(Style::new().fg(Color::Yellow).bold()),
        None => Line::from(keys).style(Style::new().dim()),
    };
    frame.render_widget(line, area);
}

/// The selected backend, in front of everything else.
fn draw_backend(frame: &mut Frame<'_>, view: &View) {
    let backends = view.backends();
    let Some(backend) = view.selected(Table::Backends).and_then(|row| backends.get(row)) else { return };
    let (cores, connections) = (&backend.cores, &backend.connections);
    let models = view.status.models.iter().filter(|model| model.backends.contains(&backend.name));
    let models: Vec<&str> = models.map(|model| model.name.as_str()).collect();
    let mut lines = vec![
        Line::from(vec!["State        ".into(), Span::styled(backend.state.clone(), state_style(&backend.state))]),
        Line::from(format!("Address      {}", backend.address)),
        Line::from(format!("Why          {}", reason(backend.check_fault.as_deref(), backend.reason.as_deref()))),
        Line::from(format!(
            "Cores        {} serving, {} probing, {} tripped",
            cores.serving, cores.probing, cores.tripped
        )),
        Line::from(format!(
            "Connections  {} idle, {} busy, {} HTTP/2",
            connections.idle, connections.busy, connections.http2
        )),
        Line::from(format!("In flight    {}", backend.requests_in_flight)),
        Line::from(format!("Models       {}", models.join(", "))),
        Line::from(format!("Attempts     {}, {}/s", backend.attempts, count(backend.attempts_per_second))),
    ];
    for (result, number) in backend.results.iter().filter(|(_, number)| **number > 0) {
        lines.push(Line::from(format!("             {:<14} {number}", result.replace('_', " "))));
    }
    let (area, height) = (frame.area(), lines.len() as u16 + 2);
    let [_, across, _] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Max(76), Constraint::Fill(1)]).areas(area);
    let [_, area, _] =
        Layout::vertical([Constraint::Fill(1), Constraint::Max(height), Constraint::Fill(1)]).areas(across);
    let block = Block::bordered().title(format!(" {} ", backend.name)).title_bottom(" Esc closes ");
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }).block(block), area);
}

fn reason(check_fault: Option<&str>, reason: Option<&str>) -> String {
    let check = check_fault.map(|fault| format!("check: {fault}"));
    let words = check.into_iter().chain(reason.map(|reason| reason.replace('_', " ")));
    words.collect::<Vec<_>>().join("; ")
}

fn state_style(state: &str) -> Style {
    match state {
        "serving" => Style::new().fg(Color::Green),
        "tripped" => Style::new().fg(Color::Red).bold(),
        _ => Style::new().fg(Color::Yellow),
    }
}
