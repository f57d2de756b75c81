//! REST, from outside: the answers, who may ask, and the exact answer to everything that is wrong.

mod availability;
mod bad_input;
mod explanation;
mod lists;
mod mitras;
mod operations;
mod operators;
mod own_status;
