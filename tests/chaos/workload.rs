//! Users who talk in several threads over several connections, whatever happens to them.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use kingsguard_testkit::prelude::*;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, IteratorRandom as _};
use rand::{Rng as _, SeedableRng as _};
use tokio_util::sync::CancellationToken;

/// Requests of different lengths: a greeting, an analysis, and work that goes on for so many seconds.
const REQUESTS: &[(&str, u32)] = &[
    ("Hello", 0),
    ("How can I spend less?", 0),
    ("What did I spend by model?", 0),
    ("Watch my usage for 1 second", 1),
    ("Watch my usage for 2 seconds", 2),
];

/// For how many seconds a thread's runs may go on in all. They go one after the other, and a seed waits for the last of them.
const WATCH_MAX: u32 = 4;

/// The shortest time for which users talk, so that a seed whose nemeses are quick still has a history.
const TALK_MIN: Duration = Duration::from_millis(2_500);

/// The most messages of a user: nemeses that take long on a busy machine must not grow the work that is left to do.
const MESSAGES_MAX: usize = 14;

/// All users of a seed.
#[derive(Debug)]
pub struct Crowd {
    pub members: Vec<Member>,
}

/// A user, his threads and his clients.
#[derive(Debug)]
pub struct Member {
    pub user: SimulatedUser,
    pub threads: Vec<ThreadId>,
    /// One that stays with each node, and one that goes from node to node.
    pub clients: Vec<SteadyChat>,
}

/// A message that a client was given to send.
#[derive(Clone, Debug)]
pub struct Sent {
    pub member: usize,
    pub client: usize,
    pub message_id: MessageId,
}

impl Crowd {
    /// Registers users and lets their clients connect.
    pub async fn gather(ctx: &TestContext, urls: &[String], dice: &mut StdRng) -> Self {
        let mut plans = Vec::new();
        for index in 0..dice.random_range(2..=3) {
            plans.push((index, dice.random_range(1..=3), dice.random::<u64>()));
        }
        let members = plans
            .into_iter()
            .map(|(index, threads, seed)| Member::join(ctx, urls, index, threads, seed));
        let crowd = Self {
            members: join_all(members).await,
        };
        crowd.pry();
        crowd
    }

    /// Everybody asks for a thread of somebody else, which nobody may get (ISO-1).
    fn pry(&self) {
        let strangers = self.members.iter().cycle().skip(1);
        for (member, stranger) in self.members.iter().zip(strangers) {
            member
                .clients
                .iter()
                .for_each(|client| client.follow(&stranger.threads[0]));
        }
    }

    pub fn users(&self) -> Vec<SimulatedUser> {
        self.members.iter().map(|member| member.user.clone()).collect()
    }

    /// Talks until the nemeses are over; says what was sent.
    pub async fn work(&self, seed: u64, over: &CancellationToken) -> Vec<Sent> {
        let talks = self.members.iter().enumerate().map(|(index, member)| {
            let dice = StdRng::seed_from_u64(seed.rotate_left(16) ^ index as u64);
            member.talk(index, dice, over)
        });
        join_all(talks).await.into_iter().flatten().collect()
    }
}

impl Member {
    async fn join(ctx: &TestContext, urls: &[String], index: usize, threads: usize, seed: u64) -> Self {
        let user = ctx.user(&format!("user{index}")).await;
        if index == 0 {
            user.upload(&SampleRecords::generate(seed, 60)).await;
        }
        let mut own = Vec::new();
        for number in 0..threads {
            own.push(user.create_thread(&format!("Thread {number}")).await);
        }
        let alone = urls.iter().map(|url| vec![url.clone()]);
        let places = alone.chain([urls.to_vec()]).enumerate();
        let clients = places.map(|(number, urls)| {
            let options = SteadyOptions::at(urls)
                .with_pauses(Duration::from_millis(50), Duration::from_millis(400))
                .with_attempt_max(Duration::from_millis(1_500))
                .with_silence_max(Duration::from_millis(1_500))
                .with_answer_max(Duration::from_millis(1_500))
                .with_jitter_seed(seed ^ number as u64);
            user.stay_connected(options)
        });
        let clients = join_all(clients.collect::<Vec<_>>()).await;
        for client in &clients {
            own.iter().for_each(|thread_id| client.follow(thread_id));
        }
        Self {
            user,
            threads: own,
            clients,
        }
    }

    async fn talk(&self, member: usize, mut dice: StdRng, over: &CancellationToken) -> Vec<Sent> {
        let began = tokio::time::Instant::now();
        let mut sent: Vec<Sent> = Vec::new();
        let mut said: BTreeMap<MessageId, (ThreadId, &str)> = BTreeMap::new();
        let mut watched: BTreeMap<ThreadId, u32> = BTreeMap::new();
        while sent.len() < MESSAGES_MAX && (!over.is_cancelled() || began.elapsed() < TALK_MIN) {
            let client = dice.random_range(0..self.clients.len());
            let chat = &self.clients[client];
            let again = if dice.random_bool(0.2) {
                sent.choose(&mut dice).cloned()
            } else {
                None
            };
            match again {
                Some(earlier) => {
                    let (thread_id, content) = &said[&earlier.message_id];
                    chat.say_again_in(thread_id, &earlier.message_id, content);
                    sent.push(Sent {
                        member,
                        client,
                        message_id: earlier.message_id,
                    });
                }
                None => {
                    let thread_id = self.threads.choose(&mut dice).expect("each user has a thread").clone();
                    let watched = watched.entry(thread_id.clone()).or_default();
                    let fitting = REQUESTS.iter().filter(|(_, seconds)| *watched + seconds <= WATCH_MAX);
                    let (content, seconds) = fitting.choose(&mut dice).expect("a greeting always fits");
                    *watched += seconds;
                    let message_id = chat.say_in(&thread_id, content);
                    said.insert(message_id.clone(), (thread_id, content));
                    sent.push(Sent {
                        member,
                        client,
                        message_id,
                    });
                }
            }
            if dice.random_bool(0.15)
                && let Some(Sent { client, message_id, .. }) = sent.choose(&mut dice)
                && let Some(run_id) = self.clients[*client].run_of(message_id)
            {
                chat.stop(&run_id);
            }
            // sleeps because people pause between what they say
            tokio::time::sleep(Duration::from_millis(dice.random_range(80..400))).await;
        }
        sent
    }
}
