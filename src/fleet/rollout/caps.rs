//! How many machines are worked on at once: over all roll-outs, and of one site, whose line is narrow.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Turns.
#[derive(Debug)]
pub(super) struct Caps {
    total: Arc<Semaphore>,
    per_site: usize,
    sites: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// A turn; it ends with this.
#[derive(Debug)]
pub(super) struct Turn {
    _site: Option<OwnedSemaphorePermit>,
    _total: OwnedSemaphorePermit,
}

impl Caps {
    pub(super) fn new(total: usize, per_site: usize) -> Self {
        Self { total: Arc::new(Semaphore::new(total)), per_site, sites: Mutex::default() }
    }

    /// Waits for a turn. Who waits for their site holds none of the others' turns; a machine without a site is
    /// bounded by the total alone.
    pub(super) async fn turn(&self, site: &str) -> Turn {
        let site = (!site.is_empty()).then(|| self.site(site));
        // Nobody closes a semaphore here.
        let site = match site {
            Some(site) => Some(site.acquire_owned().await.expect("open")),
            None => None,
        };
        Turn { _site: site, _total: Arc::clone(&self.total).acquire_owned().await.expect("open") }
    }

    fn site(&self, site: &str) -> Arc<Semaphore> {
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        sites.retain(|_, turns| Arc::strong_count(turns) > 1);
        Arc::clone(sites.entry(site.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(self.per_site))))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// Whether a turn can be had now.
    fn now(caps: &Caps, site: &str) -> Option<Turn> {
        caps.turn(site).now_or_never()
    }

    #[test]
    fn sites_and_the_total_are_bounded() {
        let caps = Caps::new(3, 2);
        let a = now(&caps, "a").expect("the first");
        let _second = now(&caps, "a").expect("the second");
        assert!(now(&caps, "a").is_none(), "the site has two");
        let _other = now(&caps, "b").expect("another site");
        assert!(now(&caps, "c").is_none() && now(&caps, "").is_none(), "three in all");
        drop(a);
        assert!(now(&caps, "").is_some(), "without a site only the total counts");
        let again = now(&caps, "a");
        assert!(again.is_some() && now(&caps, "a").is_none(), "a turn that ended is another's");
    }

    #[test]
    fn who_waits_for_a_site_holds_up_nobody_else() {
        let caps = Caps::new(2, 1);
        let _held = now(&caps, "a").expect("the first");
        let mut waiting = Box::pin(caps.turn("a"));
        assert!((&mut waiting).now_or_never().is_none());
        assert!(now(&caps, "b").is_some(), "the second turn in all is free");
    }

    #[test]
    fn sites_that_are_done_are_forgotten() {
        let caps = Caps::new(8, 2);
        for site in 0..100 {
            drop(now(&caps, &site.to_string()));
        }
        assert!(caps.sites.lock().expect("alone").len() <= 2);
    }
}
