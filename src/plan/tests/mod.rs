//! Controllers against a State: commands are applied, nothing is faked but time, ids and the nodes'
//! reports.

mod agenda;
mod api_service;
mod assign;
mod bound;
mod built_in;
mod commit;
mod deployment;
mod disruption;
mod drift;
mod endpoint_slice;
mod endpoints;
mod failure;
mod forecast;
mod garbage;
mod guest;
mod namespace;
mod node;
mod properties;
mod quota;
mod rbac;
mod replica_set;
mod scheduler;
mod signing;
mod world;
