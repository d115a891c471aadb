//! What is to be done, and when: each thing once, however often it is asked for.

use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::Hash;
use std::task::Poll;
use std::time::Duration;

use rollback_core::evidence::Notice;
use tokio::time::Instant;
use tokio_util::time::{DelayQueue, delay_queue};

/// From how many empty places on memory is given back.
const SPARE: usize = 1024;

/// Things that wait for their time. What is not in here costs nothing.
pub struct Queue<K> {
    waiting: HashMap<K, Waiting>,
    timers: DelayQueue<K>,
}

#[derive(Default)]
struct Waiting {
    /// What was noticed since it was done last; nothing when only its time has come.
    notice: Option<Notice>,
    timer: Option<delay_queue::Key>,
    /// How often it failed in a row.
    failures: u32,
    /// It waits for something else than what is noticed.
    held: bool,
    /// It is being done.
    running: bool,
}

impl Waiting {
    fn is_idle(&self) -> bool {
        self.notice.is_none() && self.timer.is_none() && !self.running
    }
}

/// How doing something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Well; to be done again after this time if nothing happens before.
    Done(Option<Duration>),
    /// Not yet: again after this time, or when it is let go.
    Held(Notice, Duration),
    /// Somebody else was first: again, soon.
    Raced(Notice, Duration),
    /// Badly: again, later each time.
    Failed(Notice),
}

impl<K: Clone + Eq + Hash> Queue<K> {
    /// Nothing to do.
    pub fn new() -> Self {
        Self {
            waiting: HashMap::new(),
            timers: DelayQueue::new(),
        }
    }

    /// Something happened. It is looked at after `delay`, or when it would have been anyway.
    pub fn notice(&mut self, key: &K, notice: Notice, delay: Duration) {
        let waiting = self.waiting.entry(key.clone()).or_default();
        waiting.notice = Some(waiting.notice.map_or(notice, |known| known.and(notice)));
        if !waiting.held {
            self.schedule(key, delay);
        }
    }

    /// What something was held for is over.
    pub fn let_go(&mut self, key: &K, delay: Duration) {
        if let Some(waiting) = self.waiting.get_mut(key).filter(|waiting| waiting.held) {
            waiting.held = false;
            self.schedule(key, delay);
        }
    }

    /// It is gone.
    pub fn forget(&mut self, key: &K) {
        let Some(waiting) = self.waiting.get_mut(key) else {
            return;
        };
        waiting.notice = None;
        if let Some(timer) = waiting.timer.take() {
            self.timers.try_remove(&timer);
        }
        self.tidy(key);
    }

    /// Waits for the next thing to do. Ends never when there is none: ask again after something was noticed.
    pub async fn next(&mut self) -> (K, Option<Notice>) {
        poll_fn(|context| match self.timers.poll_expired(context) {
            Poll::Ready(Some(expired)) => Poll::Ready(self.begin(expired.into_inner())),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        })
        .await
    }

    fn begin(&mut self, key: K) -> (K, Option<Notice>) {
        let waiting = self.waiting.entry(key.clone()).or_default();
        waiting.timer = None;
        waiting.held = false;
        waiting.running = true;
        let notice = waiting.notice.take();
        (key, notice)
    }

    /// Takes back what was done, and says how often it has failed by now.
    pub fn end(&mut self, key: &K, end: End, pause: Duration) -> u32 {
        let waiting = self.waiting.entry(key.clone()).or_default();
        waiting.running = false;
        let event = waiting.notice.is_some();
        let again = match end {
            End::Done(again) => {
                waiting.failures = 0;
                again
            }
            End::Held(notice, time) => {
                waiting.failures = 0;
                waiting.held = true;
                waiting.add(notice);
                Some(time)
            }
            End::Raced(notice, time) => {
                waiting.add(notice);
                Some(time)
            }
            End::Failed(notice) => {
                waiting.failures = waiting.failures.saturating_add(1);
                waiting.held = true;
                waiting.add(notice);
                Some(backoff(waiting.failures))
            }
        };
        let failures = waiting.failures;
        if let Some(delay) = again {
            self.schedule(key, delay);
        }
        // Something happened while it was being done.
        if event && matches!(end, End::Done(_) | End::Raced(..)) {
            self.schedule(key, pause);
        }
        self.tidy(key);
        failures
    }

    /// A timer never moves to later.
    fn schedule(&mut self, key: &K, delay: Duration) {
        let Some(waiting) = self.waiting.get_mut(key).filter(|waiting| !waiting.running) else {
            return;
        };
        match &waiting.timer {
            Some(timer) if self.timers.deadline(timer) <= Instant::now() + delay => {}
            Some(timer) => self.timers.reset(timer, delay),
            None => waiting.timer = Some(self.timers.insert(key.clone(), delay)),
        }
    }

    fn tidy(&mut self, key: &K) {
        if self.waiting.get(key).is_some_and(Waiting::is_idle) {
            self.waiting.remove(key);
        }
        if self.waiting.capacity() > SPARE && self.waiting.len() < self.waiting.capacity() / 4 {
            self.waiting.shrink_to(SPARE / 2);
            self.timers.compact();
        }
    }
}

impl Waiting {
    fn add(&mut self, notice: Notice) {
        self.notice = Some(self.notice.map_or(notice, |event| event.and(notice)));
    }
}

/// One second, and twice as long each time, up to five minutes.
fn backoff(failures: u32) -> Duration {
    const LONGEST: Duration = Duration::from_mins(5);
    Duration::from_secs(1 << failures.saturating_sub(1).min(10)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    const SOON: Duration = Duration::from_millis(5);
    const LATE: Duration = Duration::from_mins(10);

    fn notice(second: i64) -> Notice {
        Notice {
            at: Timestamp::from_second(second).unwrap(),
            dipped: false,
            gap: false,
        }
    }

    /// What comes next before anything that is late.
    async fn next(queue: &mut Queue<&'static str>) -> Option<(&'static str, Option<Notice>)> {
        let limit = Duration::from_secs(1);
        tokio::time::timeout(limit, queue.next()).await.ok()
    }

    #[tokio::test]
    async fn what_is_noticed_twice_is_done_once() {
        let mut queue = Queue::new();
        queue.notice(&"api", notice(1), SOON);
        let dipped = Notice {
            dipped: true,
            ..notice(2)
        };
        queue.notice(&"api", dipped, LATE);
        let both = Notice {
            dipped: true,
            ..notice(1)
        };
        assert_eq!(next(&mut queue).await, Some(("api", Some(both))));
        // Noticed while it is being done: again afterwards, and not before.
        queue.notice(&"api", notice(3), SOON);
        assert_eq!(next(&mut queue).await, None);
        queue.end(&"api", End::Done(Some(LATE)), SOON);
        assert_eq!(next(&mut queue).await, Some(("api", Some(notice(3)))));
        queue.end(&"api", End::Done(None), SOON);
        assert!(queue.waiting.is_empty() && queue.timers.is_empty());
    }

    #[tokio::test]
    async fn a_time_comes_without_any_notice() {
        let mut queue = Queue::new();
        queue.notice(&"api", notice(1), SOON);
        next(&mut queue).await;
        queue.end(&"api", End::Done(Some(SOON)), SOON);
        assert_eq!(next(&mut queue).await, Some(("api", None)));
        queue.end(&"api", End::Done(Some(LATE)), SOON);
        // Unless something happens before.
        queue.notice(&"api", notice(2), SOON);
        assert_eq!(next(&mut queue).await, Some(("api", Some(notice(2)))));
        queue.forget(&"api");
        queue.end(&"api", End::Done(None), SOON);
        assert!(queue.waiting.is_empty());
    }

    #[tokio::test]
    async fn what_is_held_remembers_and_waits_to_be_let_go() {
        let mut queue = Queue::new();
        queue.notice(&"api", notice(1), SOON);
        next(&mut queue).await;
        queue.end(&"api", End::Held(notice(1), LATE), SOON);
        queue.notice(&"api", notice(2), SOON);
        assert_eq!(next(&mut queue).await, None);
        queue.let_go(&"api", SOON);
        queue.let_go(&"other", SOON);
        assert_eq!(next(&mut queue).await, Some(("api", Some(notice(1)))));
        assert_eq!(queue.end(&"api", End::Failed(notice(1)), SOON), 1);
        queue.forget(&"api");
        assert!(queue.waiting.is_empty() && queue.timers.is_empty());
    }

    #[test]
    fn it_is_tried_again_later_each_time() {
        let seconds = [1, 2, 3, 9, 10, u32::MAX].map(|failures| backoff(failures).as_secs());
        assert_eq!(seconds, [1, 2, 4, 256, 300, 300]);
    }
}
