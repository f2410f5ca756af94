//! The examples as their readers meet them: each program is started, and the lines that it prints are pasted
//! into a shell.

#[cfg(feature = "postgres")]
mod postgres;
mod small;
#[cfg(feature = "tonic")]
mod tonic;
#[cfg(feature = "websocket")]
mod websocket;
