//! ComponentStatuses: how the parts of a server are, found out when somebody asks.

use k8s_openapi::api::core::v1::ComponentStatus;

use super::Kind;

impl Kind for ComponentStatus {}
