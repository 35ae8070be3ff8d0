//! A gateway in a process of its own, with a generated configuration and a free port.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::{Backend, Client, GUARD};

/// The configuration to come: `[server]`, `[cores]`, `[cache]`, then tables.
pub struct Setup {
    cores: usize,
    /// Further lines of `[cores]`.
    placing: String,
    /// Further addresses to listen on, besides a free port.
    listen: String,
    server: String,
    log: String,
    admin: Option<String>,
    cache: String,
    tables: String,
}

impl Setup {
    /// A gateway without backends: for what is refused before one is asked.
    pub fn bare() -> Setup {
        let [placing, listen, server, log, cache, tables] = Default::default();
        Setup { cores: 1, placing, listen, server, log, admin: None, cache, tables }
    }

    /// One backend called `b` behind the model `m`.
    pub fn with(backend: &Backend) -> Setup {
        Setup::with_backend(backend, "")
    }

    /// As `with`, and further `lines` in its `[[backend]]`.
    pub fn with_backend(backend: &Backend, lines: &str) -> Setup {
        Setup::bare().backend("b", backend, lines).model("m", "backends = [\"b\"]")
    }

    /// As `with`, and nothing is tried twice: for what one attempt does.
    pub fn once(backend: &Backend) -> Setup {
        Setup::bare().backend("b", backend, "").model("m", "backends = [\"b\"]\nretries = 0")
    }

    pub fn cores(mut self, data: usize) -> Setup {
        self.cores = data;
        self
    }

    /// As `cores`, and a further `line` of the table `[cores]`.
    pub fn cores_with(mut self, data: usize, line: &str) -> Setup {
        self.placing += &format!("{line}\n");
        self.cores(data)
    }

    pub fn listen(mut self, address: &str) -> Setup {
        self.listen += &format!(", \"{address}\"");
        self
    }

    pub fn server(mut self, line: &str) -> Setup {
        self.server += &format!("{line}\n");
        self
    }

    pub fn log(mut self, line: &str) -> Setup {
        self.log += &format!("{line}\n");
        self
    }

    /// `lines` of the table `[admin]`; without it the admin listener is off.
    pub fn admin(mut self, lines: &str) -> Setup {
        self.admin = Some(lines.to_owned());
        self
    }

    pub fn cache(mut self, line: &str) -> Setup {
        self.cache += &format!("{line}\n");
        self
    }

    pub fn backend(self, name: &str, backend: &Backend, lines: &str) -> Setup {
        self.backend_url(name, &format!("http://{}", backend.address), lines)
    }

    pub fn backend_at(self, name: &str, url: &str) -> Setup {
        self.backend_url(name, url, "")
    }

    /// A scripted backend meets only what the test sends: no connections ahead of need, and no checks, unless `lines` ask
    /// for them.
    pub fn backend_url(self, name: &str, url: &str, lines: &str) -> Setup {
        let mut text = format!("[[backend]]\nname = \"{name}\"\nurl = \"{url}\"\n{lines}\n");
        for (key, value) in [("connections_min", "0"), ("http2_connections_min", "0"), ("health_interval", "\"0s\"")] {
            // By whole names: one of these is the end of another.
            if !lines.lines().any(|line| line.split('=').next().is_some_and(|name| name.trim() == key)) {
                text += &format!("{key} = {value}\n");
            }
        }
        self.table(&text)
    }

    pub fn model(self, name: &str, lines: &str) -> Setup {
        self.table(&format!("[[model]]\nname = \"{name}\"\n{lines}"))
    }

    /// A tenant whose only key is `key`.
    pub fn tenant(self, name: &str, key: &str, lines: &str) -> Setup {
        use sha2::Digest;
        let digest: String = sha2::Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
        self.table(&format!("[[tenant]]\nname = \"{name}\"\nkeys = [\"sha256:{digest}\"]\n{lines}"))
    }

    /// `lines` in the only key of the tenant called `name`.
    pub fn key(mut self, name: &str, lines: &str) -> Setup {
        let (before, tenant) = self.tables.split_once(&format!("name = \"{name}\"\nkeys = [")).expect(name);
        let (hash, after) = tenant.split_once(']').expect(name);
        self.tables = format!("{before}name = \"{name}\"\nkeys = [{{ hash = {hash}, {lines} }}]{after}");
        self
    }

    /// A `[[listener]]` on a free port, with these `lines`; see [`Gateway::listeners`].
    pub fn listener(self, lines: &str) -> Setup {
        self.table(&format!("[[listener]]\naddress = \"127.0.0.1:0\"\n{lines}"))
    }

    /// `lines` of the table `[limits]` or `[cors]`.
    pub fn single(self, name: &str, lines: &str) -> Setup {
        self.table(&format!("[{name}]\n{lines}"))
    }

    /// A table that has no function of its own here.
    pub fn table(mut self, text: &str) -> Setup {
        self.tables += &format!("\n{text}\n");
        self
    }

    /// Starts the program and waits until it listens.
    pub fn start(self) -> Gateway {
        self.start_with(Stdio::null())
    }

    /// As `start`, with a standard output that somebody may read.
    pub fn start_with(self, out: Stdio) -> Gateway {
        self.start_in(out, |_| ())
    }

    /// As `start`, when the directory has been prepared.
    pub fn start_after(self, prepare: impl FnOnce(&std::path::Path)) -> Gateway {
        self.start_in(Stdio::null(), prepare)
    }

    fn start_in(self, out: Stdio, prepare: impl FnOnce(&std::path::Path)) -> Gateway {
        let further = self.listen.matches(',').count() + self.tables.matches("[[listener]]").count();
        let (child, directory) = self.spawn(&[], out, prepare);
        Gateway::begin(child, further, Arc::new(directory)).unwrap_or_else(|said| panic!("it did not start: {said}"))
    }

    /// Starts the program, which refuses, and gives what it says.
    pub fn refused(self) -> String {
        self.refused_after(|_| ())
    }

    /// As `refused`, when the directory has been prepared.
    pub fn refused_after(self, prepare: impl FnOnce(&std::path::Path)) -> String {
        self.refused_by(&[], prepare)
    }

    /// As `refused`, with further arguments.
    pub fn refused_with(self, arguments: &[&str]) -> String {
        self.refused_by(arguments, |_| ())
    }

    fn refused_by(self, arguments: &[&str], prepare: impl FnOnce(&std::path::Path)) -> String {
        let (child, _directory) = self.spawn(arguments, Stdio::null(), prepare);
        let output = child.wait_with_output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }

    fn spawn(
        self,
        arguments: &[&str],
        out: Stdio,
        prepare: impl FnOnce(&std::path::Path),
    ) -> (Child, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ringway.toml");
        prepare(directory.path());
        std::fs::write(&path, self.text(directory.path())).unwrap();
        (serve(&path, arguments, out), directory)
    }
}

impl Setup {
    fn text(self, directory: &std::path::Path) -> String {
        // A configuration needs one, even where nothing is ever asked of it.
        let whole = match self.tables.contains("[[backend]]") {
            true => self,
            false => self.backend_at("b", "http://127.0.0.1:9").model("m", "backends = [\"b\"]"),
        };
        let Setup { cores, placing, listen, server, log, admin, cache, tables } = whole;
        let admin = admin.unwrap_or_else(|| "listen = \"off\"".to_owned());
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:0\"{listen}]\n{server}\n[admin]\n{admin}\n\n[log]\n{log}\n[cores]\ndata = {cores}\n{placing}\n\
             [cache]\nmemory = \"64MiB\"\n{cache}{tables}"
        );
        text.replace("$DIRECTORY", directory.to_str().unwrap())
    }
}

fn serve(path: &std::path::Path, arguments: &[&str], out: Stdio) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.args(["serve", "--config"]).arg(path).args(arguments);
    command.stdout(out).stderr(Stdio::piped()).spawn().unwrap()
}

/// The next address for clients, if it is not a path, and everything that was said before. Errors: all that was said.
fn listening(told: &mut BufReader<ChildStderr>) -> Result<(Option<SocketAddr>, String), String> {
    let mut all = String::new();
    loop {
        let mut line = String::new();
        if told.read_line(&mut line).unwrap() == 0 {
            return Err(all);
        }
        let address = match line.starts_with('{') {
            true => line
                .split_once("\"listening on ")
                .and_then(|(_, rest)| rest.split_once('"'))
                .map(|(address, _)| address),
            false => line.trim().split_once(" listening on ").map(|(_, address)| address),
        };
        if let Some(address) = address {
            return Ok((address.parse().ok(), all));
        }
        all += &line;
    }
}

pub struct Gateway {
    child: Child,
    pub address: SocketAddr,
    /// Of each further address, in the order of the configuration; `None` for Unix sockets.
    pub listeners: Vec<Option<SocketAddr>>,
    /// Of the admin listener, where it has one on TCP.
    pub admin: Option<SocketAddr>,
    /// Before it listened.
    pub said_at_start: String,
    directory: Arc<tempfile::TempDir>,
    told: Option<JoinHandle<String>>,
}

impl Gateway {
    /// What a program that was started says first. Errors: it ended, with all that it said.
    fn begin(mut child: Child, further: usize, directory: Arc<tempfile::TempDir>) -> Result<Gateway, String> {
        let mut told = BufReader::new(child.stderr.take().unwrap());
        let first = listening(&mut told);
        let (address, said_at_start) = match first {
            Ok((address, said)) => (address.unwrap(), said),
            Err(said) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(said);
            }
        };
        let listeners = (0..further).map(|_| listening(&mut told).unwrap().0).collect();
        let admin = said_at_start.lines().find_map(|line| line.split_once("admin on "));
        let admin = admin.and_then(|(_, address)| address.trim().split('"').next()?.parse().ok());
        let told = std::thread::spawn(move || {
            let mut rest = String::new();
            let _ = told.read_to_string(&mut rest);
            rest
        });
        Ok(Gateway { child, address, listeners, admin, said_at_start, directory, told: Some(told) })
    }

    /// Another process, by what is the configuration now, that takes over from this one. Errors: it ended, with all that it said.
    pub fn successor(&self) -> Result<Gateway, String> {
        self.successor_on(self.listeners.len())
    }

    /// As `successor`, with so many further addresses.
    pub fn successor_on(&self, further: usize) -> Result<Gateway, String> {
        let child = serve(&self.file("ringway.toml"), &["--take-over"], Stdio::null());
        Gateway::begin(child, further, self.directory.clone())
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// The address of the first `[[listener]]`, or of the first further address.
    pub fn listener(&self) -> SocketAddr {
        self.listeners[0].unwrap()
    }

    /// One request on a connection of its own.
    pub fn ask(&self, request: impl AsRef<[u8]>) -> super::Response {
        let mut client = self.client();
        client.send(request);
        client.response()
    }

    pub fn file(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// Puts another configuration in the place of its own, at once, as an operator should. It is read when that is asked for.
    pub fn rewrite(&self, setup: Setup) {
        self.rewrite_text(&setup.text(self.directory.path()));
    }

    /// As `rewrite`.
    pub fn rewrite_text(&self, text: &str) {
        std::fs::write(self.file("new.toml"), text).unwrap();
        std::fs::rename(self.file("new.toml"), self.file("ringway.toml")).unwrap();
    }

    /// Files outlive the gateway as long as what this gives.
    pub fn keep_directory(&self) -> Arc<tempfile::TempDir> {
        self.directory.clone()
    }

    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Its access log, once it has ended, by itself or because it was told to. The end of the program is the end of the log.
    pub fn into_log(self) -> String {
        let (path, kept) = (self.file("access.log"), self.keep_directory());
        let (status, said) = self.ended();
        assert!(status.success(), "{said}");
        let log = std::fs::read_to_string(path).unwrap();
        drop(kept);
        log
    }

    /// The lines of [`Gateway::into_log`].
    pub fn into_lines(self) -> Vec<serde_json::Value> {
        self.into_log().lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// Waits for the program to end; its status and what it said on standard error since it listened.
    pub fn ended(mut self) -> (ExitStatus, String) {
        let started = Instant::now();
        // The end of standard error is the end of the process.
        let told = self.told.take().unwrap();
        let said = told.join().unwrap();
        assert!(started.elapsed() < 2 * GUARD);
        assert!(!said.contains("panicked"), "{said}");
        (self.child.wait().unwrap(), said)
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Resident memory.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse().unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // A task that panics takes one exchange with it and the program goes on: it must not go unnoticed here.
        let said = self.told.take().map_or(Ok(String::new()), JoinHandle::join).unwrap_or_default();
        assert!(std::thread::panicking() || !said.contains("panicked"), "{said}");
    }
}
