//! `ringway top` in front of a running gateway: on a pseudo-terminal, as text, as JSON, and where it cannot.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::kit::*;

const ROWS: u16 = 36;
const COLUMNS: u16 = 110;

fn top() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.arg("top").env_remove("RINGWAY_ADMIN").env_remove("RINGWAY_ADMIN_TOKEN").stdin(Stdio::null());
    command
}

/// A terminal with a program in it.
struct Screen {
    child: std::process::Child,
    keys: File,
    said: Receiver<Vec<u8>>,
    screen: vt100::Parser,
}

impl Screen {
    fn start(mut command: Command) -> Screen {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let theirs = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        tcsetwinsize(&theirs, Winsize { ws_row: ROWS, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        command.env("TERM", "xterm-256color");
        command.stdin(Stdio::from(OwnedFd::from(theirs.try_clone().unwrap())));
        command
            .stdout(Stdio::from(OwnedFd::from(theirs.try_clone().unwrap())))
            .stderr(Stdio::from(OwnedFd::from(theirs)));
        let child = command.spawn().unwrap();
        drop(command);
        let keys = File::from(ours);
        let (mut reader, (heard, said)) = (keys.try_clone().unwrap(), channel());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // An error is the end: the program has left its terminal.
            while let Ok(length @ 1..) = reader.read(&mut bytes) {
                if heard.send(bytes[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Screen { child, keys, said, screen: vt100::Parser::new(ROWS, COLUMNS, 0) }
    }

    /// Waits until the screen has all of `parts`.
    fn until(&mut self, parts: &[&str]) -> String {
        self.wait(&format!("{parts:?}"), |shown| parts.iter().all(|part| shown.contains(part)))
    }

    fn until_not(&mut self, part: &str) {
        self.wait(&format!("end of {part}"), |shown| !shown.contains(part));
    }

    fn wait(&mut self, what: &str, is_there: impl Fn(&str) -> bool) -> String {
        // The screen moves every second, so that a lack of bytes does not end the wait.
        let started = std::time::Instant::now();
        loop {
            let shown = self.screen.screen().contents();
            if is_there(&shown) {
                return shown;
            }
            assert!(started.elapsed() < GUARD, "no {what} in:\n{shown}");
            let bytes = self.said.recv_timeout(GUARD).unwrap_or_else(|_| panic!("no {what} in:\n{shown}"));
            self.screen.process(&bytes);
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn setup(backend: &Backend) -> Setup {
    Setup::bare()
        .backend("alpha", backend, "")
        .backend_at("beta", "http://127.0.0.1:9")
        .model("m", "backends = [\"alpha\"]")
        .tenant("t", "key-t", "")
}

fn ask(gateway: &Gateway) {
    let mut client = gateway.client();
    client.send(post_with(CHAT, "Authorization: Bearer key-t\r\n", &question("for top")));
    client.response().expect(200);
}

#[test]
fn a_terminal_shows_the_node_and_keys_work() {
    let backend = Backend::answering(|_| json(&completion("yes")));
    let gateway = setup(&backend).admin("listen = \"127.0.0.1:0\"").start();
    let mut command = top();
    command.args(["--admin", &format!("http://{}", gateway.admin.unwrap())]);
    let mut screen = Screen::start(command);
    let shown = screen.until(&["Ringway serving", "Backends, 2 of 2 serving, by state", "alpha", "beta", "Tenants"]);
    assert!(shown.contains(&gateway.address.to_string()), "{shown}");
    (0..3).for_each(|_| ask(&gateway));
    screen.until(&["Since start 3 requests"]);
    screen.press("s");
    screen.until(&["serving, by name"]);
    screen.press("r");
    screen.until(&["serving, by name, reversed"]);
    // An arrow, then Enter.
    screen.press("\x1b[B\r");
    screen.until(&[" alpha ", "Models       m", "Attempts     1", "success", "Esc closes"]);
    // With a letter right behind it, an escape would be that letter with Alt.
    screen.press("\x1b");
    screen.until_not("Esc closes");
    screen.press("m");
    screen.until(&["Models, by requests/s"]);
    gateway.terminate();
    gateway.ended();
    screen.until(&["Trying again"]);
    screen.press("q");
    let status = screen.child.wait().unwrap();
    assert!(status.success(), "{status}");
    while let Ok(bytes) = screen.said.recv_timeout(GUARD) {
        screen.screen.process(&bytes);
    }
    assert!(!screen.screen.screen().alternate_screen(), "the terminal is as it was");
    assert!(!screen.screen.screen().hide_cursor());
}

#[test]
fn text_and_json_come_over_a_unix_socket_and_with_a_token() {
    let backend = Backend::answering(|_| json(&completion("yes")));
    let gateway = setup(&backend).admin("listen = \"unix:$DIRECTORY/admin.sock\"").start();
    (0..2).for_each(|_| ask(&gateway));
    let place = format!("unix:{}", gateway.file("admin.sock").display());
    let output = top().args(["--once", "--admin", &place]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.starts_with("Ringway serving") && text.contains("alpha"), "{text}");
    assert!(!text.contains('\x1b') && text.contains("Since start 2 requests"), "{text}");

    let gateway = setup(&backend).admin("listen = \"127.0.0.1:0\"\ntoken = \"the-admin-token\"").start();
    let place = format!("http://{}", gateway.admin.unwrap());
    let with =
        |arguments: &[&str]| top().args(["--once", "--json", "--admin", &place]).args(arguments).output().unwrap();
    let output = with(&["--token", "the-admin-token"]);
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&status["state"], &status["backends"][0]["name"]), (&"serving".into(), &"alpha".into()));
    for arguments in [&[][..], &["--token", "wrong"][..]] {
        let output = with(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && output.stdout.is_empty() && said.contains("token"), "{said}");
    }
}

#[test]
fn where_there_is_no_node_or_no_terminal_the_reason_is_told() {
    let refused = |arguments: &[&str]| {
        let output = top().args(arguments).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
        String::from_utf8(output.stderr).unwrap()
    };
    let said = refused(&["--admin", "unix:/nowhere/admin.sock"]);
    assert!(said.contains("/nowhere/admin.sock") && said.contains("is the node running"), "{said}");
    assert!(refused(&["--admin", "https://node:1"]).contains("without TLS"));
    assert!(refused(&["--admin", "node"]).contains("http://HOST:PORT"));
    let gateway = Setup::bare().admin("listen = \"127.0.0.1:0\"").start();
    assert!(refused(&["--admin", &gateway.admin.unwrap().to_string()]).contains("no terminal"));
    let said = refused(&["--admin", &gateway.address.to_string()]);
    assert!(said.contains("refused") || said.contains("no Ringway"), "{said}");
}
