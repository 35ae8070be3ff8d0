//! Stacks as a flame graph: a picture without a program in it. A function is as wide as the share of samples it is in;
//! pointing at it tells its name and its share.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Stacks;

const WIDTH: f64 = 1200.0;
const ROW: f64 = 17.0;
const TOP: f64 = 34.0;
/// Of a letter of the font, and the least width of a function that is drawn.
const LETTER: f64 = 6.6;
const LEAST: f64 = 0.4;
/// Functions above this depth are not drawn.
const DEPTH: usize = 120;

#[derive(Default)]
struct Node<'a> {
    count: u64,
    inside: BTreeMap<&'a str, Node<'a>>,
}

/// `unit` is what is counted.
pub fn draw(stacks: &Stacks, title: &str, unit: &str) -> String {
    let mut root = Node::default();
    let mut depth = 0;
    for (stack, count) in stacks {
        root.count += count;
        depth = depth.max(stack.len().min(DEPTH));
        let mut node = &mut root;
        for name in stack.iter().take(DEPTH) {
            node = node.inside.entry(name).or_default();
            node.count += count;
        }
    }
    let height = TOP + (depth as f64 + 1.0) * ROW + 8.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"monospace\" font-size=\"11\"><rect width=\"100%\" height=\"100%\" fill=\"#fbfaf7\"/>\
         <text x=\"8\" y=\"21\" font-size=\"14\">{}</text>\n",
        escape(title)
    );
    let scale = if root.count == 0 { 0.0 } else { WIDTH / root.count as f64 };
    draw_inside(&mut out, &root, (0.0, 0), scale, (root.count, unit));
    out.push_str("</svg>\n");
    out
}

fn draw_inside(out: &mut String, node: &Node<'_>, (mut x, level): (f64, usize), scale: f64, of: (u64, &str)) {
    let (all, unit) = of;
    for (name, inside) in &node.inside {
        let width = inside.count as f64 * scale;
        if width >= LEAST {
            let (y, text) = (TOP + level as f64 * ROW, escape(name));
            let share = inside.count as f64 * 100.0 / all.max(1) as f64;
            let letters = ((width - 6.0) / LETTER).max(0.0) as usize;
            // Writing to a string cannot fail.
            let _ = write!(
                out,
                "<g><title>{text}: {share:.2} %, {} {unit}</title><rect x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"16\" \
                 rx=\"2\" fill=\"{}\" stroke=\"#fbfaf7\" stroke-width=\"0.5\"/>",
                inside.count,
                colour(name)
            );
            if letters >= 3 {
                let short: String = name.chars().take(letters).collect();
                let _ = write!(out, "<text x=\"{:.1}\" y=\"{}\">{}</text>", x + 3.0, y + 12.0, escape(&short));
            }
            out.push_str("</g>\n");
            draw_inside(out, inside, (x, level + 1), scale, of);
        }
        x += width;
    }
}

/// Warm colours, the same for the same name.
fn colour(name: &str) -> String {
    let hash = name.bytes().fold(17_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    format!("hsl({},{}%,{}%)", 14 + hash % 42, 72 + hash / 64 % 18, 64 + hash / 4096 % 12)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
