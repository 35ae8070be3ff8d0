//! The network stack: queues that have overflowed since the machine started, ports, connection tracking.

use super::{Level, Outcome, found, percent};
use crate::config::snapshot::Listen;
use crate::host::sight::Sight;

pub fn listen_port(sight: &Sight<'_>) -> Outcome {
    const PATH: &str = "/proc/sys/net/ipv4/ip_local_port_range";
    let Some(snapshot) = sight.snapshot else { return Outcome::Nothing };
    let text = sight.root.text(PATH).unwrap_or_default();
    let mut ends = text.split_whitespace().map(str::parse::<u16>);
    let (Some(Ok(low)), Some(Ok(high))) = (ends.next(), ends.next()) else {
        return Outcome::NotSeen(format!("{PATH} is no range"));
    };
    let reserved = sight.root.text("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default();
    let is_reserved = |port: u16| {
        reserved.split(',').any(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            matches!((first.trim().parse::<u16>(), last.trim().parse::<u16>()), (Ok(first), Ok(last)) if first <= port && port <= last)
        })
    };
    let in_range = snapshot.server.addresses().filter_map(|(listen, _)| match listen {
        Listen::Tcp(address) if (low..=high).contains(&address.port()) => Some(address.port()),
        Listen::Tcp(_) | Listen::Unix(_) => None,
    });
    let taken: Vec<String> = in_range.filter(|&port| !is_reserved(port)).map(|port| port.to_string()).collect();
    if taken.is_empty() {
        return Outcome::Fine;
    }
    let ports = taken.join(",");
    found(
        Level::Warning,
        format!(
            "the gateway listens on port {ports}, out of which connections of this host are numbered ({low} to {high})"
        ),
        PATH,
        "While the gateway is down an outgoing connection can take the port, and the next start fails.",
        format!("sysctl -w net.ipv4.ip_local_reserved_ports={ports}, or listen below {low}"),
    )
}

pub fn accept_queue(sight: &Sight<'_>) -> Outcome {
    let path = format!("/proc/{}/net/netstat", sight.process);
    let text = sight.root.text(&path).unwrap_or_default();
    // Two lines a group: names, then numbers.
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (Some(names), Some(numbers)) = (lines.next(), lines.next()) else {
        return Outcome::NotSeen(format!("{path} has no TcpExt"));
    };
    let mut both = names.split_whitespace().zip(numbers.split_whitespace());
    let Some(count) =
        both.find_map(|(name, number)| (name == "ListenOverflows").then(|| number.parse::<u64>().ok())?)
    else {
        return Outcome::NotSeen(format!("{path} has no ListenOverflows"));
    };
    if count == 0 {
        return Outcome::Fine;
    }
    found(
        Level::Note,
        format!("{count} connections found a full accept queue since the machine started"),
        &path,
        "Such a client sends again after a second at the earliest. It may have been another program's queue: ss -lnt shows \
         them.",
        "raise net.core.somaxconn where it caps the queue (4096 for each data core); more data cores where they are full",
    )
}

pub fn backlog_drops(sight: &Sight<'_>) -> Outcome {
    let (_, dropped, _) = match packets(sight) {
        Ok(packets) => packets,
        Err(why) => return Outcome::NotSeen(why),
    };
    if dropped == 0 {
        return Outcome::Fine;
    }
    found(
        Level::Warning,
        format!("{dropped} packets were dropped since the machine started: a CPU's queue of packets was full"),
        SOFTNET,
        "TCP sends them again, some 200 ms later.",
        "raise net.core.netdev_max_backlog, and spread the interrupts over more CPUs",
    )
    .by("throughput")
}

pub fn budget(sight: &Sight<'_>) -> Outcome {
    let (packets, _, squeezed) = match packets(sight) {
        Ok(packets) => packets,
        Err(why) => return Outcome::NotSeen(why),
    };
    // So many packets a turn that was cut short: below that it is seldom enough not to matter.
    if squeezed == 0 || packets / squeezed > 10_000 {
        return Outcome::Fine;
    }
    found(
        Level::Note,
        format!("the kernel broke off taking packets {squeezed} times with more waiting, over {packets} packets"),
        SOFTNET,
        "What is left waits for the next turn, behind the program that runs meanwhile.",
        "raise net.core.netdev_budget and net.core.netdev_budget_usecs",
    )
    .by("throughput")
}

const SOFTNET: &str = "/proc/net/softnet_stat";

/// Packets that were taken and dropped, and turns that were cut short, over all CPUs.
fn packets(sight: &Sight<'_>) -> Result<(u64, u64, u64), String> {
    let text =
        sight.root.text(SOFTNET).filter(|text| !text.is_empty()).ok_or_else(|| format!("{SOFTNET} cannot be read"))?;
    let mut sums = [0u64; 3];
    for line in text.lines() {
        let mut words = line.split_whitespace();
        for sum in &mut sums {
            let word = words.next().and_then(|word| u64::from_str_radix(word, 16).ok());
            *sum = sum.saturating_add(word.ok_or_else(|| format!("{SOFTNET} is not what it should be: {line}"))?);
        }
    }
    Ok((sums[0], sums[1], sums[2]))
}

/// From here on the table counts as nearly full, in percent.
const TRACKED_PERCENT: u64 = 80;

pub fn conntrack(sight: &Sight<'_>) -> Outcome {
    const PATH: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
    if !sight.root.exists(PATH) {
        return Outcome::Nothing;
    }
    match (sight.number(PATH), sight.number("/proc/sys/net/netfilter/nf_conntrack_max")) {
        (Err(why), _) | (_, Err(why)) => Outcome::NotSeen(why),
        (Ok(count), Ok(most)) if percent(count, most) < TRACKED_PERCENT => Outcome::Fine,
        (Ok(count), Ok(most)) => found(
            Level::Warning,
            format!("{count} of {most} connections are tracked"),
            PATH,
            "When the table is full the kernel drops packets of new connections.",
            "raise net.netfilter.nf_conntrack_max, or exempt the gateway's ports from tracking (notrack)",
        )
        .by("base"),
    }
}
