//! The service from outside: what systemd thinks of the unit, what the gateway tells it, and the files of install.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

fn ringway() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.env_remove("RINGWAY_CONFIG").env_remove("NOTIFY_SOCKET").stdin(Stdio::null());
    command
}

#[test]
fn install_says_every_file_and_writes_only_when_told() {
    let image = tempfile::tempdir().unwrap();
    let root = image.path().to_str().unwrap();
    let run = |arguments: &[&str]| {
        let output = ringway().args(arguments).args(["--root", root]).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let shown = run(&["install"]);
    assert!(shown.ends_with("Nothing was changed; use --apply to make the changes.\n"), "{shown}");
    assert_eq!(fs::read_dir(image.path()).unwrap().count(), 0);
    let done = run(&["install", "--apply"]);
    let mut files = Vec::new();
    list(image.path(), &mut files);
    assert_eq!(files.len(), 8);
    for file in files {
        assert!(done.contains(file.strip_prefix(root).unwrap()), "{file} is told: {done}");
    }
    let configuration = image.path().join("etc/ringway/ringway.toml");
    let check = ringway().args(["check", "--config"]).arg(&configuration).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    run(&["uninstall", "--apply"]);
    let mut files = Vec::new();
    list(image.path(), &mut files);
    assert_eq!(files, [configuration.to_str().unwrap()]);
}

fn list(directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { list(&path, found) } else { found.push(path.to_str().unwrap().to_owned()) }
    }
}

#[test]
fn systemd_finds_little_exposed() {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/ringway.service");
    let output = Command::new("systemd-analyze").args(["security", "--offline=true", "--threshold=19", unit]).output();
    let Ok(output) = output else {
        eprintln!("left out: there is no systemd-analyze");
        return;
    };
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// A gateway with a manager of the test's own.
struct Managed {
    gateway: std::process::Child,
    manager: UnixDatagram,
    /// Everything it was told.
    told: String,
    _directory: tempfile::TempDir,
}

impl Managed {
    fn start() -> Managed {
        Managed::start_with("127.0.0.1:0", "off", None)
    }

    /// `passed` is a socket of the manager's own.
    fn start_with(listen: &str, admin: &str, passed: Option<OwnedFd>) -> Managed {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("notify");
        let manager = UnixDatagram::bind(&socket).unwrap();
        // A bound for a gateway that never tells; no test waits for so long.
        manager.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let configuration = directory.path().join("ringway.toml");
        let text = "[cores]\ndata = 2\n[[backend]]\nname = \"b\"\nurl = \"http://127.0.0.1:1\"\n\
                    health_interval = \"0s\"\nconnections_min = 0\n[[model]]\nname = \"m\"\nbackends = [\"b\"]\n";
        let listens = format!("[server]\nlisten = [\"{listen}\"]\n[admin]\nlisten = \"{admin}\"\n");
        fs::write(&configuration, listens + text).unwrap();
        let mut command = ringway();
        if let Some(passed) = passed {
            // As sd_listen_fds(3) has it: the first descriptor behind standard error, and the process itself in LISTEN_PID.
            command = Command::new("sh");
            let moves =
                "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=ringway.socket exec \"$0\" \"$@\"";
            command.args(["-c", moves, env!("CARGO_BIN_EXE_ringway")]).env_remove("RINGWAY_CONFIG").stdin(passed);
        }
        command.args(["serve", "--config"]).arg(&configuration).env("NOTIFY_SOCKET", &socket).stderr(Stdio::null());
        Managed { gateway: command.spawn().unwrap(), manager, told: String::new(), _directory: directory }
    }

    /// Receives until a line that starts with `wanted` was told.
    fn until(&mut self, wanted: &str) -> String {
        loop {
            let mut datagram = [0; 512];
            let length = self.manager.recv(&mut datagram).unwrap_or_else(|e| panic!("no {wanted}: {e}\n{}", self.told));
            let text = str::from_utf8(&datagram[..length]).unwrap();
            self.told += text;
            if let Some(line) = text.lines().find(|line| line.starts_with(wanted)) {
                return line.to_owned();
            }
        }
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        let _ = self.gateway.kill();
        let _ = self.gateway.wait();
    }
}

#[test]
fn the_service_manager_is_told_of_start_work_and_stop() {
    let mut managed = Managed::start();
    managed.until("READY=1");
    assert!(managed.told.contains("STATUS=serving on 127.0.0.1:"), "{}", managed.told);
    assert!(!managed.told.contains("WATCHDOG=1"), "nothing before it serves: {}", managed.told);
    managed.until("WATCHDOG=1");
    managed.until("WATCHDOG=1");
    let status = managed.until("STATUS=serving:");
    assert_eq!(status, "STATUS=serving: 0 requests per second, 0 in flight, 1 of 1 backends in service");
    let pid = rustix::process::Pid::from_child(&managed.gateway);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    managed.until("STOPPING=1");
    assert!(managed.told.contains("STATUS=draining: 0 requests in flight"), "{}", managed.told);
    let status = managed.gateway.wait().unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn what_waits_at_a_socket_of_the_service_manager_is_served_by_the_next_process() {
    for purpose in [Purpose::Client, Purpose::Admin] {
        is_served_by_the_next_process(purpose);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Client,
    Admin,
}

fn is_served_by_the_next_process(purpose: Purpose) {
    let manager = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = manager.local_addr().unwrap();
    let named = address.to_string();
    let (listen, admin) = match purpose {
        Purpose::Client => (&*named, "off"),
        Purpose::Admin => ("127.0.0.1:0", &*named),
    };
    let ask = || {
        let mut client = TcpStream::connect(address).unwrap();
        // A bound for a gateway that never answers.
        client.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        client.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        client
    };
    let answer = |mut client: TcpStream| {
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    };
    // More than there are cores: nobody may be left out.
    let mut waiting: Vec<TcpStream> = (0..8).map(|_| ask()).collect();
    for _ in 0..2 {
        let passed = manager.try_clone().unwrap().into();
        let mut managed = Managed::start_with(listen, admin, Some(passed));
        waiting.drain(..).for_each(answer);
        managed.until("READY=1");
        if purpose == Purpose::Client {
            assert!(managed.told.contains(&format!("STATUS=serving on {address}")), "{}", managed.told);
        }
        answer(ask());
        let pid = rustix::process::Pid::from_child(&managed.gateway);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        managed.until("STOPPING=1");
        let status = managed.gateway.wait().unwrap();
        assert!(status.success(), "{status}");
        waiting = (0..8).map(|_| ask()).collect();
    }
}

#[test]
fn a_stop_right_after_the_first_answer_is_a_good_end() {
    let manager = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = manager.local_addr().unwrap();
    for _ in 0..16 {
        let mut client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        client.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        let mut managed = Managed::start_with(&address.to_string(), "off", Some(manager.try_clone().unwrap().into()));
        client.read_exact(&mut [0; 12]).unwrap();
        let pid = rustix::process::Pid::from_child(&managed.gateway);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = managed.gateway.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}
