//! The program's commands from outside: output, exit status, help.

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn ringway(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringway"))
        .args(arguments)
        .env_remove("RINGWAY_CONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads nothing may be gone before the input is written.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Exit status, standard output, standard error.
fn run(arguments: &[&str], input: &str) -> (i32, String, String) {
    let Output { status, stdout, stderr } = ringway(arguments, input);
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn a_good_configuration_is_summed_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ringway.toml");
    let (_, sample, _) = run(&["config", "sample"], "");
    let sample = sample.replace("#memory = \"4GiB\"", "memory = \"64MiB\"");
    let sample = sample.replace("#listen = [\"127.0.0.1:8080\"]", "listen = [\"127.0.0.1:0\"]");
    std::fs::write(&path, format!("{sample}[[backend]]\nname = \"spare\"\nurl = \"http://127.0.0.1:1\"\n")).unwrap();
    let path = path.to_str().unwrap();
    let told = format!(
        "{path}: good\n  listens on 127.0.0.1:0\n  1 model over 2 backends\n  asks for no key\n  \
         cache of 64MiB, answers live 5m\n  note: no model uses the backend \"spare\"\n"
    );
    assert_eq!(run(&["check", "--config", path], ""), (0, told, String::new()));
}

#[test]
fn who_has_the_port_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let text = format!(
        "[server]\nlisten = [\"{address}\"]\n[cache]\nmemory = \"64MiB\"\n[[backend]]\nname = \"b\"\nurl = \"http://127.0.0.1:1\"\n\
         [[model]]\nname = \"m\"\nbackends = [\"b\"]\n"
    );
    let (status, told, _) = run(&["check", "-"], &text);
    let process = format!("(process {})", std::process::id());
    assert!(status == 0 && told.contains(&format!("{address} is taken by ")) && told.contains(&process), "{told}");
}

#[test]
fn a_bad_configuration_is_told_on_standard_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ringway.toml");
    std::fs::write(&path, "[server]\nbody_maxx = 1\n").unwrap();
    let path = path.to_str().unwrap();
    for command in ["check", "serve"] {
        let (status, out, told) = run(&[command, "--config", path], "");
        assert_eq!((status, out.as_str()), (1, ""));
        assert_eq!(told.lines().count(), 3, "{told}");
        assert!(
            told.contains(&format!("{path}:2:1: server.body_maxx: unknown key; did you mean body_max?\n")),
            "{told}"
        );
    }
}

#[test]
fn a_configuration_that_cannot_be_read_is_a_problem_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.toml");
    let (status, _, told) = run(&["check", "--config", missing.to_str().unwrap()], "");
    assert_eq!(status, 1);
    assert!(told.contains("missing.toml:1:1: cannot read the file: there is no such file; "), "{told}");

    let binary = directory.path().join("binary.toml");
    std::fs::write(&binary, [0xff, 0xfe]).unwrap();
    let (status, _, told) = run(&["check", "--config", binary.to_str().unwrap()], "");
    assert_eq!(status, 1);
    assert!(told.contains("it is not UTF-8 text"), "{told}");

    let huge = directory.path().join("huge.toml");
    std::fs::File::create(&huge).unwrap().set_len((64 << 20) + 1).unwrap();
    let (status, _, told) = run(&["check", "--config", huge.to_str().unwrap()], "");
    assert_eq!(status, 1);
    assert!(told.contains("the file has over 67108864 bytes"), "{told}");
}

#[test]
fn a_key_is_hashed_without_its_line_break_and_never_shown() {
    let key = "abcdefghijklmnop";
    let hash = "sha256:f39dac6cbaba535e2c207cd0cd8f154974223c848f727f98b3564cea569b41cf\n";
    for input in [key.to_owned(), format!("{key}\n"), format!("{key}\r\n")] {
        assert_eq!(run(&["key", "hash"], &input), (0, hash.to_owned(), String::new()));
    }
    let (status, out, note) = run(&["key", "hash"], "short");
    assert_eq!((status, out.len()), (0, hash.len()));
    assert!(note.contains("guessed") && !note.contains("short\n"), "{note}");
    for input in ["", "\n", "two words", "two\nlines", "\u{e9}t\u{e9}", &"k".repeat(5000)] {
        let (status, out, told) = run(&["key", "hash"], input);
        assert_eq!((status, out.as_str()), (1, ""), "{input}");
        assert!(input.trim().is_empty() || !told.contains(input), "{told}");
    }
}

#[test]
fn an_imported_configuration_passes_the_check_and_is_never_written_over() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("ringway.toml");
    let output = output.to_str().unwrap();
    let yaml = include_str!("golden/import/team.yaml");
    let (status, out, left) = run(&["import", "litellm", "-", "--output", output], yaml);
    assert_eq!((status, out.as_str()), (0, ""));
    assert!(left.contains("standard input: line 41: ") && left.contains("\"bedrock\""), "{left}");

    let mut check = Command::new(env!("CARGO_BIN_EXE_ringway"));
    check.args(["check", "--config", output]);
    let hash = format!("sha256:{}", "0".repeat(64));
    check.env("LITELLM_MASTER_KEY_SHA256", hash);
    // Every variable is named at the head of the result.
    let result = std::fs::read_to_string(output).unwrap();
    let names = result.lines().filter_map(|line| line.strip_prefix("#   ")?.split_once("  ").map(|(name, _)| name));
    for name in names.filter(|name| !name.contains(' ') && *name != "LITELLM_MASTER_KEY_SHA256") {
        check.env(name, "secret");
    }
    let Output { status, stderr, .. } = check.output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));

    let before = std::fs::read_to_string(output).unwrap();
    let (status, _, told) = run(&["import", "litellm", "-", "--output", output], yaml);
    assert_eq!((status, std::fs::read_to_string(output).unwrap()), (1, before), "{told}");

    let (status, out, told) = run(&["import", "litellm", "-"], "model_list:\n  - model_name: a\n   b: 1\n");
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(told.starts_with("ringway: standard input:3:") && told.contains("not YAML"), "{told}");
    let (status, _, told) = run(&["import", "litellm", "/nowhere/config.yaml"], "");
    assert!(status == 1 && told.contains("/nowhere/config.yaml"), "{told}");
}

#[test]
fn a_new_key_is_told_once_with_its_hash() {
    let (status, out, _) = run(&["key", "generate"], "");
    let lines: Vec<&str> = out.lines().collect();
    let [key, hash] = lines[..] else { panic!("{out}") };
    assert!(status == 0 && key.starts_with("rw-") && key.len() == 67, "{out}");
    assert_eq!(run(&["key", "hash"], key), (0, format!("{hash}\n"), String::new()));
    let other = run(&["key", "generate"], "").1;
    assert_ne!(other.lines().next(), Some(key));
}

#[test]
fn whose_a_key_is_is_told_and_never_the_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ringway.toml");
    let hash = |key: &str| run(&["key", "hash"], key).1.trim().to_owned();
    let text = configuration(&format!(
        "[[tenant]]\nname = \"search\"\nkeys = [\"{}\", {{ hash = \"{}\", expires = \"2999-01-31\" }}, \
         {{ hash = \"{}\", expires = \"2001-01-31\" }}, {{ hash = \"{}\", disabled = true }}]",
        hash("key-for-ever-and-ever"),
        hash("key-for-a-long-time-"),
        hash("key-of-the-past-year"),
        hash("key-that-has-leaked-"),
    ));
    std::fs::write(&path, text).unwrap();
    for (key, status, told) in [
        ("key-for-ever-and-ever", 0, "tenant search, does not expire\n"),
        ("key-for-a-long-time-", 0, "tenant search, expires 2999-01-31\n"),
        ("key-of-the-past-year", 1, "ringway: tenant search, expired 2001-01-31\n"),
        ("key-that-has-leaked-", 1, "ringway: tenant search, disabled\n"),
        ("key-that-nobody-has-", 1, "ringway: the key belongs to no tenant\n"),
    ] {
        let (ended, out, error) = run(&["key", "which", "-c", path.to_str().unwrap()], key);
        assert_eq!((ended, out + &error), (status, told.to_owned()), "{key}");
    }
    std::fs::write(&path, configuration("")).unwrap();
    let (ended, _, error) = run(&["key", "which", "-c", path.to_str().unwrap()], "key-that-nobody-has-");
    assert!(ended == 1 && error.contains("no key is asked for"), "{error}");
}

#[test]
fn the_reference_lists_keys() {
    let (status, out, _) = run(&["config", "keys"], "");
    assert_eq!(status, 0);
    assert!(out.contains("\n  cache.ttl\n") && out.contains("default \"300s\""), "{out}");
}

#[test]
fn every_help_page_has_examples_and_exit_status() {
    for page in [
        &["--help"][..],
        &["demo", "--help"],
        &["top", "--help"],
        &["serve", "--help"],
        &["check", "--help"],
        &["config", "--help"],
        &["key", "--help"],
        &["import", "--help"],
        &["import", "litellm", "--help"],
        &["doctor", "--help"],
        &["tune", "--help"],
        &["install", "--help"],
        &["uninstall", "--help"],
        &["completions", "--help"],
        &["man", "--help"],
    ] {
        let (status, out, _) = run(page, "");
        assert_eq!(status, 0);
        assert!(out.contains("Examples:") && out.contains("Exit status:"), "{page:?}:\n{out}");
    }
    let (status, out, _) = run(&["--version"], "");
    assert_eq!((status, out), (0, format!("ringway {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_wrong_command_line_has_its_own_status() {
    for line in [
        &[][..],
        &["serve", "--frobnicate"],
        &["frobnicate"],
        &["tune"],
        &["tune", "--apply"],
        &["tune", "--list", "--undo"],
        &["demo", "--listen", "0.0.0.0:8080"],
        &["demo", "--cores", "0"],
    ] {
        let (status, out, told) = run(line, "");
        assert_eq!((status, out.as_str()), (2, ""), "{line:?}");
        assert!(!told.is_empty());
    }
}

#[test]
fn certificates_and_keys_are_read_before_anything_starts() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (key, other) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
    let own = rcgen::CertificateParams::new(vec!["gateway.test".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
    let good =
        [file("own.pem", &own), file("own.key", &key.serialize_pem()), file("other.key", &other.serialize_pem())];
    let [certificate, private_key, strange_key] = &good;
    let empty = file("empty.pem", "nothing here\n");
    let broken = file("broken.pem", "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n");
    let cut = file("cut.key", "-----BEGIN PRIVATE KEY-----\nTOPSECRET\n");
    let backend = |name: &str, ca: &str, chain: &str, key: &str| {
        format!(
            "[[backend]]\nname = \"{name}\"\nurl = \"https://127.0.0.1\"\ntls_ca = \"{ca}\"\ntls_cert = \"{chain}\"\n\
             tls_key = \"{key}\"\n"
        )
    };
    let rest = "[server]\nlisten = [\"127.0.0.1:0\"]\n[[model]]\nname = \"m\"\nbackends = [\"a\"]\n";
    let path = file("good.toml", &format!("{rest}{}", backend("a", certificate, certificate, private_key)));
    let (status, out, told) = run(&["check", "--config", &path], "");
    assert_eq!((status, told.as_str()), (0, ""), "{out}");

    let backends = [
        backend("a", &empty, &broken, &cut),
        backend("b", certificate, certificate, strange_key),
        backend("c", "/missing.pem", &empty, private_key).replace("name", "weight = 0\nname"),
    ];
    let path = file("bad.toml", &format!("{rest}{}", backends.concat()));
    let wanted = [
        (9, 10, "tls_ca", format!("{empty}: contains no PEM certificate; name the PEM file")),
        (10, 12, "tls_cert", format!("{broken}: certificate 1 cannot be used: ")),
        (11, 11, "tls_key", format!("{cut}: the private key cannot be used: ")),
        (
            17,
            11,
            "tls_key",
            format!("{strange_key} is not the private key of the first certificate in {certificate}; "),
        ),
        (19, 10, "weight", String::new()),
        (22, 10, "tls_ca", "cannot read /missing.pem: ".to_owned()),
        (23, 12, "tls_cert", format!("{empty}: contains no PEM certificate; ")),
    ];
    for command in ["check", "serve"] {
        let (status, out, told) = run(&[command, "--config", &path], "");
        assert_eq!((status, out.as_str()), (1, ""));
        assert!(!told.contains("TOPSECRET"), "{told}");
        assert_eq!(told.lines().count(), wanted.len(), "{told}");
        for (line, (row, column, key, what)) in told.lines().zip(&wanted) {
            let start = format!("{path}:{row}:{column}: backend.{key}: {what}");
            assert!(line.starts_with(&start), "{line}\n{start}");
        }
    }
}

/// Good in itself, with a line of the caller's in `[server]`, `[log]`, `[cores]`, `[cache]` or after the rest.
fn configuration(more: &str) -> String {
    let rest = "[[model]]\nname = \"m\"\nbackends = [\"a\"]\n";
    format!("{more}\n[[backend]]\nname = \"a\"\nurl = \"http://127.0.0.1:1\"\n{rest}")
}

#[test]
fn a_prompt_template_is_listed_and_rendered() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ringway.toml");
    let template = "[[template]]\nname = \"t\"\nsystem = \"Be {{ tone }}.\"\ndefaults = { tone = \"brief\" }\n\
                    user = \"{% for what in list %}{{ what }};{% endfor %}\"\n";
    std::fs::write(&path, configuration(template)).unwrap();
    let path = path.to_str().unwrap();
    let (status, told, _) = run(&["check", path], "");
    assert!(status == 0 && told.contains("\n  1 prompt template\n"), "{told}");
    let list = run(&["template", "list", "-c", path], "");
    assert_eq!(list, (0, "t 1 (default)\n  list\n  tone = \"brief\"\n".to_owned(), String::new()));
    let render = |more: &[&str]| run(&[&["template", "render", "t", "-c", path], more].concat(), "");
    let rendered = render(&["--json", "list=[\"a\",2]"]);
    assert_eq!(rendered, (0, "--- system\nBe brief.\n--- user\na;2;\n".to_owned(), String::new()));
    for (more, said) in [
        (&["--var", "tone=rude"][..], "'list'"),
        (&["--json", "list=["], "not JSON"),
        (&["--var", "list"], "NAME=VALUE"),
        (&["--version", "9"], "it has '1'"),
    ] {
        let (status, out, told) = render(more);
        assert!(status == 1 && out.is_empty() && told.contains(said), "{told}");
    }
}

#[test]
fn check_and_serve_say_the_same_of_what_this_host_cannot_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ringway.toml");
    let [shown, missing] = [&path, &directory.path().join("logs")].map(|path| path.display().to_string());
    let free = "[server]\nlisten = [\"127.0.0.1:0\"]\n";
    for (more, what) in [
        (format!("{free}[cores]\ndata = \"8191\""), "cores.data: CPU 8191 is not among those".to_owned()),
        (
            format!("{free}[log]\naccess = \"{missing}/access.log\""),
            format!("log.access: {missing}/access.log: there is no directory {missing}; make it"),
        ),
        (format!("{free}[cache]\nmemory = \"64TiB\""), "cache.memory: 64TiB is more than ".to_owned()),
        (
            "[server]\nlisten = [\"127.0.0.1:0\", \"192.0.2.1:8080\"]\n[[tenant]]\nname = \"t\"\n\
             keys = [\"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"]"
                .to_owned(),
            "server.listen: cannot listen on 192.0.2.1:8080: ".to_owned(),
        ),
    ] {
        std::fs::write(&path, configuration(&more)).unwrap();
        for command in ["check", "serve"] {
            let (status, out, told) = run(&[command, "--config", &shown], "");
            assert_eq!((status, out.as_str()), (1, ""), "{more}");
            assert!(told.contains(&what), "{command}: {told}");
        }
    }
}

#[test]
fn a_credential_in_plain_text_is_warned_of() {
    let text = configuration("[server]\nlisten = [\"127.0.0.1:0\"]\n[cache]\nmemory = \"64MiB\"");
    for (url, warned) in [("http://192.0.2.1:8000", 1), ("http://localhost:8000", 0)] {
        let text = text.replace("\"http://127.0.0.1:1\"", &format!("\"{url}\"\napi_key = \"secret-secret\""));
        let (status, out, told) = run(&["check", "-"], &text);
        assert_eq!((status, told.as_str()), (0, ""), "{out}");
        assert!(out.starts_with("standard input: good\n") && !out.contains("secret-secret"), "{out}");
        assert_eq!(out.matches("  warning: backend.api_key: the credential of a is sent to ").count(), warned, "{out}");
    }
}

#[test]
fn a_file_can_be_named_in_every_usual_way() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ringway.toml");
    let (_, sample, _) = run(&["config", "sample", "--minimal"], "");
    std::fs::write(&path, sample).unwrap();
    let path = path.to_str().unwrap();
    for line in
        [&["check", path][..], &["check", "-c", path], &["check", "--config", path], &["check", "-c", "/no", path]]
    {
        let (status, out, told) = run(line, "");
        assert!(status == 0 && out.starts_with(&format!("{path}: good\n")), "{line:?}: {told}");
    }
    let (status, _, told) = run(&["check", "-"], "[server]\nport = 1\n");
    assert!(
        status == 1 && told.contains("standard input:2:1: server.port: unknown key; it is server.listen here\n"),
        "{told}"
    );
}

#[test]
fn keys_are_found_by_a_word() {
    let (status, out, _) = run(&["config", "keys", "TTL"], "");
    assert!(status == 0 && out.contains("  cache.ttl\n") && !out.contains("  cache.memory\n"), "{out}");
    assert_eq!(run(&["config", "keys", "frobnicate"], "").0, 1);
}

#[test]
fn the_schema_is_json_and_the_completions_name_the_commands() {
    let (status, out, _) = run(&["config", "schema"], "");
    let schema: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(status, 0);
    let properties = &schema["properties"];
    assert_eq!(properties["cache"]["properties"]["scope"]["default"], "tenant");
    assert_eq!(properties["backend"]["items"]["required"], serde_json::json!(["name", "url"]));
    assert_eq!(properties["backend"]["items"]["properties"]["weight"]["default"], 1);
    for shell in ["bash", "zsh", "fish"] {
        let (status, out, _) = run(&["completions", shell], "");
        assert!(status == 0 && out.contains("check") && out.contains("serve"), "{shell}");
    }
}

/// A server that answers every request with `status` and `body`, one connection each.
fn answering(status: &'static str, body: &'static str) -> std::net::SocketAddr {
    use std::io::Read;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
            let refused = !head.contains("authorization: bearer sk-right");
            let (status, body) = if refused { ("401 Unauthorized", "") } else { (status, body) };
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    address
}

#[test]
fn a_probe_tells_of_backends_credentials_and_model_names() {
    let models = r#"{"object": "list", "data": [{"id": "qwen-7b"}, {"id": "qwen-14b"}]}"#;
    let good = answering("200 OK", models);
    let backend = |name: &str, url: &str, key: &str| {
        format!("[[backend]]\nname = \"{name}\"\nurl = \"{url}\"\napi_key = \"{key}\"\n")
    };
    let model = |name: &str, backend: &str, called: &str| {
        format!("[[model]]\nname = \"{name}\"\nbackends = [{{ backend = \"{backend}\", model = \"{called}\" }}]\n")
    };
    let probe = |text: &str| run(&["check", "--probe", "-"], &format!("[cache]\nmemory = \"64MiB\"\n{text}"));

    let text = backend("a", &format!("http://{good}"), "sk-right") + &model("m", "a", "qwen-7b");
    let (status, out, told) = probe(&text);
    assert_eq!((status, told.as_str()), (0, ""), "{out}");
    assert!(out.ends_with("  backend a: reached, its 2 models as configured\n"), "{out}");

    let none = answering("404 Not Found", "");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = [
        backend("a", &format!("http://{good}"), "sk-right"),
        backend("refused", &format!("http://{good}"), "sk-wrong"),
        backend("silent", &format!("http://{none}"), "sk-right"),
        backend("gone", &format!("http://{closed}"), "sk-right"),
        backend("named", "http://no-such-host.invalid", "sk-right"),
        model("m", "a", "qwen-7"),
        model("n", "refused", "x"),
        model("o", "silent", "x"),
        model("p", "gone", "x"),
        model("q", "named", "x"),
    ];
    let (status, out, told) = probe(&text.concat());
    assert_eq!((status, out.as_str()), (1, ""));
    for wanted in [
        "standard input: model m: backend a has no model qwen-7; it has qwen-7b, qwen-14b\n",
        "standard input: backend refused: refuses backend.api_key (it answers 401)\n",
        "standard input: backend gone: ",
        "standard input: backend named: the name no-such-host.invalid does not resolve",
    ] {
        assert!(told.contains(wanted), "{wanted}{told}");
    }
    assert_eq!(told.lines().count(), 4, "{told}");
    assert!(!told.contains("sk-"), "{told}");
}
