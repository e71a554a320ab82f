//! What lies between a worker and the services: requests travel, are lost, come late or twice, and arrive even when the
//! worker that sent them is gone. One task carries them all out, in order of arrival.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use super::store::Store;
use crate::simulation::Dice;

type Job = Box<dyn FnOnce(&mut Store) + Send>;

/// How much goes wrong, of a thousand requests.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub lost: u64,
    pub answer_lost: u64,
    pub late: u64,
    pub twice: u64,
    pub conflict: u64,
    pub throttled: u64,
    /// Of a thousand requests, those that take 100 to 1,500 ms.
    pub slow: u64,
}

impl Weather {
    /// Calm, rough or wild.
    pub fn of(dice: &mut Dice) -> Self {
        let hardness = match dice.within(0, 9) {
            0 => 0,
            1..=5 => 1,
            6..=8 => 3,
            _ => 6,
        };
        let mut rate = |most: u64| {
            let usual = hardness * dice.within(0, most);
            // Now and then one kind of trouble stands out.
            if dice.percent(7) { dice.within(100, 300) } else { usual }
        };
        Self {
            lost: rate(20),
            answer_lost: rate(30),
            late: rate(30),
            twice: rate(20),
            conflict: rate(20),
            throttled: rate(20),
            slow: rate(60),
        }
    }
}

/// A service that is not there, or does not let us in, for a while.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spell(Option<(Instant, Instant)>);

impl Spell {
    /// Perhaps one, within the time of faults.
    pub fn of(dice: &mut Dice, percent: u64, storm: Duration) -> Self {
        if !dice.percent(percent) {
            return Self(None);
        }
        let from = Instant::now() + Duration::from_millis(dice.within(500, storm.as_millis() as u64));
        Self(Some((from, from + Duration::from_millis(dice.within(500, 7_000)))))
    }

    fn now(self) -> bool {
        self.0.is_some_and(|(from, to)| from <= Instant::now() && Instant::now() < to)
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Answered,
    Lost,
    AnswerLost,
    /// No answer; it arrives after this.
    Late(Duration),
    /// Answered; a copy arrives after this.
    Twice(Duration),
    Conflict,
    Throttled,
}

pub struct Wire {
    store: Mutex<Store>,
    jobs: mpsc::UnboundedSender<(Instant, Job)>,
    dice: Mutex<Dice>,
    calm: AtomicBool,
    weather: Weather,
    /// The commit log refuses us; both tables are away; the destination refuses us.
    pub denied: Spell,
    pub away: Spell,
    pub halted: Spell,
}

/// The requests under way.
pub type Jobs = mpsc::UnboundedReceiver<(Instant, Job)>;

impl Wire {
    pub fn new(store: Store, dice: &mut Dice, storm: Duration) -> (Arc<Self>, Jobs) {
        let (jobs, under_way) = mpsc::unbounded_channel();
        let wire = Self {
            store: Mutex::new(store),
            jobs,
            weather: Weather::of(dice),
            denied: Spell::of(dice, 25, storm),
            away: Spell::of(dice, 20, storm),
            halted: Spell::of(dice, 30, storm),
            dice: Mutex::new(Dice::new(dice.roll())),
            calm: AtomicBool::new(false),
        };
        (Arc::new(wire), under_way)
    }

    /// Carries requests out as they arrive.
    pub async fn carry(self: Arc<Self>, mut jobs: Jobs) {
        let mut waiting: BTreeMap<(Instant, u64), Job> = BTreeMap::new();
        let mut number = 0;
        loop {
            while let Some(first) = waiting.first_entry().filter(|first| first.key().0 <= Instant::now()) {
                first.remove()(&mut self.store());
            }
            let next = waiting.first_key_value().map(|((at, _), _)| *at);
            tokio::select! {
                biased;
                job = jobs.recv() => {
                    let Some((at, job)) = job else { return };
                    number += 1;
                    waiting.insert((at, number), job);
                }
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }

    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No more faults.
    pub fn calm_down(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    pub fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    pub fn is(&self, spell: Spell) -> bool {
        !self.is_calm() && spell.now()
    }

    /// Rolls the dice of the wire.
    pub fn roll<T>(&self, roll: impl FnOnce(&mut Dice) -> T) -> T {
        roll(&mut self.dice.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// So many times of a thousand, while there are faults.
    pub fn chance(&self, permille: u64) -> bool {
        !self.is_calm() && self.roll(|dice| dice.within(0, 999) < permille)
    }

    pub fn latency(&self) -> Duration {
        let slow = self.chance(self.weather.slow);
        let (least, most) = if slow { (100, 1_500) } else { (1, 25) };
        Duration::from_millis(self.roll(|dice| dice.within(least, most)))
    }

    pub fn fate(&self) -> Fate {
        if self.is_calm() {
            return Fate::Answered;
        }
        if self.is(self.away) {
            return Fate::Lost;
        }
        let (mut mark, later) = self.roll(|dice| (dice.within(0, 999), dice.within(300, 12_000)));
        let later = Duration::from_millis(later);
        let Weather { lost, answer_lost, late, twice, conflict, throttled, .. } = self.weather;
        let fates = [
            (lost, Fate::Lost),
            (answer_lost, Fate::AnswerLost),
            (late, Fate::Late(later)),
            (twice, Fate::Twice(later)),
            (conflict, Fate::Conflict),
            (throttled, Fate::Throttled),
        ];
        for (rate, fate) in fates {
            if mark < rate {
                return fate;
            }
            mark -= rate;
        }
        Fate::Answered
    }

    /// Of a request that needs more trouble: of a thousand that would have been answered so many have none, or a copy.
    pub fn harder_fate(&self, permille: u64) -> Fate {
        let fate = self.fate();
        if fate != Fate::Answered || !self.chance(permille) {
            return fate;
        }
        let later = Duration::from_millis(self.roll(|dice| dice.within(300, 6_000)));
        match self.roll(|dice| dice.within(0, 2)) {
            0 => Fate::AnswerLost,
            1 => Fate::Late(later),
            _ => Fate::Twice(later),
        }
    }

    /// Lets a job arrive after a time, whoever is still there then.
    pub fn arrive(&self, after: Duration, job: impl FnOnce(&mut Store) + Send + 'static) {
        let _ = self.jobs.send((Instant::now() + after, Box::new(job)));
    }

    /// Sends one request; `None` is no answer.
    pub async fn send<T, F>(&self, fate: Fate, effect: F) -> Option<T>
    where
        T: Send + 'static,
        F: Fn(&mut Store) -> T + Send + Sync + 'static,
    {
        let way = self.latency();
        let effect = Arc::new(effect);
        let copy = effect.clone();
        match fate {
            Fate::Answered | Fate::AnswerLost | Fate::Twice(_) => {
                let (answer, answered) = oneshot::channel();
                self.arrive(way, move |store| {
                    let _ = answer.send(effect(store));
                });
                if let Fate::Twice(later) = fate {
                    self.arrive(way + later, move |store| {
                        store.count("requests that came twice");
                        copy(store);
                    });
                }
                if fate == Fate::AnswerLost {
                    sleep(way + self.latency() + Duration::from_millis(300)).await;
                    return None;
                }
                let answer = answered.await.ok();
                sleep(self.latency()).await;
                answer
            }
            Fate::Late(later) => {
                self.arrive(later, move |store| {
                    store.count("requests that came late");
                    copy(store);
                });
                sleep(way + Duration::from_millis(250)).await;
                None
            }
            Fate::Lost | Fate::Conflict | Fate::Throttled => {
                sleep(way).await;
                None
            }
        }
    }
}
