//! What can go wrong among ranks.
use ndarray_optim::CheckpointError;
use std::time::Duration;
use thiserror::Error;

/// Why an operation of all ranks failed. It fails on every rank, and names the rank that is the
/// reason.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// MPI does not work as this package needs it.
    #[error("MPI: {0}")]
    Mpi(String),
    /// Nothing came from a rank within the time limit: it has died, hangs, or makes another call.
    #[error("rank {rank} has sent nothing of {what} for {:.1} s", .limit.as_secs_f64())]
    Silent {
        /// The rank.
        rank: usize,
        /// What this rank has waited for: parameters, or the name of a call.
        what: String,
        /// The time limit.
        limit: Duration,
    },
    /// A rank has ended its part, so that this one has nobody to work with.
    #[error("rank {rank} has left while this rank waited for {what}")]
    Left {
        /// The rank.
        rank: usize,
        /// What this rank has waited for.
        what: String,
    },
    /// Another rank has given up, for a reason that it has sent to all.
    #[error("rank {rank} has given up: {reason}")]
    GivenUp {
        /// The rank that has given up, which need not be the one that is named as the reason.
        rank: usize,
        /// Its error.
        reason: String,
    },
    /// Ranks make different calls.
    #[error("rank {rank} is in {theirs}, this rank in {here}")]
    OtherCall {
        /// The other rank.
        rank: usize,
        /// What it does.
        theirs: String,
        /// What this rank does.
        here: String,
    },
    /// Two ranks differ in what must be the same.
    #[error("rank {rank} differs from rank 0 in {what}: {theirs}, rank 0 has {first}")]
    Differs {
        /// The first rank that differs from rank 0.
        rank: usize,
        /// A parameter, or a hyper-parameter with its group.
        what: String,
        /// What the rank has.
        theirs: String,
        /// What rank 0 has.
        first: String,
    },
    /// The input of a rank is not valid. No rank has changed anything.
    #[error("on rank {rank}: {problem}")]
    OnRank {
        /// The rank.
        rank: usize,
        /// What is wrong, with the name of the parameter.
        problem: String,
    },
    /// An earlier error has left the ranks in different states: start the program again and resume
    /// from a checkpoint.
    #[error("an earlier call has failed on the way ({0}): start again from a checkpoint")]
    Broken(String),
    /// The optimizer of this rank, as that of every other one, refuses.
    #[error(transparent)]
    Optimizer(#[from] ndarray_optim::Error),
    /// A checkpoint cannot be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Files do not make up a checkpoint of a model like this one.
    #[error("no checkpoint for this model: {0}")]
    Foreign(String),
}
