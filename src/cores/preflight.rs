//! Checks whether this host supports a valid configuration: CPUs that do not exist, a log that cannot be written,
//! privileged ports, more memory than there is. Used by `check` and `serve`. Changes nothing.

use std::fs;
use std::path::Path;

use rustix::fs::{Access, access};

use super::{listen, state};
use crate::config::snapshot::{AccessLog, Address, CacheMode, Listen, Server, Snapshot, SnapshotMode};
use crate::config::value::spell_size;
use crate::host::placement::plan_here;
use crate::host::plan::allowed_cpus;
use crate::host::port::other_listener;

/// Findings, each a sentence that begins with the key.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Preflight {
    /// The node cannot start.
    pub errors: Vec<String>,
    /// It can start, but the operator should know.
    pub warnings: Vec<String>,
}

/// Checks the host that this process runs on.
pub fn preflight(snapshot: &Snapshot) -> Preflight {
    let mut found = Preflight::default();
    match allowed_cpus().and_then(|cpus| Ok((plan_here(&snapshot.cores)?.data.len(), cpus.len()))) {
        Ok((data, cpus)) => found.warnings.extend(crowded(data, cpus)),
        Err(why) => found.errors.push(why),
    }
    if let AccessLog::File(path) = &snapshot.log.access
        && let Err(why) = writable(path)
    {
        found.errors.push(format!("log.access: {}: {why}", path.display()));
    }
    if let Some(directory) = &snapshot.server.state_dir
        && let Err(why) = directory_of(&directory.join("kept"))
    {
        found.errors.push(format!("server.state_dir: {why}"));
    }
    if snapshot.cache.snapshot == SnapshotMode::On && state::directory(&snapshot.server).is_none() {
        let why = "there is no directory to keep it in; set server.state_dir";
        found.errors.push(format!("cache.snapshot: {why}"));
    }
    for (address, listener) in snapshot.server.addresses() {
        let key = Server::address_key(listener);
        match address {
            Listen::Tcp(wanted) => {
                if let Err(error) = listen::can_bind(wanted) {
                    found.errors.push(listen::explain(address, key, &error));
                }
                if let Some(other) = other_listener(wanted) {
                    let what = format!(
                        "{address} is taken by {other}; stop that before `ringway serve`, or choose another address"
                    );
                    found.warnings.push(format!("{key}: {what}"));
                }
            }
            Listen::Unix(path) => {
                if let Err(why) = directory_of(path) {
                    found.errors.push(format!("{key}: {address}: {why}"));
                }
            }
        }
    }
    if let Some(memory) = Memory::of_this_host() {
        let cache = (snapshot.cache.mode == CacheMode::On).then_some((
            "cache.memory",
            snapshot.cache.memory_bytes,
            CACHE_DEFAULT_BYTES,
        ));
        let requests = ("server.request_memory", snapshot.server.request_memory_bytes, REQUESTS_DEFAULT_BYTES);
        for (key, bytes, default_bytes) in cache.into_iter().chain([requests]) {
            match memory.judge(key, bytes, default_bytes) {
                Verdict::Fits => {}
                Verdict::Much(what) => found.warnings.push(what),
                Verdict::TooMuch(what) => found.errors.push(what),
            }
        }
    }
    for backend in &snapshot.backends {
        if let Address::Tcp { host, .. } = &backend.address
            && backend.api_key.is_some()
            && backend.tls.is_none()
            && !is_local(host)
        {
            let name = &backend.name;
            found.warnings.push(format!(
                "backend.api_key: the credential of {name} is sent to {host} in plain text, where others may read it; write \
                 https:// in its url"
            ));
        }
    }
    found
}

/// What is to be said of more data cores than CPUs.
fn crowded(data: usize, cpus: usize) -> Option<String> {
    (data > cpus).then(|| {
        format!(
            "cores.data: {data} data cores share {cpus} CPUs, which is slower than one for each; lower it to {cpus} or less"
        )
    })
}

fn is_local(host: &str) -> bool {
    let name = host.trim_end_matches('.');
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Whether a file can be appended to, or created.
fn writable(path: &Path) -> Result<(), String> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err("it is a directory; write the path of a file".to_owned()),
        Ok(_) => match access(path, Access::WRITE_OK) {
            Ok(()) => Ok(()),
            Err(error) => Err(format!("it cannot be written: {error}; let the user Ringway runs as write it")),
        },
        Err(_) => directory_of(path),
    }
}

/// Whether a file can be created at `path`.
fn directory_of(path: &Path) -> Result<(), String> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let shown = directory.display();
    if !directory.is_dir() {
        return Err(format!("there is no directory {shown}; make it, owned by the user Ringway runs as"));
    }
    access(directory, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
        format!("nothing can be made in the directory {shown}: {error}; let the user Ringway runs as write to it")
    })
}

/// How much memory this process may use, and what limits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Memory {
    bytes: u64,
    bound: &'static str,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Fits,
    Much(String),
    TooMuch(String),
}

/// The defaults are not errors on a small host: they were not chosen for it, and memory is used only as answers and requests
/// come in.
const CACHE_DEFAULT_BYTES: u64 = 4 << 30;
const REQUESTS_DEFAULT_BYTES: u64 = 1 << 30;

impl Memory {
    fn of_this_host() -> Option<Memory> {
        let total = rustix::system::sysinfo();
        let bytes = (total.totalram as u64).checked_mul(u64::from(total.mem_unit.max(1)))?;
        let whole = Memory { bytes, bound: "this machine" };
        let of_group = fs::read_to_string("/proc/self/cgroup").ok().and_then(|groups| {
            let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?.trim_start_matches('/').to_owned();
            group_limit(Path::new("/sys/fs/cgroup"), &path)
        });
        match of_group {
            Some(bytes) if bytes < whole.bytes => Some(Memory { bytes, bound: "this process's cgroup" }),
            _ => Some(whole),
        }
    }

    fn judge(self, key: &str, wanted_bytes: u64, default_bytes: u64) -> Verdict {
        let Memory { bytes, bound } = self;
        let (wanted, whole) = (spell_size(wanted_bytes), spell_size(bytes >> 20 << 20));
        if wanted_bytes > bytes && wanted_bytes != default_bytes {
            return Verdict::TooMuch(format!("{key}: {wanted} is more than {bound} has ({whole}); lower it"));
        }
        if wanted_bytes > bytes / 2 {
            return Verdict::Much(format!("{key}: {wanted} is more than half of what {bound} has ({whole})"));
        }
        Verdict::Fits
    }
}

/// The lowest `memory.max` of a group and its ancestors.
fn group_limit(root: &Path, group: &str) -> Option<u64> {
    let mut directory = root.join(group);
    let mut least = None;
    while directory.starts_with(root) {
        let limit = fs::read_to_string(directory.join("memory.max")).ok();
        if let Some(bytes) = limit.and_then(|text| text.trim().parse::<u64>().ok()) {
            least = Some(least.map_or(bytes, |least: u64| least.min(bytes)));
        }
        if !directory.pop() {
            break;
        }
    }
    least
}

#[cfg(test)]
mod tests;
