//! Starts each example as its users do, and runs the commands that it prints in a shell.

#[cfg(feature = "allow-list")]
mod allow_list;
mod events;
#[cfg(feature = "forward-auth")]
mod forward_auth;
#[cfg(all(feature = "actix", feature = "poem"))]
mod frameworks;
#[cfg(feature = "introspection")]
mod introspection;
#[cfg(all(feature = "aide", feature = "openapi"))]
mod openapi;
#[cfg(feature = "postgres")]
mod own_table;
#[cfg(feature = "postgres")]
mod postgres;
mod small;
#[cfg(feature = "tonic")]
mod tonic;
#[cfg(feature = "websocket")]
mod websocket;
