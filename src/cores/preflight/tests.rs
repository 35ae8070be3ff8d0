//! Memory limits, file permissions, and local and remote names.

use std::os::unix::fs::PermissionsExt;

use super::*;

const GIB: u64 = 1 << 30;

#[test]
fn a_cache_is_measured_against_the_memory_there_is() {
    let memory = |gib: u64| Memory { bytes: gib * GIB, bound: "this machine" };
    assert_eq!(memory(16).judge("cache.memory", 8 * GIB, CACHE_DEFAULT_BYTES), Verdict::Fits);
    assert!(matches!(memory(16).judge("cache.memory", 8 * GIB + 1, CACHE_DEFAULT_BYTES), Verdict::Much(_)));
    assert!(matches!(memory(16).judge("cache.memory", 64 << 40, CACHE_DEFAULT_BYTES), Verdict::TooMuch(_)));
    // The default was not chosen for a small machine.
    assert!(matches!(memory(2).judge("cache.memory", 4 * GIB, CACHE_DEFAULT_BYTES), Verdict::Much(_)));
    assert!(matches!(memory(2).judge("cache.memory", 3 * GIB, CACHE_DEFAULT_BYTES), Verdict::TooMuch(_)));
    assert!(Memory::of_this_host().unwrap().bytes > 0);
    let Verdict::TooMuch(what) = memory(16).judge("server.request_memory", 17 * GIB, REQUESTS_DEFAULT_BYTES) else {
        panic!("it does not fit")
    };
    assert!(what.starts_with("server.request_memory: 17GiB is more than "), "{what}");
}

#[test]
fn no_more_data_cores_than_cpus_go_unmentioned() {
    assert_eq!(crowded(2, 2), None);
    assert!(crowded(3, 2).unwrap().starts_with("cores.data: 3 data cores share 2 CPUs"));
}

#[test]
fn the_tightest_group_counts() {
    let root = tempfile::tempdir().unwrap();
    let inner = root.path().join("system.slice/ringway.service");
    fs::create_dir_all(&inner).unwrap();
    assert_eq!(group_limit(root.path(), "system.slice/ringway.service"), None);
    fs::write(inner.join("memory.max"), "max\n").unwrap();
    fs::write(root.path().join("system.slice/memory.max"), "1048576\n").unwrap();
    fs::write(root.path().join("memory.max"), "2097152\n").unwrap();
    assert_eq!(group_limit(root.path(), "system.slice/ringway.service"), Some(1 << 20));
    assert_eq!(group_limit(root.path(), ""), Some(2 << 20));
    assert_eq!(group_limit(root.path(), "gone"), Some(2 << 20));
}

#[test]
fn a_log_is_looked_at_before_it_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("access.log");
    assert_eq!(writable(&file), Ok(()));
    fs::write(&file, "").unwrap();
    assert_eq!(writable(&file), Ok(()));
    assert!(writable(directory.path()).unwrap_err().contains("it is a directory"));
    let missing = directory.path().join("missing/access.log");
    assert!(writable(&missing).unwrap_err().starts_with("there is no directory "));
    // Root may write regardless of permissions.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    assert_eq!(writable(&file).is_ok(), access(&file, Access::WRITE_OK).is_ok());
}

#[test]
fn only_what_stays_on_this_machine_is_local() {
    for host in ["localhost", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "model.localhost", "localhost."] {
        assert!(is_local(host), "{host}");
    }
    for host in ["10.0.0.1", "localhost.example", "llm.internal", "0.0.0.0", "::"] {
        assert!(!is_local(host), "{host}");
    }
}
