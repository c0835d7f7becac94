//! Secrets.

use k8s_openapi::{ByteString, api::core::v1::Secret};
use serde_json::Value;

use super::{Kind, config_map, field::Check, names};
use crate::model::Seal;

/// Fields that the built-in types ask for. Source:
/// kubernetes.io/docs/concepts/configuration/secret.
const OF_TYPE: [(&str, &[&str]); 4] = [
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
];
const ACCOUNT: &str = "kubernetes.io/service-account.name";

impl Kind for Secret {
    fn default_fields(&mut self) {
        if self.type_.as_deref().is_none_or(str::is_empty) {
            self.type_ = Some("Opaque".to_owned());
        }
        for (key, value) in self.string_data.take().into_iter().flatten() {
            self.data.get_or_insert_default().insert(key, ByteString(value.into_bytes()));
        }
    }

    fn validate(&self, check: &mut Check) {
        let mut bytes = 0;
        for (key, value) in self.data.iter().flatten() {
            bytes += value.0.len();
            check.text(&format!("data[{key}]"), key, names::config_key(key));
        }
        config_map::size(bytes, check);
        self.validate_type(check);
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        check.immutable("type", &live.type_, &self.type_);
        if live.immutable == Some(true) {
            config_map::stays(self.immutable == Some(true), "immutable", check);
            config_map::stays(self.data == live.data, "data", check);
        }
    }
}

/// The part of [`Kind`] that depends on the type.
trait OfType {
    fn validate_type(&self, check: &mut Check);
}

impl OfType for Secret {
    fn validate_type(&self, check: &mut Check) {
        let of_type = self.type_.as_deref().unwrap_or_default();
        let get = |key: &str| self.data.as_ref().and_then(|d| d.get(key));
        let needed = OF_TYPE.iter().find(|(t, _)| *t == of_type).map_or(&[][..], |(_, keys)| keys);
        for key in needed {
            match get(key) {
                None => check.required(format!("data[{key}]"), ""),
                // What is sealed is not looked into here; who opens it does.
                Some(value) if key.starts_with(".docker") && !Seal::covers(&value.0) => {
                    if let Err(error) = serde_json::from_slice::<Value>(&value.0) {
                        let hidden = "<secret contents redacted>";
                        check.invalid(format!("data[{key}]"), hidden, error);
                    }
                }
                Some(_) => {}
            }
        }
        if of_type == "kubernetes.io/basic-auth" {
            let either = get("username").is_some() || get("password").is_some();
            for key in ["username", "password"].into_iter().filter(|_| !either) {
                check.required(format!("data[{key}]"), "");
            }
        }
        if of_type == "kubernetes.io/service-account-token" {
            let account = self.metadata.annotations.as_ref().and_then(|a| a.get(ACCOUNT));
            if account.is_none_or(String::is_empty) {
                check.required(format!("metadata.annotations[{ACCOUNT}]"), "");
            }
        }
    }
}
