//! What must be true, as plainly as it can be said.

use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};

/// Sessions that a mitra may have.
pub const CAPACITY: usize = 2;

/// What is done to one mitra. By SQL: as another program does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Online { node: usize },
    Offline { node: usize },
    Deactivate { node: usize },
    Reactivate { node: usize },
    OnlineBySql,
    OfflineBySql,
    DeactivateBySql,
    ReactivateBySql,
    Accept { node: usize },
    End { node: usize },
}

/// How it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    Refused(String),
}

/// One mitra.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    pub online: bool,
    pub deactivated: bool,
    pub sessions: usize,
}

impl Truth {
    /// It is fresh all the while: nobody is silent for long enough in a test.
    pub fn available(&self) -> bool {
        self.online && !self.deactivated && self.sessions < CAPACITY
    }
}

/// All of them.
pub struct Model(Vec<Truth>);

impl Model {
    pub fn of(mitras: usize) -> Self {
        Self(vec![Truth::default(); mitras])
    }

    pub fn truth(&self, mitra: usize) -> Truth {
        self.0[mitra]
    }

    pub fn available(&self) -> u64 {
        self.0.iter().filter(|truth| truth.available()).count() as u64
    }

    /// At most one command for each.
    pub fn commands(&self, random: &mut StdRng) -> Vec<(usize, Command)> {
        let mut commands = Vec::new();
        for mitra in 0..self.0.len() {
            if random.random_ratio(1, 4) {
                let node = random.random_range(0..2);
                let all = [
                    Command::Online { node },
                    Command::Online { node },
                    Command::Online { node },
                    Command::Offline { node },
                    Command::Offline { node },
                    Command::Deactivate { node },
                    Command::Reactivate { node },
                    Command::Reactivate { node },
                    Command::OnlineBySql,
                    Command::OfflineBySql,
                    Command::DeactivateBySql,
                    Command::ReactivateBySql,
                    Command::Accept { node },
                    Command::Accept { node },
                    Command::End { node },
                ];
                commands.push((mitra, *all.choose(random).expect("some")));
            }
        }
        commands
    }

    /// Takes over what was acknowledged, and holds the answer against what it had to be.
    pub fn acknowledged(&mut self, mitra: usize, command: Command, answer: &Answer) {
        let truth = &mut self.0[mitra];
        let was = *truth;
        let wanted = match command {
            Command::Online { .. } | Command::Offline { .. } if was.deactivated => {
                Answer::Refused("deactivated".to_owned())
            }
            // The schema refuses the whole statement.
            Command::OnlineBySql if was.deactivated => Answer::Refused("sql".to_owned()),
            Command::Online { .. } | Command::OnlineBySql => {
                truth.online = true;
                Answer::Done
            }
            Command::Offline { .. } | Command::OfflineBySql => {
                truth.online = false;
                Answer::Done
            }
            Command::Deactivate { .. } | Command::DeactivateBySql => {
                truth.deactivated = true;
                truth.online = false;
                Answer::Done
            }
            Command::Reactivate { .. } | Command::ReactivateBySql => {
                if was.deactivated {
                    truth.deactivated = false;
                    truth.online = false;
                }
                Answer::Done
            }
            Command::Accept { .. } if was.deactivated || !was.online => Answer::Refused("not_available".to_owned()),
            Command::Accept { .. } if was.sessions >= CAPACITY => Answer::Refused("capacity_exceeded".to_owned()),
            Command::Accept { .. } => {
                truth.sessions += 1;
                Answer::Done
            }
            Command::End { .. } => {
                truth.sessions = was.sessions.saturating_sub(1);
                Answer::Done
            }
        };
        assert_eq!(*answer, wanted, "{command:?} of mitra {mitra}, {was:?}");
    }

    /// A sweep took it.
    pub fn expired(&mut self, mitra: usize) {
        self.0[mitra].online = false;
    }
}
