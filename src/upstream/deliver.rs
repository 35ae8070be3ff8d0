//! What a core does with each message about a backend. What names a backend or a model of another generation is dropped:
//! those who sent it find out by themselves.

use std::rc::Rc;

use shards::Check;

use super::message::{HealthNews, UpstreamMessage};
use super::queue::{self, At};
use super::upstreams::Upstreams;
use super::{connect, route};

pub fn deliver(upstreams: &Rc<Upstreams>, message: UpstreamMessage) {
    match message {
        UpstreamMessage::Health { backend, news } => {
            let Some(backend) = upstreams.backend(backend) else { return };
            let now = upstreams.now();
            let mut breaker = upstreams.backends[backend].breaker.borrow_mut();
            match news {
                // Every core hears of it: there is nobody to tell.
                HealthNews::CheckPassed => _ = breaker.checked(Check::Passed, now),
                HealthNews::CheckFailed => _ = breaker.checked(Check::Failed, now),
                HealthNews::Tripped { for_ms, epoch } => breaker.elsewhere_tripped(for_ms, epoch, now),
                HealthNews::Restored { epoch } => breaker.elsewhere_restored(epoch, now),
            }
        }
        UpstreamMessage::Cooled { model, target, for_ms } => {
            let model = upstreams.model(model);
            model.into_iter().for_each(|model| _ = route::cooled(upstreams, model, target, for_ms));
        }
        UpstreamMessage::ConnectionWanted { backend } => {
            let backend = upstreams.backend(backend);
            backend.into_iter().for_each(|backend| queue::release(upstreams, At::Backend(backend)));
        }
        UpstreamMessage::Addresses { backend, addresses } => {
            if let Some(backend) = upstreams.backend(backend) {
                connect::moved(upstreams, backend, addresses);
            }
        }
        // For the background core.
        UpstreamMessage::Turned { .. } | UpstreamMessage::Insecure { .. } => {}
    }
}
