//! Profiles of CPU time and of allocations: one at a time, and for as long as somebody waits for it.

use super::*;

#[test]
fn a_process_is_profiled_once_at_a_time_whoever_asks() {
    let _alone = PROFILE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let (one, other) = (admin(""), admin(""));
    let cpu = async { tokio::join!(one.profile("seconds=1"), other.profile("seconds=1"), other.heap("seconds=1")) };
    let heap = async { tokio::join!(one.heap("seconds=1"), other.heap("seconds=1"), other.profile("seconds=1")) };
    for (first, second, third) in [futures_of(cpu), futures_of(heap)] {
        assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::CONFLICT));
        assert_eq!(json(second)["error"]["code"], "busy");
        assert_eq!(json(third)["error"]["code"], "busy");
    }
}

#[test]
fn a_client_that_leaves_ends_its_profile_of_allocations() {
    let _alone = PROFILE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let admin = admin("");
    futures_of(async {
        tokio::select! {
            _ = admin.heap("seconds=60") => panic!("the profile has not lasted"),
            () = tokio::task::yield_now() => {}
        }
        // It may be about to begin; what it is then is dropped on its thread.
        let mut next = admin.heap("seconds=1").await.status();
        while next == StatusCode::CONFLICT {
            tokio::task::yield_now().await;
            next = admin.heap("seconds=1").await.status();
        }
        assert_eq!(next, StatusCode::OK);
    });
}
