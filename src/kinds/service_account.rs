//! ServiceAccounts.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::Kind;

impl Kind for ServiceAccount {}
