//! The chaos run and herds of requests, in processes of their own.

mod herd;
mod short;
